"""The resources of the demo: a function, its parameters, and how fresh its value has to be.  Copy this file.

The flights are those that left New York City in 2013, and a replay of them: `demo.replay` lets them depart again, every
few seconds a few more.  All times but `host.metrics`' are New York's wall clock in the replay; delays are in minutes.
"""

from collections.abc import Iterable
from smtplib import SMTPException
from typing import Annotated, Any, Literal, TypeAlias

from django.contrib.auth import get_user_model
from django.utils import timezone
from msgspec import Meta

from asgi_app import Progress, action, invalidate_on, log, publish, refresh, resource

from . import alarm, flights, replay, tower
from .bootstrap import intervals_of_means
from .flights import Period, airlines
from .host import Host
from .models import DEFAULT_SPEED, REPLAY_START, Flight, ReplayClock

Carrier: TypeAlias = Annotated[str, Meta(pattern="^(all|[A-Z0-9]{2})$", max_length=3, description="all, or its code")]
Origin: TypeAlias = Literal["all", "EWR", "JFK", "LGA"]
Month: TypeAlias = Annotated[int, Meta(ge=0, le=12, description="of 2013; 0: the last 30 days of the replay")]
Samples: TypeAlias = Annotated[int, Meta(ge=50, le=2000, description="resamples per carrier")]
Speed: TypeAlias = Annotated[int, Meta(ge=0, le=36_000, description="simulated seconds per second; 0 pauses")]
Table: TypeAlias = dict[str, Any]

host = Host()

# Every tick of the replay and every change of its speed saves the clock.  (Bulk inserts send no signal of their own.)
invalidate_on(ReplayClock, tags=("flights",))


def of_the_replay(params: Any) -> tuple[str, ...]:
    """Only the last 30 days move on with the replay; a month of 2013 is as it was."""
    return ("flights",) if params.month == 0 else ()


@resource("flights.clock", tags=("flights",), refresh="watched")
def clock() -> Table:
    """What time it is in the replay, and how much of it there is."""
    current = ReplayClock.current()
    return {
        "now": flights.iso(current.now),
        "started": flights.iso(REPLAY_START),
        "speed": current.speed,
        "flights": Flight.objects.count(),
        "replayed": Flight.objects.filter(departs__gte=REPLAY_START).count(),
        "paused": current.speed == 0,
    }


@resource("flights.board", tags=("flights",), refresh="watched")
def board() -> Table:
    """The latest departures of the replay, and its last 24 hours."""
    now = ReplayClock.current().now
    return {"now": flights.iso(now), "rows": flights.latest(now, 12), "per_hour": flights.per_hour(now, 24)}


@resource("flights.delays_by_carrier", tags=of_the_replay, refresh="watched")
def delays_by_carrier(origin: Origin = "all", month: Month = 0) -> Table:
    """Mean delay and share of late departures of each carrier."""
    period = Period.of(month)
    rows = flights.delays(period.flights(origin=origin), "carrier")
    return {"rows": [{"name": airlines()[row["carrier"]], **row} for row in rows], **period.bounds()}


@resource("flights.delays_by_hour", tags=of_the_replay, refresh="watched")
def delays_by_hour(carrier: Carrier = "all", origin: Origin = "all", month: Month = 0) -> Table:
    """How delays grow over the day: mean and share of late departures of each hour in which flights leave."""
    period = Period.of(month)
    return {"rows": flights.delays(period.flights(carrier=carrier, origin=origin), "hour"), **period.bounds()}


@resource("flights.delays_by_route", tags=of_the_replay, refresh="watched")
def delays_by_route(carrier: Carrier = "all", origin: Origin = "all", month: Month = 0) -> Table:
    """The twenty routes with the longest mean delay, worst first."""
    period = Period.of(month)
    routes = flights.delays(period.flights(carrier=carrier, origin=origin), "origin", "dest")
    worst = sorted((route for route in routes if route["flights"] >= flights.ENOUGH), key=lambda route: -route["mean"])
    return {"rows": worst[:20], **period.bounds()}


@resource("flights.cancellations", tags=of_the_replay, refresh="watched")
def cancellations(carrier: Carrier = "all", origin: Origin = "all", month: Month = 0) -> Table:
    """Scheduled and cancelled flights of each day."""
    period = Period.of(month)
    return {"rows": flights.cancellations(period.flights(carrier=carrier, origin=origin)), **period.bounds()}


@resource("flights.delay_confidence", fresh=60, time_limit=300)
def delay_confidence(origin: Origin = "all", month: Month = 0, samples: Samples = 200, *, progress: Progress) -> Table:
    """How sure each carrier's mean delay is: its 95 % interval by the bootstrap.  Slow, and says how far it is."""
    period = Period.of(month)
    delays = flights.delays_of_each_carrier(period.flights(origin=origin))
    found = intervals_of_means(delays, samples, lambda done, total, carrier: progress(done, total, airlines()[carrier]))
    rows = [
        {"carrier": carrier, "name": airlines()[carrier], "flights": len(delays[carrier]), **interval.rounded()}
        for carrier, interval in found.items()
    ]
    return {"rows": rows, **period.bounds(), "samples": samples}


def out_of_hand(value: Table) -> str | None:
    """What an alert says; it is told when this begins to say something, once."""
    return f"Departures are {value['mean']:.0f} minutes late on average" if value["alarm"] else None


def everybody(params: Any) -> Iterable[Any]:
    """All users hear of it: this is a demo."""
    return get_user_model().objects.filter(is_active=True)


@resource("flights.alarm", alert_when=out_of_hand, alert_to=everybody)
def delay_alarm() -> Table:
    """Whether delays are out of hand: it begins above 40 minutes in the mean of six hours, and ends below 20."""
    return alarm.standing(ReplayClock.current().now)


@resource("host.metrics", offload=False, fresh=2, refresh="watched")
async def metrics() -> Table:
    """Load, memory and network of this machine, and what each of Millpond's processes takes.

    `cpu` is percent of one core, for each core and each process; `rss` and `memory` are bytes; `time` is real, in UTC.
    """
    return await host.metrics()


@action("demo.replay", schedule=2, retries=0, time_limit=30)
def let_depart() -> Table:
    """Let the flights of 2013 depart again whose time has come in the replay."""
    return replay.tick(timezone.now())._asdict()


@action("demo.speed", retries=0)
def set_speed(speed: Speed = DEFAULT_SPEED) -> None:
    """Let the replay run faster or slower than its 600 simulated seconds per second."""
    replay.set_speed(speed, timezone.now())


@action("demo.alarm", schedule=10, retries=0, time_limit=30)
def look() -> None:
    """Compute the alarm every ten seconds, watched or not: an alert is for those who do not look."""
    refresh("flights.alarm")


# The chat: everybody may read it and see how many are there; who is signed in may write.
log("demo.chat", access="public", publish="login", history=100, ttl=86_400, presence=True)


@action("demo.tower", schedule=45, retries=0, time_limit=30)
def speak() -> None:
    """Say in the chat how the last hours of the replay were."""
    if text := tower.line():
        publish("demo.chat", {"text": text})


@action(
    "demo.mail",
    schedule="*/15 * * * *",
    catch_up="skip",
    queue="mail",
    access="demo.change_replayclock",
    retries=3,
    retry_on=(SMTPException, OSError),
)
def send_report() -> Table:
    """Mail the delays of the last 30 days to the staff: each quarter of an hour, and whenever who may asks."""
    message = tower.report()
    return {"mailed": message.send() * len(message.bcc) if message else 0}
