"""The last values this process has seen, for the time when the store is away (stale-if-error of RFC 5861).

Invariant: a value is held only if no invalidation of its tags was heard since its look-up began, and while the process
was sure to hear them; so it is never older than what the store would have served when contact was lost.  What others
invalidate while only this process is cut off it cannot know: its readers are told that the value is stale.
"""

from __future__ import annotations

import time
from collections import OrderedDict

import msgspec

from cache_layer.codec import Entry
from cache_layer.keys import Key
from cache_layer.outdated import Outdated

#: Bytes held at the most.
BUDGET = 32 * 1024 * 1024
_OVERHEAD = 512


class _Held(msgspec.Struct, frozen=True, gc=False):
    entry: Entry
    tags: tuple[str, ...]
    #: Monotonic time at which the entry's age was zero.
    born: float

    @property
    def cost(self) -> int:
        return len(self.entry.payload) + _OVERHEAD


class LastKnown:
    """Values by key digest, least recently seen dropped first."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._used = 0
        self._held: OrderedDict[str, _Held] = OrderedDict()
        #: Grows at every invalidation heard; what was looked up before it changed is not kept.
        self.era = 0

    def keep(self, key: Key, entry: Entry, age: float, *, era: int) -> None:
        """Hold a value whose look-up began in `era`."""
        known = self._held.get(key.digest)
        if known is not None and known.entry is entry and era == self.era:
            self._held.move_to_end(key.digest)  # the very one: it is as old as it was
            return
        held = _Held(entry, key.tags, time.monotonic() - age)
        self._drop(key.digest)  # whatever comes of the new one, the one before is no longer the last
        if era != self.era or held.cost > self._budget // 8:
            return
        self._held[key.digest] = held
        self._used += held.cost
        while self._used > self._budget:
            self._drop(next(iter(self._held)))

    def get(self, key: Key) -> tuple[Entry, float] | None:
        """A value and its age in seconds, while its policy allows it to be served after an error."""
        held = self._held.get(key.digest)
        if held is None:
            return None
        age = time.monotonic() - held.born
        return (held.entry, age) if age < held.entry.fresh + key.policy.stale_if_error else None

    def invalidate(self, outdated: Outdated) -> None:
        """Forget every value that is outdated."""
        self.era += 1
        for digest in [digest for digest, held in self._held.items() if outdated.covers(digest, held.tags)]:
            self._drop(digest)

    def clear(self) -> None:
        """Forget everything: invalidations may have been missed."""
        self.era += 1
        self._held.clear()
        self._used = 0

    def _drop(self, digest: str) -> None:
        held = self._held.pop(digest, None)
        if held is not None:
            self._used -= held.cost
