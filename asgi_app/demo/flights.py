"""The questions the demo asks of the flights: plain ORM aggregation over one period of one table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from django.db.models import Avg, Count, Q, QuerySet

from .models import Flight, ReplayClock

Row: TypeAlias = dict[str, Any]

#: A departure is late when it leaves more than so many minutes after its schedule, as the airlines' own statistics say.
LATE = 15
#: A mean of fewer flights says nothing.
ENOUGH = 10


@dataclass(frozen=True, slots=True)
class Period:
    """From `start`, up to but without `end`."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, month: int) -> Period:
        """That month of 2013; for 0, the replay's today and the 30 days before it, up to the replay's clock."""
        if month == 0:
            now = ReplayClock.current().now
            return cls(_midnight(now) - timedelta(days=30), now)
        start = datetime(2013, month, 1, tzinfo=UTC)
        return cls(start, (start + timedelta(days=31)).replace(day=1))

    def flights(self, *, carrier: str = "all", origin: str = "all") -> QuerySet[Flight]:
        """What was scheduled to depart in this period."""
        flights = Flight.objects.filter(departs__gte=self.start, departs__lt=self.end)
        if carrier != "all":
            flights = flights.filter(carrier=carrier)
        if origin != "all":
            flights = flights.filter(origin=origin)
        return flights

    def bounds(self) -> Row:
        """The period as the resources tell it."""
        return {"from": iso(self.start), "to": iso(self.end)}


def iso(moment: datetime) -> str:
    """A time on New York's wall clock, to the second, without a zone: see `models`."""
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


@cache
def airlines() -> dict[str, str]:
    """Code -> name of all sixteen."""
    with (Path(__file__).parent / "data" / "airlines.csv").open(newline="", encoding="utf-8") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}


def delays(flights: QuerySet[Flight], *by: str) -> list[Row]:
    """Number, mean delay in minutes and share of late departures of the flights that left, per group, sorted by it."""
    groups = (
        flights.filter(delay__isnull=False)
        .values(*by)
        .annotate(flights=Count("delay"), mean=Avg("delay"), late=Count("delay", filter=Q(delay__gt=LATE)))
        .order_by(*by)
    )
    return [
        {name: group[name] for name in by}
        | {
            "flights": group["flights"],
            "mean": round(group["mean"], 1),
            "p_late": round(group["late"] / group["flights"], 3),
        }
        for group in groups
    ]


def cancellations(flights: QuerySet[Flight]) -> list[Row]:
    """Number of scheduled and of cancelled flights per day."""
    days = (
        flights.values("day")
        .annotate(flights=Count("departs"), cancelled=Count("departs", filter=Q(delay__isnull=True)))
        .order_by("day")
    )
    return [day | {"day": day["day"].isoformat()} for day in days]


def delays_of_each_carrier(flights: QuerySet[Flight]) -> dict[str, list[int]]:
    """Carrier -> the delay in minutes of every flight that left, in the order of departure, if these are enough."""
    found: dict[str, list[int]] = {}
    in_order = flights.order_by("departs", "origin", "number")
    for carrier, delay in in_order.values_list("carrier", "delay"):
        if delay is not None:
            found.setdefault(carrier, []).append(delay)
    return {carrier: delays for carrier, delays in sorted(found.items()) if len(delays) >= ENOUGH}


def latest(now: datetime, count: int) -> list[Row]:
    """The last departures before `now`, newest first."""
    departed = Flight.objects.filter(departs__lt=now)
    # The order of the unique index: the last few are its end, and nothing is sorted.
    newest_first = departed.order_by("-departs", "-origin", "-carrier", "-number")
    return [
        {
            "time": iso(flight.departs),
            "carrier": flight.carrier,
            "flight": flight.number,
            "origin": flight.origin,
            "dest": flight.dest,
            "delay": flight.delay,
            "cancelled": flight.delay is None,
        }
        for flight in newest_first[:count]
    ]


def per_hour(now: datetime, hours: int) -> list[Row]:
    """Number of scheduled flights and mean delay in minutes, null when none left, of the last hours up to `now`'s."""
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
    groups = Period(first, now).flights().values("day", "hour").annotate(flights=Count("departs"), delay=Avg("delay"))
    found = {(group["day"], group["hour"]): group for group in groups}
    rows = []
    for hour in (first + timedelta(hours=index) for index in range(hours)):
        group = found.get((hour.date(), hour.hour), {"flights": 0, "delay": None})
        delay = group["delay"]
        rows.append({"hour": iso(hour), "flights": group["flights"], "delay": delay and round(delay, 1)})
    return rows


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
