"""Whether delays are out of hand: above one threshold it begins, and it ends only well below, so that it does not
flicker.

Invariant: the answer follows from the flights and the clock alone.  Nothing is remembered from one look to the next,
so it is the same whoever looks, however often, and after any death.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Count, Sum

from .flights import ENOUGH, Period, Row, iso

#: Minutes of mean delay above which it begins, and below which it ends.
ABOVE, BELOW = 40.0, 20.0
#: Hours over which is averaged, and those that are walked through to know how things stand.
WINDOW, WALKED = 6, 72


def standing(now: datetime) -> Row:
    """How things stand at `now`, and since when delays have been out of hand, if they are."""
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=WALKED - 1)
    groups = Period(first, now).flights().values("day", "hour").annotate(left=Count("delay"), sum=Sum("delay"))
    found = {(group["day"], group["hour"]): (group["left"], group["sum"] or 0) for group in groups}
    hours = [first + timedelta(hours=index) for index in range(WALKED)]
    since, mean = walk((hour, *found.get((hour.date(), hour.hour), (0, 0))) for hour in hours)
    return {
        "now": iso(now),
        "alarm": since is not None,
        "since": since and iso(since),
        "mean": None if mean is None else round(mean, 1),
        "hours": WINDOW,
        "above": ABOVE,
        "below": BELOW,
    }


def walk(hours: Iterable[tuple[datetime, int, int]]) -> tuple[datetime | None, float | None]:
    """Since when delays are out of hand, and their latest mean, from (hour, flights that left, sum of their delays).

    Too few flights, as at night, change nothing.
    """
    since: datetime | None = None
    mean: float | None = None
    window: list[tuple[int, int]] = []
    for hour, left, delay in hours:
        window = [*window[1 - WINDOW :], (left, delay)]
        flights = sum(left for left, _ in window)
        mean = sum(delay for _, delay in window) / flights if flights >= ENOUGH else None
        if mean is not None and mean > ABOVE:
            since = since or hour
        elif mean is not None and mean < BELOW:
            since = None
    return since, mean
