"""Websockets and streams of this process: counted, limited, found by who they are of, and ended together when the
process leaves.

Invariant: never more than the limits, over all and per principal.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from asgi_app.access import Identity
from consumers.frames import Code

#: Connections ended at once while draining, and the seconds between two such batches: whoever comes back lands on the
#: other processes, which cannot take everybody at the same moment.
_BATCH = 200
_PAUSE = 0.1


class Connection(Protocol):
    """Something that stays open."""

    #: What carries it, for the counts: websocket, sse, http_stream, events.
    transport: str

    @property
    def stuck(self) -> float:
        """Seconds a write to it is under way already, 0 when there is none."""

    def drain(self) -> None:
        """Begin to end: the client is told to come back.  Must not block or raise."""

    def close(self, code: Code) -> None:
        """End, and say why.  Must not block or raise."""

    def renew(self, identity: Identity, *, judge: bool) -> None:
        """Its credentials were read anew.  What they do not allow any more ends, and is looked for even where they have
        not changed if `judge`.  Must not block or raise."""


@dataclass(slots=True)
class _Open:
    since: float
    #: None for the public, and before it is known who it is.
    identity: Identity | None = None


class Connections:
    """The connections of one event loop."""

    def __init__(self, limit: int, limit_per_principal: int) -> None:
        self._limit = limit
        self._limit_per_principal = limit_per_principal
        self._open: dict[Connection, _Open] = {}
        self._by_mark: dict[str, dict[Connection, None]] = {}
        self._of_principal: Counter[str] = Counter()
        #: How they came, and how many are open.
        self.transports: Counter[str] = Counter()
        #: Told of everyone who is known from now on, and since when (monotonic) the connection is open.
        self.entered: Callable[[Connection, Identity, float], None] = lambda connection, identity, since: None
        self.draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False when there is no room, or the process is about to leave."""
        if self.draining or len(self._open) >= self._limit:
            return False
        self._open[connection] = _Open(time.monotonic())
        self.transports[connection.transport] += 1
        self._empty.clear()
        return True

    def identify(self, connection: Connection, identity: Identity) -> bool:
        """Count it for its user; False when that one has too many.  The public has no limit of its own."""
        user_id = identity.principal.user_id
        entry = self._open.get(connection)
        if user_id is None or entry is None:
            return True
        if self._of_principal[user_id] >= self._limit_per_principal:
            return False
        entry.identity = identity
        self._of_principal[user_id] += 1
        for mark in marks(identity):
            self._by_mark.setdefault(mark, {})[connection] = None
        self.entered(connection, identity, entry.since)
        return True

    def release(self, connection: Connection) -> None:
        """It has ended; may be called twice."""
        entry = self._open.pop(connection, None)
        if entry is not None:
            self.transports[connection.transport] -= 1
        if entry is not None and entry.identity is not None:
            user_id = entry.identity.principal.user_id or ""
            self._of_principal[user_id] -= 1
            if not self._of_principal[user_id]:
                del self._of_principal[user_id]
            for mark in marks(entry.identity):
                of_mark = self._by_mark.get(mark, {})
                of_mark.pop(connection, None)
                if not of_mark:
                    self._by_mark.pop(mark, None)
        if not self._open:
            self._empty.set()

    def all(self) -> list[Connection]:
        return list(self._open)

    def known(self) -> list[Connection]:
        """All of somebody."""
        return [connection for connection, entry in self._open.items() if entry.identity is not None]

    def of(self, mark: str) -> list[Connection]:
        """All with a mark: see `marks`."""
        return list(self._by_mark.get(mark, ()))

    def identity(self, connection: Connection) -> Identity | None:
        """On whose behalf it is open, None when it is of the public, or has ended."""
        entry = self._open.get(connection)
        return entry.identity if entry is not None else None

    def age(self, connection: Connection) -> float:
        """Seconds it is open; 0 when it is not."""
        entry = self._open.get(connection)
        return time.monotonic() - entry.since if entry is not None else 0.0

    def renewed(self, connection: Connection, identity: Identity) -> None:
        """What the same credentials allow now."""
        entry = self._open.get(connection)
        if entry is not None and entry.identity is not None:
            entry.identity = identity

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


def marks(identity: Identity) -> Iterable[str]:
    """What connections of an identity are found by: `user <id>`, `session <digest>`."""
    yield f"user {identity.principal.user_id}"
    if identity.session:
        yield f"session {identity.session}"
