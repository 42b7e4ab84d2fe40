"""What the service has promised so far, and what it did that breaks a promise.

Every content is a number that only grows, so old and new can be told apart wherever a value is seen.

Invariant: `wrong` only grows; a run is good when it is empty at the end.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise


class Books:
    """One run's record, written by the load and by the faults, of several sources by name."""

    def __init__(self, names: Iterable[str]) -> None:
        #: What the source of each name contains: the last number written.
        self.written = dict.fromkeys(names, 1)
        #: The newest number whose invalidation has returned: nobody who asks from now on may get an older one.
        self.floor = dict(self.written)
        #: Jobs that were answered 202 and not yet seen at their end; the store they were kept in.
        self.open_jobs: dict[str, int] = {}
        #: How many stores there were: a job of an earlier one may be gone.
        self.stores = 1
        #: What happened, by kind, for people to judge whether the run was worth something.
        self.counts: Counter[str] = Counter()
        #: Every broken promise in one line, with when it was first seen.
        self.wrong: dict[str, str] = {}
        self._when, self._since = "at the start", time.monotonic()

    def now(self, when: str) -> None:
        """From here on what is wrong is dated by `when`, and the seconds after it."""
        self._when, self._since = when, time.monotonic()

    def blame(self, what: str) -> None:
        """Note a broken promise, once."""
        self.wrong.setdefault(what, f"{self._when}, {time.monotonic() - self._since:.1f} s on")

    def read(self, name: str, content: object, floor: int, where: str) -> None:
        """A reader got `content`, when `floor` had been invalidated before it asked."""
        number = number_of(content)
        if number is None or number > self.written[name]:
            self.blame(f"{where}: {name} was answered {content!r}, which nobody wrote")
        elif number < floor:
            self.blame(f"{where}: {name} was answered {number}, after the invalidation of {floor} had returned")

    def watched(self, name: str, contents: Sequence[object], who: str) -> None:
        """A watcher was told `contents`, in this order."""
        numbers = [number_of(content) for content in contents]
        for before, after in pairwise(numbers):
            if before is None or after is None or after > self.written[name]:
                self.blame(f"{who}: {name} was told {before!r} and {after!r}, one of which nobody wrote")
            elif after < before:
                self.blame(f"{who}: {name} went back from {before} to {after}")

    def accepted(self, job_id: str | None) -> None:
        """A request was answered 202 with this job."""
        self.counts["202"] += 1
        if job_id:
            self.open_jobs.setdefault(job_id, self.stores)

    def job(self, job_id: str, status: str | None) -> None:
        """A job was looked at; None: it does not exist."""
        if status is None and self.open_jobs[job_id] == self.stores:
            self.blame(f"job {job_id} was answered 202 and is gone, though its store is there")
        if status is None or status in ("succeeded", "failed", "cancelled", "dead", "expired"):
            del self.open_jobs[job_id]
            self.counts[f"job {status or 'gone with its store'}"] += 1


def number_of(content: object) -> int | None:
    """The number a content carries; None for what nobody wrote."""
    return int(content) if isinstance(content, str) and content.isascii() and content.isdecimal() else None
