"""What the database knows of schedules: the entries of the admin, and how far every plan has got.

Invariant: what is settled only grows, whoever writes it and however often; a second writer changes nothing.
All functions raise Django's database errors.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.db.models import Q

from asgi_app.models import ScheduleEntry, ScheduleState
from asgi_app.scheduling.plans import Plan, Settled, Unplannable, plan_of

#: Entries that are looked at; a limit is better than a process that grows.
MOST = 10_000
#: Milliseconds: what is settled for a day to come was written by a clock that went wrong, and does not count.
_WRONG = 86_400_000
#: Keys in one statement.
_BATCH = 500


def plans() -> tuple[list[Plan], dict[str, str]]:
    """The plans of all entries that are switched on, and why others of them cannot be fired, by their name."""
    made: list[Plan] = []
    wrong: dict[str, str] = {}
    for entry in ScheduleEntry.objects.filter(enabled=True).order_by("pk")[:MOST]:
        try:
            made.append(plan_of(entry))
        except Unplannable as error:
            wrong[entry.name] = str(error)
    return made, wrong


def settled() -> dict[str, Settled]:
    """How far every plan has got, by its key."""
    rows = ScheduleState.objects.values_list("key", "times", "settled_ms")
    return {key: Settled(times=times, until=ms / 1000) for key, times, ms in rows}


def settle(reached: Mapping[str, tuple[str, int]]) -> None:
    """Write down how far plans have got: key -> (times, unix milliseconds)."""
    with transaction.atomic():
        for key in sorted(reached):  # one order for all: two schedulers that write at once do not wait for each other
            times, ms = reached[key]
            behind = Q(settled_ms__lt=ms) | Q(settled_ms__gt=ms + _WRONG) | ~Q(times=times)
            if not ScheduleState.objects.filter(behind, key=key).update(times=times, settled_ms=ms):
                fresh = ScheduleState(key=key, times=times, settled_ms=ms)
                ScheduleState.objects.bulk_create([fresh], ignore_conflicts=True)


def forget_gone() -> None:
    """Drop what is kept of entries that were deleted."""
    kept = ScheduleState.objects.filter(key__startswith="entry:").values_list("key", flat=True)
    there = {f"entry:{pk}" for pk in ScheduleEntry.objects.values_list("pk", flat=True)}
    gone = [key for key in kept if key not in there]
    for start in range(0, len(gone), _BATCH):
        ScheduleState.objects.filter(key__in=gone[start : start + _BATCH]).delete()
