"""Copies of the store's values in this process (the first tier), kept coherent by `tracking.py`.

Invariant: a copy is given out only if no change of the names it was read from was told since before that read was sent,
and while every change up to `max_staleness` seconds ago is sure to have been told.

A `Mark` stands for "nothing was told of this name".  A fetch takes the marks of its names before its read is sent, the
copy keeps them, and a change knocks the mark over: one step, however many copies depend on the name.  What this process
writes itself never becomes a copy: the store merges what it tells of one name, so our own change cannot be told from a
foreign one; the next read fetches it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from cache_layer.line import Route, now
from cache_layer.shelf import OVERHEAD, Copy, Fetch, Mark, Shelf
from cache_layer.tracking import Tracking

__all__ = ["STOPPED", "Fetch", "Near", "NearStats"]

#: What `Near.mode` says when there is no connection and none is tried.
STOPPED = "stopped"
#: The part of the budget that one copy may take: a few giants must not push everybody else out.
_LARGEST = 8


class NearStats:
    """Counts since the `Near` was made; read them at any time."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.hits = 0
        #: Asked for and not given: not here, outdated, or the gate was closed.
        self.misses = 0
        self.kept = 0
        #: Not kept because something was told while the value was being read.
        self.refused_by_token = 0
        #: Names that the store told changes of.
        self.pushes = 0
        #: How often all copies were dropped: the store was flushed, or the connection lost.
        self.flushes = 0

    @property
    def evictions(self) -> int:
        """Copies that left for want of room."""
        return self._shelf.evictions

    @property
    def bytes(self) -> int:
        """What the copies here cost now, as accounted against the budget."""
        return int(self._shelf.currsize)

    @property
    def entries(self) -> int:
        """Copies here now; some may be outdated and not asked for since."""
        return len(self._shelf)


class Near:
    """The copies of one process, for all its threads and event loops.  A forked child starts with none, stopped."""

    def __init__(self, url: str, prefixes: Sequence[str], *, budget: int, max_staleness: float = 1.0) -> None:
        """`prefixes`: of the names that may be fetched; `budget` in bytes, 0 for no copies; `max_staleness` in s."""
        if not prefixes or max_staleness <= 0:
            raise ValueError("near copies need a prefix to watch and a max_staleness above 0")
        self._route = Route(url=url, prefixes=tuple(prefixes))
        self._budget = budget
        self._max_staleness = max_staleness
        # Re-entrant: a signal handler, or a destructor run by the collector, may ask while its own thread is in here.
        self._lock = threading.RLock()
        self._tracking: Tracking | None = None
        self._shelf = Shelf(budget)
        self._marks: WeakValueDictionary[str, Mark] = WeakValueDictionary()
        self._epoch = object()
        self.stats = NearStats(self._shelf)
        _all.add(self)

    def start(self) -> None:
        """Begin to connect; returns at once.  May be called twice, and has to be called again after a fork."""
        with self._lock:
            if self._budget and self._tracking is None:
                self._tracking = self._new_tracking()
                self._tracking.start()

    def stop(self) -> None:
        """Drop everything and close the connection, within seconds; may be called twice, or before `start`."""
        with self._lock:
            tracking, self._tracking = self._tracking, None
            self._drop_all()
        if tracking is not None:
            tracking.stop()

    @property
    def mode(self) -> str:
        """One of "tracking", "connecting", "stopped", or "refused: " and what the store said."""
        tracking = self._tracking
        return STOPPED if tracking is None else tracking.mode

    @property
    def open(self) -> bool:
        """Whether every change up to max_staleness ago is sure to have been told; else no copy is given out."""
        tracking = self._tracking
        return tracking is not None and tracking.open(now())

    def get(self, name: str) -> Any | None:
        """The copy kept under this name, without asking the store; None: there is none to be trusted now."""
        with self._lock:
            try:
                value = self._standing(name)
            except BaseException:  # of a signal handler: the shelf may be half changed
                self._drop_all()
                raise
            if value is None:
                self.stats.misses += 1
            else:
                self.stats.hits += 1
            return value

    def fetch(self, names: Sequence[str]) -> Fetch | None:
        """Before a read of these names is sent: what `keep` needs afterwards.  None: its result cannot be kept.

        Raises ValueError for a name under none of the watched prefixes: nothing would ever be told of it.
        """
        for name in names:
            if not name.startswith(self._route.prefixes):
                raise ValueError(f"not under a watched prefix: {name}")
        with self._lock:  # from the look at the gate on: the epoch has to be that of the connection which is open
            if not self.open:
                return None
            return Fetch(epoch=self._epoch, marks=tuple([self._mark(name) for name in names]))

    def keep(self, fetch: Fetch, name: str, value: Any, *, cost: int, until: float) -> bool:
        """Keep what the read brought (not None), of `cost` bytes, until a monotonic time.

        False: it is not kept, since something was told of a fetched name meanwhile, or it is too big or too old.
        """
        copy = Copy(value=value, cost=cost + OVERHEAD, until=until, fetch=fetch)
        with self._lock:
            if not self._stands(fetch):
                self.stats.refused_by_token += 1
                return False
            if copy.cost > self._budget // _LARGEST or until <= time.monotonic():
                return False
            try:
                self._shelf[name] = copy
            except BaseException:  # as in `get`
                self._drop_all()
                raise
            self.stats.kept += 1
            return True

    def forget(self, *names: str) -> None:
        """Call it before and after own writes of these names: copies go at once, and reads under way are not kept."""
        with self._lock:
            try:
                self._knock_over(names)
            except BaseException:  # as in `get`
                self._drop_all()
                raise

    def clear(self) -> None:
        """Drop everything; reads under way are not kept."""
        with self._lock:
            self._drop_all()

    def _standing(self, name: str) -> Any | None:
        tracking = self._tracking
        if tracking is None or not tracking.drain(now()):
            return None
        try:
            copy = self._shelf[name]
        except KeyError:
            return None
        if self._stands(copy.fetch) and time.monotonic() < copy.until:
            return copy.value
        del self._shelf[name]
        return None

    def _stands(self, fetch: Fetch) -> bool:
        if fetch.epoch is not self._epoch:
            return False
        for mark in fetch.marks:  # noqa: SIM110  (all() over a generator takes twice as long)
            if not mark.standing:
                return False
        return True

    def _mark(self, name: str) -> Mark:
        mark = self._marks.get(name)
        if mark is None:
            mark = self._marks[name] = Mark()
        return mark

    def _told(self, names: Sequence[str] | None) -> None:
        """What changed in the store.  Called by `Tracking`, with the lock."""
        if names is None:
            self.stats.flushes += 1
            self._drop_all()
        else:
            self.stats.pushes += len(names)
            self._knock_over(names)

    def _knock_over(self, names: Sequence[str]) -> None:
        for name in names:
            mark = self._marks.pop(name, None)
            if mark is not None:
                mark.standing = False
            if name in self._shelf:  # copies under other names that depend on it go when they are asked for
                del self._shelf[name]

    def _drop_all(self) -> None:
        self._epoch = object()
        self._marks = WeakValueDictionary()
        self._shelf.clear()

    def _new_tracking(self) -> Tracking:
        return Tracking(self._route, self._told, max_staleness=self._max_staleness, lock=self._lock)

    def _begin_anew(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here, and the connection is the parent's."""
        self._lock = threading.RLock()
        tracking, self._tracking = self._tracking, None
        self._drop_all()
        if tracking is not None:
            tracking.abandon()


_all: WeakSet[Near] = WeakSet()


def _after_fork() -> None:
    for near in list(_all):
        near._begin_anew()


os.register_at_fork(after_in_child=_after_fork)
