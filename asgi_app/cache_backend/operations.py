"""Every operation of the cache as steps (`driving.py`): keys are made, lives are in milliseconds, values are values.

Invariant: a value that cannot be read, whatever the reason, is a miss and is counted; only what the caller gave, or a
store that is away, is an error.

Filling a key (`get_or_set`) is done once at a time: in a process by a flight, among processes by a lease of ten
seconds.  A value that was computed before its key was set or deleted, or the cache cleared, is not stored, unless the
lease had expired before; those who waited for it get it, or what was set.
"""

from __future__ import annotations

import inspect
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from asgi_app.cache_backend.driving import Compute, Pause, Share, Steps
from asgi_app.cache_backend.serializers import Serializer
from cache_layer.errors import StoreUnavailable
from cache_layer.kv import Kept, Lease, Reading, Space, Trip
from cache_layer.near import Fetch, Near

#: Stands for no value, since None is one.
MISSING = object()
#: Milliseconds a lease lasts, and seconds to wait for another's: after as long, one computes for oneself.
_LEASE = 10_000
_PATIENCE = 10.0
#: Seconds between looks at another's lease: the first, how they grow, the longest; each is shortened by chance.
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.01, 1.5, 0.25
#: Seconds a copy of a value without end is kept.
_LONG = 86_400.0


@dataclass(slots=True)
class Stats:
    """Counts of this process since it began; threads may lose one now and then."""

    hits: int = 0
    misses: int = 0
    #: Misses because of bytes that are no value of ours, or not signed.
    corrupt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filled:
    kept: Kept
    #: It was computed from what has been deleted since.
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """What one cache does with the store."""

    space: Space
    serializer: Serializer
    #: The copies in this process, if there are any.
    near: Callable[[], Near | None]
    stats: Stats = field(default_factory=Stats)

    def get(self, key: str, default: Any) -> Steps[Any]:
        """The value, or `default`."""
        found = yield from self.get_many([key])
        return found.get(key, default)

    def get_many(self, keys: Sequence[str]) -> Steps[dict[str, Any]]:
        """The values there are."""
        near = self.near()
        found = {key: self._copy(near, key) for key in keys}
        wanted = [key for key, value in found.items() if value is MISSING]
        if wanted:
            found |= yield from self._fetch(near, wanted)
        there = {key: value for key, value in found.items() if value is not MISSING}
        self.stats.hits += len(there)
        self.stats.misses += len(found) - len(there)
        return there

    def set_many(self, values: Mapping[str, Any], life: int | None) -> Steps[None]:
        """Store all values."""
        kept = {key: self._dumps(key, value) for key, value in values.items()}
        yield from self._write(kept, self.space.write(kept, life))

    def add(self, key: str, value: Any, life: int | None) -> Steps[bool]:
        """Store a value if there is none."""
        added: bool = yield from self._write([key], self.space.add(key, self._dumps(key, value), life))
        return added

    def touch(self, key: str, life: int | None) -> Steps[bool]:
        """Give a value another life."""
        touched: bool = yield from self._write([key], self.space.touch(key, life))
        return touched

    def delete_many(self, keys: Sequence[str]) -> Steps[int]:
        """Delete values; how many there were."""
        removed: int = yield from self._write(keys, self.space.remove(keys))
        return removed

    def incr(self, key: str, delta: int) -> Steps[int]:
        """Count.  Raises ValueError without a value, TypeError for what is no integer, OverflowError past 64 bits."""
        try:
            counted: int = yield from self._write([key], self.space.count(key, delta))
        except KeyError:
            raise ValueError(f"Key {key!r} not found") from None
        except TypeError:
            raise TypeError(f"The value of key {key!r} is not an integer") from None
        except OverflowError:
            raise OverflowError(f"The value of key {key!r} would not fit into 64 bits") from None
        return counted

    def clear(self) -> Steps[None]:
        """Outdate all values of the namespace."""
        yield from self._changing([self.space.generation], self.space.clear())

    def get_or_set(self, key: str, default: Any, life: int | None) -> Steps[Any]:
        """The value; without one that of `default`, which is called and, on an event loop, awaited."""
        try:
            found = yield from self.get(key, MISSING)
            if found is MISSING:
                computed = callable(default) or inspect.isawaitable(default)
                found = yield from (self._computed if computed else self._given)(key, default, life)
        except Exception:
            _close_unused(default)
            raise
        _close_unused(default)
        return found

    def _given(self, key: str, value: Any, life: int | None) -> Steps[Any]:
        if not (yield from self.add(key, value, life)):
            return (yield from self.get(key, value))
        return self.serializer.loads(self._dumps(key, value), self.space.name(key))

    def _computed(self, key: str, default: Any, life: int | None) -> Steps[Any]:
        # caches of one place and other serializers could not read what this one makes
        flight = f"{self.serializer.name} {self.space.name(key)}"
        share = Share(key=flight, steps=lambda: self._fill(key, default, life), patience=_PATIENCE)
        shared = yield share
        if shared.result.revoked and not shared.own:  # it may have begun before a deletion that this caller came after
            shared = yield share
        # each caller has its own: what one changes in a list is not seen by the others
        return self.serializer.loads(shared.result.kept, self.space.name(key))

    def _fill(self, key: str, default: Any, life: int | None) -> Steps[_Filled]:
        lease = yield from self._lease(key)
        if isinstance(lease, Kept):
            return _Filled(kept=lease)
        try:
            kept = self._dumps(key, (yield Compute(default=default)))
        except GeneratorExit:
            raise
        except BaseException:
            if lease is not None:
                with suppress(StoreUnavailable):
                    yield self.space.release(key, lease)
            raise
        if lease is None:  # somebody else is at it: stored is what comes of the lease
            return _Filled(kept=kept)
        reading: Reading = yield from self._write([key], self.space.fill(key, lease, kept, life))
        return _Filled(kept=reading.kept or kept, revoked=reading.kept is None)

    def _lease(self, key: str) -> Steps[Lease | Kept | None]:
        """The lease, or the value that came meanwhile, or None: it took too long."""
        token = secrets.token_hex(8)
        patience, pause = time.monotonic() + _PATIENCE, _FIRST_PAUSE
        while True:
            lease = yield self.space.acquire(key, token, _LEASE)
            if isinstance(lease, Lease):
                return lease
            if lease is False:
                readings = yield self.space.read([key])
                if (yield from self._judged(key, readings[0])) is not MISSING:
                    kept: Kept = readings[0].kept
                    return kept
            if time.monotonic() > patience:
                return None
            yield Pause(seconds=pause * random.uniform(0.5, 1))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    def _copy(self, near: Near | None, key: str) -> Any:
        kept: Kept | None = near.get(self.space.name(key)) if near else None
        return MISSING if kept is None else self._loads(key, kept)

    def _fetch(self, near: Near | None, keys: Sequence[str]) -> Steps[dict[str, Any]]:
        """The values in the store, of which copies are kept."""
        fetches = [near.fetch([self.space.generation, self.space.name(key)]) if near else None for key in keys]
        started = time.monotonic()
        readings = yield self.space.read(keys, left=any(fetches))
        found = {}
        for key, reading, fetch in zip(keys, readings, fetches, strict=True):
            found[key] = yield from self._judged(key, reading)
            if near and fetch and found[key] is not MISSING:
                self._keep(near, fetch, key, reading, started)
        return found

    def _keep(self, near: Near, fetch: Fetch, key: str, reading: Reading, started: float) -> None:
        life = _LONG if reading.left == -1 else reading.left / 1000
        name = self.space.name(key)
        near.keep(fetch, name, reading.kept, cost=len(reading.raw) + len(name), until=started + life)

    def _judged(self, key: str, reading: Reading) -> Steps[Any]:
        """The value; MISSING, and what there is removed, when it cannot be read."""
        if reading.kept is None and not reading.corrupt:
            return MISSING
        value = MISSING if reading.kept is None else self._loads(key, reading.kept)
        if value is not MISSING:
            return value
        self.stats.corrupt += 1
        yield self.space.drop(key, reading.raw)
        return MISSING

    def _loads(self, key: str, kept: Kept) -> Any:
        try:
            return self.serializer.loads(kept, self.space.name(key))
        except Exception:
            return MISSING  # decoding foreign bytes may raise anything

    def _dumps(self, key: str, value: Any) -> Kept:
        return self.serializer.dumps(value, self.space.name(key))

    def _write(self, keys: Sequence[str] | Mapping[str, Any], trip: Trip[Any]) -> Steps[Any]:
        return (yield from self._changing([self.space.name(key) for key in keys], trip))

    def _changing(self, names: Sequence[str], trip: Trip[Any]) -> Steps[Any]:
        """A trip that changes what lies under these names: copies of them go before it and after it."""
        near = self.near()
        if near is None:
            return (yield trip)
        near.forget(*names)
        try:
            return (yield trip)
        finally:
            near.forget(*names)


def _close_unused(default: Any) -> None:
    """A coroutine that was not needed: left alone, its never having been awaited would be a warning."""
    if inspect.iscoroutine(default) and inspect.getcoroutinestate(default) == inspect.CORO_CREATED:
        default.close()
