"""The archive of 2013: all of it is loaded, once, and what the resources say of it is what anybody can count in it."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import Model
from pytest_django.plugin import DjangoDbBlocker

from asgi_app.demo.extract import Departure, read
from asgi_app.demo.load import TOTAL, load
from asgi_app.demo.models import REPLAY_START, Flight, ReplayClock
from asgi_app.registry import registry

pytestmark = pytest.mark.django_db

FILTERS = [("all", "all", 2), ("all", "JFK", 7), ("UA", "all", 12), ("EV", "EWR", 3), ("HA", "LGA", 1)]


def value(name: str, **parameters: object) -> Any:
    """What the function of a resource returns."""
    resource = registry.resource(name)
    return resource.function(**resource.dump(resource.parse(parameters, text=False)))


@pytest.fixture(scope="module")
def archive() -> list[Departure]:
    return list(read())


@pytest.fixture(scope="module", autouse=True)
def output(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The archive is loaded for all tests of this module, which costs seconds; they change nothing that stays."""
    out = io.StringIO()
    with django_db_blocker.unblock():
        call_command("loaddemo", stdout=out)
    yield out.getvalue()
    everything: list[type[Model]] = [Flight, ReplayClock]
    with django_db_blocker.unblock():
        for model in everything:
            model._default_manager.all()._raw_delete("default")


def in_month(archive: list[Departure], carrier: str, origin: str, month: int) -> Iterator[Departure]:
    for flight in archive:
        if flight.departs.month == month and carrier in ("all", flight.carrier) and origin in ("all", flight.origin):
            yield flight


def summary(delays: list[int]) -> dict[str, Any]:
    late = sum(delay > 15 for delay in delays)
    mean, p_late = round(fmean(delays), 1), round(late / len(delays), 3)
    return {"flights": len(delays), "mean": pytest.approx(mean, abs=0.11), "p_late": pytest.approx(p_late, abs=0.0011)}


def grouped(flights: Iterator[Departure], *by: str) -> dict[tuple[Any, ...], list[int]]:
    groups = defaultdict(list)
    for flight in flights:
        if flight.delay is not None:
            groups[tuple(getattr(flight, name) for name in by)].append(flight.delay)
    return groups


def test_the_extract_is_the_published_year(archive: list[Departure]) -> None:
    """336,776 flights, 8,255 cancelled, 16 carriers, 3 airports, 105 destinations, every day of 2013, in order."""
    assert len(archive) == TOTAL == 336_776
    assert sum(flight.delay is None for flight in archive) == 8_255
    assert len({flight.carrier for flight in archive}) == 16
    assert {flight.origin for flight in archive} == {"EWR", "JFK", "LGA"}
    assert len({flight.dest for flight in archive}) == 105
    assert len({flight.departs.date() for flight in archive}) == 365
    assert archive == sorted(archive, key=lambda flight: flight.departs)
    assert {flight.departs.year for flight in archive} == {2013}
    assert archive[0] == Departure(datetime(2013, 1, 1, 5, 15, tzinfo=UTC), "UA", 1545, "EWR", "IAH", 2)


def test_every_flight_is_loaded_as_it_was(archive: list[Departure]) -> None:
    """Row by row, with the day and hour of its departure, none of them replayed."""
    columns = ("departs", "carrier", "number", "origin", "dest", "delay", "day", "hour", "replayed")
    rows = Flight.objects.order_by("pk").values_list(*columns).iterator()
    assert all(
        row == (*flight, flight.departs.date(), flight.departs.hour, False)
        for row, flight in zip(rows, archive, strict=True)
    )


def test_the_migrations_make_the_tables_of_the_models() -> None:
    """Nothing is left to migrate."""
    call_command("makemigrations", "demo", check=True, dry_run=True, verbosity=0)


def test_a_second_load_finds_everything_there() -> None:
    """It writes nothing and says so."""
    assert load(lambda done, total: pytest.fail("nothing is to be done")) == 0
    assert Flight.objects.count() == TOTAL
    out = io.StringIO()
    call_command("loaddemo", stdout=out)
    assert out.getvalue() == "demo: the flights are already loaded\n"


def test_in_a_log_the_load_is_a_line_for_every_tenth(output: str) -> None:
    """Without a terminal there is nothing but whole lines, and the last says how many."""
    *lines, last = output.splitlines()
    assert len(lines) == 10
    assert all(line.startswith("demo: loading flights ") for line in lines)
    assert lines[-1].endswith(f" {TOTAL}/{TOTAL} (100%)")
    assert last.startswith(f"demo: {TOTAL} flights loaded in ")


@pytest.mark.parametrize(("carrier", "origin", "month"), FILTERS)
def test_the_hours_are_those_of_the_extract(archive: list[Departure], carrier: str, origin: str, month: int) -> None:
    """Flights, mean delay and share of late ones per hour, computed without the database."""
    expected: dict[int, list[int]] = defaultdict(list)
    for flight in in_month(archive, carrier, origin, month):
        if flight.delay is not None:
            expected[flight.departs.hour].append(flight.delay)
    found = value("flights.delays_by_hour", carrier=carrier, origin=origin, month=month)
    assert found["rows"] == [{"hour": hour, **summary(expected[hour])} for hour in sorted(expected)]


@pytest.mark.parametrize(("origin", "month"), [("all", 1), ("LGA", 6), ("JFK", 12)])
def test_the_carriers_are_those_of_the_extract(archive: list[Departure], origin: str, month: int) -> None:
    """The same per carrier, from the first to the last minute of the month."""
    expected = grouped(in_month(archive, "all", origin, month), "carrier")
    found = value("flights.delays_by_carrier", origin=origin, month=month)
    rows = [{name: row[name] for name in ("carrier", "flights", "mean", "p_late")} for row in found["rows"]]
    assert rows == [{"carrier": carrier, **summary(delays)} for (carrier,), delays in sorted(expected.items())]
    assert found["from"] == f"2013-{month:02}-01T00:00:00"
    assert found["to"] == ("2014-01-01T00:00:00" if month == 12 else f"2013-{month + 1:02}-01T00:00:00")


@pytest.mark.parametrize(("carrier", "origin", "month"), FILTERS)
def test_the_routes_are_the_worst_of_the_extract(
    archive: list[Departure], carrier: str, origin: str, month: int
) -> None:
    """At most twenty with at least ten flights, worst first, and no better one among them than any left out."""
    expected = grouped(in_month(archive, carrier, origin, month), "origin", "dest")
    enough = {route: delays for route, delays in expected.items() if len(delays) >= 10}
    rows = value("flights.delays_by_route", carrier=carrier, origin=origin, month=month)["rows"]
    assert len(rows) == min(20, len(enough))
    for row in rows:
        route = row["origin"], row["dest"]
        assert row == {"origin": route[0], "dest": route[1], **summary(enough.pop(route))}
    means = [row["mean"] for row in rows]
    assert means == sorted(means, reverse=True)
    assert all(fmean(delays) <= means[-1] + 0.11 for delays in enough.values())


@pytest.mark.parametrize(("carrier", "origin", "month"), FILTERS)
def test_the_cancellations_are_those_of_the_extract(
    archive: list[Departure], carrier: str, origin: str, month: int
) -> None:
    """Scheduled and cancelled flights per day."""
    flights = list(in_month(archive, carrier, origin, month))
    scheduled = Counter(flight.departs.date() for flight in flights)
    cancelled = Counter(flight.departs.date() for flight in flights if flight.delay is None)
    rows = value("flights.cancellations", carrier=carrier, origin=origin, month=month)["rows"]
    assert rows == [
        {"day": day.isoformat(), "flights": scheduled[day], "cancelled": cancelled[day]} for day in sorted(scheduled)
    ]


def test_all_cancellations_of_the_year_are_found() -> None:
    """8,255 in twelve months."""
    months = [value("flights.cancellations", month=month)["rows"] for month in range(1, 13)]
    assert sum(row["cancelled"] for rows in months for row in rows) == 8_255


def test_the_confidence_is_about_the_mean_of_the_extract(archive: list[Departure]) -> None:
    """The intervals hold the very means of the carriers with at least ten flights, and progress ends at the total."""
    told: list[tuple[float, float | None, str]] = []
    resource = registry.resource("flights.delay_confidence")
    found = resource.function(
        origin="LGA", month=9, samples=50, progress=lambda done, total=None, note="": told.append((done, total, note))
    )
    expected = grouped(in_month(archive, "all", "LGA", 9), "carrier")
    assert [row["carrier"] for row in found["rows"]] == sorted(
        carrier for (carrier,), delays in expected.items() if len(delays) >= 10
    )
    for row in found["rows"]:
        delays = expected[row["carrier"],]
        assert (row["flights"], row["mean"]) == (len(delays), pytest.approx(fmean(delays), abs=0.006))
        assert row["low"] < row["mean"] < row["high"]
    assert found["samples"] == 50
    assert told[-1][0] == told[-1][1]
    assert {note for _, _, note in told} == {row["name"] for row in found["rows"]}


def test_before_the_replay_begins_the_last_30_days_are_december() -> None:
    """The clock stands at the start of 2014; its last 30 days are the archive's last."""
    found = value("flights.delays_by_carrier", origin="EWR")
    assert (found["from"], found["to"]) == ("2013-12-02T00:00:00", "2014-01-01T00:00:00")
    assert {row["time"][:10] for row in value("flights.board")["rows"]} == {"2013-12-31"}
    assert value("flights.clock") == {
        "now": "2014-01-01T00:00:00",
        "started": REPLAY_START.replace(tzinfo=None).isoformat(),
        "speed": 600,
        "flights": TOTAL,
        "replayed": 0,
        "paused": False,
    }
