"""The replay: after 2013 the year runs on, its flights departing again 364 days later, and again after that.

Invariant: every flight between the start of the replay and `ReplayClock.now` has departed exactly once.  A tick moves
the clock and writes the flights it passed in one transaction that holds the clock's row, so the spans of two ticks
neither overlap nor leave a gap.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction

from .models import REPLAY_START, Flight, ReplayClock

#: 52 weeks: the weekday stays.  2 January 2013 departs again on 1 January 2014; 1 January 2013 is not replayed.
CYCLE = timedelta(days=364)
#: The most that one tick replays, whatever pause came before it: about a thousand flights.
LONGEST_STEP = timedelta(days=1)
#: Replayed flights older than this are deleted, so that the table does not grow for ever.
KEPT = timedelta(days=60)


class NotLoaded(Exception):
    """There is no archive to replay yet."""


class Tick(NamedTuple):
    """What a tick did, in numbers of flights."""

    written: int
    pruned: int


class Span(NamedTuple):
    """Part of the archive, `end` excluded, and what is added to its times when it departs again."""

    start: datetime
    end: datetime
    shift: timedelta


def advance(now: datetime, speed: int, elapsed: timedelta) -> datetime:
    """The simulated time after so much real time, which may be negative: real clocks are set back, this one never."""
    return now + min(speed * max(elapsed, timedelta()), LONGEST_STEP)


def spans(start: datetime, end: datetime) -> Iterator[Span]:
    """Where in the archive the flights of [start, end) of the replay come from, in order."""
    while start < end:
        shift = ((start - REPLAY_START) // CYCLE + 1) * CYCLE
        stop = min(end, REPLAY_START + shift)
        yield Span(start - shift, stop - shift, shift)
        start = stop


def tick(real_now: datetime) -> Tick:
    """Let the flights depart whose time has come since the last tick; none while paused, none without an archive.

    Safe to call twice at once: the second finds the clock already moved.
    """
    with transaction.atomic():
        clock = _locked_clock()
        if clock is None or clock.speed == 0:
            return Tick(0, 0)
        done = _go_on(clock, real_now)
        clock.save()
        return done


def set_speed(speed: int, real_now: datetime) -> None:
    """Go on at so many simulated seconds per second; 0 pauses.  Time passed until now counts at the old speed.

    Raises NotLoaded.
    """
    with transaction.atomic():
        clock = _locked_clock()
        if clock is None:
            raise NotLoaded("the flights are not loaded: run `millpond loaddemo`")
        _go_on(clock, real_now)
        clock.speed = speed
        clock.save()


def _locked_clock() -> ReplayClock | None:
    # SQLite has no row locks and needs none: the project begins its transactions IMMEDIATE, one writer at a time.
    return ReplayClock.objects.select_for_update().first()


def _go_on(clock: ReplayClock, real_now: datetime) -> Tick:
    """Move the clock, write the flights it passes, prune; saving the clock, once, is left to the caller."""
    start, clock.now = clock.now, advance(clock.now, clock.speed, real_now - clock.ticked_at)
    clock.ticked_at = real_now
    departing = [flight for span in spans(start, clock.now) for flight in _departing_again(span)]
    Flight.objects.bulk_create(departing)
    pruned, _ = Flight.objects.filter(departs__gte=REPLAY_START, departs__lt=clock.now - KEPT).delete()
    return Tick(len(departing), pruned)


def _departing_again(span: Span) -> Iterator[Flight]:
    for flight in Flight.objects.filter(departs__gte=span.start, departs__lt=span.end).order_by("departs"):
        flight.pk = None
        flight.departs += span.shift
        flight.day += span.shift
        flight.replayed = True
        yield flight
