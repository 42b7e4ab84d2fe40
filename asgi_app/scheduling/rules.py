"""When a schedule fires: the next time after a moment, and what was missed.  Pure; moments are unix seconds.

Invariant: the next firing is strictly later than the moment asked about, and every scheduler finds the same one.

Crontab lines are Celery's arithmetic, on the time that a clock on the wall shows; what becomes of it when the clock is
changed is said here.  Celery's own answer (5.7) is not usable there: in the hour that comes twice it names firings that
are past, or is silent for an hour of `*/5 * * * *`, and a time that does not exist can hide one that does.

- A line that names hours fires at most once for each time on the wall: at the first of two, and for all the times that
  a change skips once, at the change.
- A line for every hour goes by the time that passes: it fires in both of two like hours, and makes up for nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from celery import Celery
from celery.schedules import crontab

#: The first firing after a moment.
Rule = Callable[[float], float]

# An app of our own, whose time is UTC: Celery's current one may be the user's.
_APP = Celery("millpond schedules", set_as_current=False, fixups=[])
_APP.conf.update(timezone="UTC", enable_utc=True)


def every(seconds: float) -> Rule:
    """Fires at the multiples of `seconds` since the epoch, the same for every scheduler."""

    def after(moment: float) -> float:
        number = moment // seconds  # may be one off: 7 * 0.7 // 0.7 is 6
        return next(due for due in (number * seconds, (number + 1) * seconds, (number + 2) * seconds) if due > moment)

    return after


def cron(line: str, timezone: str = "UTC") -> Rule:
    """Fires at the times of a five-field crontab line, read in a zone of the IANA."""
    minute, hour, day_of_month, month_of_year, day_of_week = line.split()
    fields, zone = crontab(minute, hour, day_of_week, day_of_month, month_of_year, app=_APP), ZoneInfo(timezone)
    if len(fields.hour) == 24:  # type: ignore[attr-defined]
        return lambda moment: _by_elapsed_time(fields, zone, moment)
    return lambda moment: _by_the_wall(fields, zone, moment)


def missed(rule: Rule, after: float, until: float, most: int) -> list[float]:
    """The newest `most` firings after one moment and not after another, the oldest first.

    Sought backwards in growing steps: a clock may jump by years.
    """
    back = 1.0
    while True:
        since = max(after, until - back)
        found = deque(_between(rule, since, until), maxlen=most)
        if len(found) == most or since == after:
            return list(found)
        back *= 2.0


def _between(rule: Rule, after: float, until: float) -> Iterator[float]:
    while after < until and (after := rule(after)) <= until:
        yield after


def _by_the_wall(fields: crontab, zone: tzinfo, moment: float) -> float:
    wall = _wall(_local(moment, zone))
    while True:
        # In the second of two like hours this goes over all that the first has seen.
        wall = _next(fields, wall)
        local = wall.replace(tzinfo=zone)
        due = local.timestamp() if _exists(local) else _change(local)
        if due > moment:
            return due


def _by_elapsed_time(fields: crontab, zone: tzinfo, moment: float) -> float:
    now = _local(moment, zone)
    due = _existing(fields, zone, _wall(now), now.fold, moment)
    later = now.replace(fold=1)
    if now.fold == 0 and (set_back := _offset(now) - _offset(later)) > 0:
        # The clock will show this time again: the next firing may be one of those before it, seen for the second time.
        again = datetime.fromtimestamp(_wall(now).timestamp() - set_back, UTC)
        due = min(due, _existing(fields, zone, again, 1, moment))
    return due


def _existing(fields: crontab, zone: tzinfo, wall: datetime, fold: int, moment: float) -> float:
    while True:
        wall = _next(fields, wall)
        local = wall.replace(tzinfo=zone, fold=fold)
        if _exists(local) and (due := local.timestamp()) > moment:
            return due


def _next(fields: crontab, wall: datetime) -> datetime:
    start, delta, _ = fields.remaining_delta(wall)
    return start + delta  # type: ignore[no-any-return]


def _local(moment: float, zone: tzinfo) -> datetime:
    # Whole seconds: `fromtimestamp` would round a moment just before a firing up to it, and skip it.
    return datetime.fromtimestamp(math.floor(moment), zone)


def _wall(local: datetime) -> datetime:
    """What the clock shows, written as if it were UTC: so Celery's arithmetic meets no change."""
    return local.replace(tzinfo=UTC, fold=0)


def _exists(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=UTC, fold=0) == _wall(local)


def _change(skipped: datetime) -> float:
    """When the clock was set forward over a time that does not exist."""
    # Read with the offset of after the change it lies before it, and the other way round (PEP 495).
    before, after = math.floor(skipped.replace(fold=1).timestamp()), math.ceil(skipped.replace(fold=0).timestamp())
    old = _offset(_local(before, skipped.tzinfo))  # type: ignore[arg-type]
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(_local(middle, skipped.tzinfo)) == old:  # type: ignore[arg-type]
            before = middle
        else:
            after = middle
    return float(after)


def _offset(local: datetime) -> float:
    offset = local.utcoffset()
    assert offset is not None
    return offset.total_seconds()
