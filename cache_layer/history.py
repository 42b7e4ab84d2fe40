"""Logs in the store: what was published on a topic, in order, the newest of it kept for a while.

Invariant: within one epoch offsets grow by one with each publication, whoever publishes; a log whose position was lost
begins a new epoch, and nothing of the old one is ever read under it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from cache_layer.position import Position
from cache_layer.publication import TRAVEL_LIMIT, Logged
from cache_layer.redis import Arg, Store

#: Publications a log keeps at most, so that one reply can hold all that a client has missed.
LONGEST = 1000
#: Milliseconds a position outlives the last look at it: a client that comes back with it learns what it has missed.
_POSITION_LIFE = 24 * 3_600_000
#: The same, while nothing was published: anybody may follow any name.
_EMPTY_LIFE = 3_600_000
#: Bytes of one read: whoever wants more asks again, or has missed too much.
_ROOM = 4 * 2**20
_NEWEST = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Part of a log, and where the log stands."""

    epoch: str
    #: Offset of the newest publication, 0 before the first.
    top: int
    #: Oldest first, without a hole between two of them.
    publications: tuple[Logged, ...]
    #: Seconds until the log forgets what it has, unless something is published; None for never.
    life: float | None = None


class History:
    """The logs of one deployment."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def append(
        self, topic: str, data: bytes, *, info: bytes = b"", tags: bytes = b"", size: int, ttl: float
    ) -> Position:
        """Publish compact JSON to everyone who follows the topic, and keep the newest `size` for `ttl` seconds.

        `info` (who published) and `tags` are JSON as well, or empty.  Raises StoreUnavailable: then it may or may not
        have been published.
        """
        names = self._store.names
        keys = [names.stream(topic), names.stream_position(topic), names.run()]
        lives = (_milliseconds(ttl), _POSITION_LIFE + _milliseconds(ttl))
        args: list[Arg] = [secrets.token_hex(4), size, *lives, data, info, tags, names.log_channel(topic), TRAVEL_LIMIT]
        epoch, offset = await self._store.script("append", keys, args)
        return Position(epoch.decode(), int(offset))

    async def tell(self, topic: str, data: bytes, *, info: bytes = b"", tags: bytes = b"") -> None:
        """Publish to everyone who follows the topic now, and keep nothing.  Raises StoreUnavailable."""
        await self.announce(self._store.names.log_channel(topic), Logged(0, data, info, tags).message())

    async def announce(self, channel: str, message: bytes) -> None:
        """Send a message of `publication` to a channel.  Raises StoreUnavailable."""
        await self._store.command("PUBLISH", channel, message)

    async def read(
        self, topic: str, *, ttl: float, after: int | None = None, before: int | None = None, limit: int = LONGEST
    ) -> LogPage:
        """What is kept of a topic between two offsets, both exclusive: the oldest `limit` after `after`, or without it
        the newest `limit`, and of both as many as fit into some megabytes.  Oldest first.

        Raises StoreUnavailable.
        """
        names = self._store.names
        keys = [names.stream(topic), names.stream_position(topic), names.run()]
        first, last = (after or 0) + 1, (before or _NEWEST) - 1
        args: list[Arg] = [secrets.token_hex(4), _POSITION_LIFE + _milliseconds(ttl)]
        args += [first, last, limit if first <= last else 0, "1" if after is None else "", _ROOM, _EMPTY_LIFE]
        epoch, top, life, entries = await self._store.script("history", keys, args)
        found = tuple(_logged(entry, fields) for entry, fields in entries)
        return LogPage(epoch=epoch.decode(), top=int(top), publications=found, life=max(0, int(life)) / 1000)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _logged(entry: bytes, fields: list[bytes]) -> Logged:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    return Logged(int(entry.partition(b"-")[2]), found[b"d"], found[b"i"], found[b"t"])
