"""The alarm of delays: it begins above one threshold, ends below another, and needs no memory but the flights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from asgi_app.demo.alarm import ABOVE, BELOW, WALKED, walk
from asgi_app.demo.extract import read
from asgi_app.demo.flights import ENOUGH

START = datetime(2014, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hours(*means: float, flights: int = ENOUGH) -> list[tuple[datetime, int, int]]:
    """Hours in each of which as many flights left, as late as said."""
    return [(START + index * HOUR, flights, round(mean * flights)) for index, mean in enumerate(means)]


def test_it_begins_above_one_threshold_and_ends_below_another() -> None:
    """Between the two it stays what it was."""
    between = (ABOVE + BELOW) / 2
    assert walk(hours(between, between)) == (None, between)
    storm = [ABOVE + 1] * 7
    assert walk(hours(*storm))[0] == START
    assert walk(hours(*storm, *[between] * 6)) == (START, between)
    assert walk(hours(*storm, *[BELOW - 1] * 12))[0] is None


def test_hours_without_flights_change_nothing() -> None:
    """At night nobody is late; the alarm of the evening is still there in the morning."""
    evening, night = hours(*[ABOVE + 1] * 6), 8
    quiet = [(START + (6 + index) * HOUR, 0, 0) for index in range(night)]
    assert walk([*evening, *quiet]) == (START, None)
    assert walk([]) == (None, None)
    assert walk(hours(ABOVE + 1, flights=ENOUGH - 1)) == (None, None)


def test_in_the_replay_it_begins_a_few_times_an_hour() -> None:
    """An hour is 25 days of the replay; looked at hour by hour, each time from the last three days alone."""
    found: dict[datetime, list[int]] = {}
    for flight in read():
        if flight.departs >= datetime(2013, 4, 1, tzinfo=UTC):
            break
        if flight.delay is not None:
            found.setdefault(flight.departs.replace(minute=0), []).append(flight.delay)
    first, days = datetime(2013, 1, 1, tzinfo=UTC), 90
    every = [first + index * HOUR for index in range(days * 24)]
    told = [(hour, len(found.get(hour, ())), sum(found.get(hour, ()))) for hour in every]
    standings = [walk(told[max(0, end - WALKED) : end])[0] is not None for end in range(1, len(told))]
    begins = sum(now and not before for before, now in pairwise(standings))
    assert 1 <= begins * 25 / days <= 10
