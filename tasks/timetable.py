"""What is due: every plan with how far it has got.  Pure: the clock is an argument.

Invariant: a due time is taken up once while the clock goes on, and what is settled lies before all that still waits to
be fired.  Where a clock is set back, times are taken up again under the ids they had, which make them the same jobs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from asgi_app.scheduling.plans import Plan, Settled
from asgi_app.scheduling.rules import missed

#: Seconds within which a firing is not late: a busy machine, a store that was away for a moment.
ON_TIME = 5.0
#: Firings of one plan that `catch_up="all"` makes up for.
ALL = 100


@dataclass(slots=True)
class Entry:
    """A plan under way."""

    plan: Plan
    #: Unix seconds: every time due until then was taken up, that is, fired, put among the waiting, or forgotten.
    position: float
    #: Due times to be fired, the oldest first.
    waiting: deque[float] = field(default_factory=deque)
    _due: float | None = None

    @property
    def due(self) -> float:
        """The first time that was not taken up."""
        if self._due is None:
            self._due = self.plan.rule(self.position)
        return self._due

    @property
    def settled_ms(self) -> int:
        """Unix milliseconds: every time due until then was fired or forgotten."""
        until = self.waiting[0] - 0.001 if self.waiting else self.position
        return math.ceil(until * 1000 - 1e-3)  # whole milliseconds stay what they are, in spite of their fractions

    def take_up(self, now: float) -> None:
        """Put what is due among the waiting, as far as the plan makes up for it."""
        if now < self.position:  # the clock was set back
            self._move(now)
            self.waiting = deque(due for due in self.waiting if due <= now)
        if self.due > now:
            return
        most = ALL if self.plan.catch_up == "all" else 1
        found = missed(self.plan.rule, max(self.position, now - self._patience), now, most)
        if found and self.plan.catch_up != "all":
            self.waiting.clear()  # of several the newest
        self.waiting.extend(found)
        while len(self.waiting) > most:
            self.waiting.popleft()
        self._move(found[-1] if found else now)

    def first(self, now: float) -> float | None:
        """What is to be fired first, once what waited for too long is forgotten."""
        while self.waiting and now - self.waiting[0] > self._patience:
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None

    def fired(self, due: float) -> None:
        """`due` needs nothing more."""
        if self.waiting and self.waiting[0] == due:
            self.waiting.popleft()

    @property
    def _patience(self) -> float:
        return ON_TIME if self.plan.catch_up == "skip" else max(self.plan.lateness, ON_TIME)

    def _move(self, position: float) -> None:
        self.position, self._due = position, None


class Timetable:
    """All entries, by the keys of their plans."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def change(self, plans: Iterable[Plan], settled: Mapping[str, Settled], now: float) -> None:
        """From now on these plans and no others.  Those that stay as they are go on as they were; what a new one has

        missed counts from where the schedulers had got to with it.
        """
        wanted = {plan.key: plan for plan in plans}
        for key in self.entries.keys() - wanted.keys():
            self.entries.pop(key).waiting.clear()
        for key, plan in wanted.items():
            entry = self.entries.get(key)
            if entry is not None and entry.plan == plan:
                continue
            start = _start(plan, settled.get(key), now)
            if entry is not None:
                entry.waiting.clear()  # it is no longer wanted so
                start = max(start, min(entry.position, now))
            self.entries[key] = Entry(plan, start)

    def next_due(self) -> float:
        """When something is due next, unix seconds; infinite for nothing."""
        return min((entry.due for entry in self.entries.values()), default=math.inf)

    def reached(self) -> dict[str, tuple[str, int]]:
        """How far everything has got, as `book.settle` writes it."""
        return {key: (entry.plan.times, entry.settled_ms) for key, entry in self.entries.items()}


def _start(plan: Plan, settled: Settled | None, now: float) -> float:
    """From which moment on times of the plan count as missed."""
    if plan.catch_up == "skip":
        return now
    known = settled.until if settled is not None and settled.times == plan.times else None
    if plan.since is None:
        start = now if known is None else known
    else:
        start = plan.since if known is None else max(known, plan.since)
    return min(start, now)  # what a clock that went wrong has written does not keep anything from being fired
