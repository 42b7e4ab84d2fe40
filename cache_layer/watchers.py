"""What each web process says of what is watched there, kept in the store for whoever asks.

Invariants: what a process said is believed for `LIFE` seconds; one write of bounded size every few seconds, nothing on
the way of a value to its watchers.
"""

from __future__ import annotations

from cache_layer.redis import Store

#: Milliseconds a report is believed: a process that missed two is gone.
LIFE = 15_000
#: Processes that are asked at most.
_MOST = 200


class Watchers:
    """The reports of all processes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def report(self, process: str, body: bytes) -> None:
        """What `process` says.  Raises StoreUnavailable."""
        names = self._store.names
        now = await self._store.milliseconds()
        await self._store.transaction(
            ("SET", names.report(process), body, "PX", LIFE),
            ("ZADD", names.reporters(), now + LIFE, process),
            ("ZREMRANGEBYSCORE", names.reporters(), "-inf", now),
            ("PEXPIRE", names.reporters(), LIFE),
        )

    async def leave(self, process: str) -> None:
        """It says nothing any more.  Raises StoreUnavailable."""
        names = self._store.names
        await self._store.transaction(("DEL", names.report(process)), ("ZREM", names.reporters(), process))

    async def read(self) -> list[bytes]:
        """What they say, in no order.  Raises StoreUnavailable."""
        names = self._store.names
        found = await self._store.command("ZRANGE", names.reporters(), 0, _MOST - 1)
        if not found:
            return []
        bodies = await self._store.command("MGET", *(names.report(process.decode()) for process in found))
        return [body for body in bodies if body is not None]
