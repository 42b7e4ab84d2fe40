"""Websockets and streams of this process: counted, limited, and ended together when the process leaves.

Invariant: never more than the limits, over all and per principal.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Protocol

#: Connections ended at once while draining, and the seconds between two such batches: whoever comes back lands on the
#: other processes, which cannot take everybody at the same moment.
_BATCH = 200
_PAUSE = 0.1


class Connection(Protocol):
    """Something that stays open."""

    def drain(self) -> None:
        """Begin to end: the client is told to come back.  Must not block or raise."""


class Connections:
    """The connections of one event loop."""

    def __init__(self, limit: int, limit_per_principal: int) -> None:
        self._limit = limit
        self._limit_per_principal = limit_per_principal
        self._open: dict[Connection, str | None] = {}
        self._of_principal: Counter[str] = Counter()
        self.draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False when there is no room, or the process is about to leave."""
        if self.draining or len(self._open) >= self._limit:
            return False
        self._open[connection] = None
        self._empty.clear()
        return True

    def identify(self, connection: Connection, user_id: str | None) -> bool:
        """Count it for its user; False when that one has too many.  None, the public, has no limit of its own."""
        if user_id is None or connection not in self._open:
            return True
        if self._of_principal[user_id] >= self._limit_per_principal:
            return False
        self._open[connection] = user_id
        self._of_principal[user_id] += 1
        return True

    def release(self, connection: Connection) -> None:
        """It has ended; may be called twice."""
        user_id = self._open.pop(connection, None)
        if user_id is not None:
            self._of_principal[user_id] -= 1
            if not self._of_principal[user_id]:
                del self._of_principal[user_id]
        if not self._open:
            self._empty.set()

    async def drain(self, within: float = 5.0) -> None:
        """Admit nobody any more, end all in batches, and return when they are gone, after `within` seconds at most."""
        self.draining = True
        waiting = list(self._open)
        pause = min(_PAUSE, within / 2 / max(1, len(waiting) / _BATCH))
        for start in range(0, len(waiting), _BATCH):
            for connection in waiting[start : start + _BATCH]:
                if connection in self._open:
                    connection.drain()
            await asyncio.sleep(pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(within / 2):
                await self._empty.wait()
