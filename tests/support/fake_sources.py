"""Stand-ins for what the fan-out reads and hears, for its unit tests: a topic and a feed in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from asgi_app.topics import Snapshot
from cache_layer.codec import Entry, encode
from cache_layer.errors import StoreUnavailable
from cache_layer.outdated import Outdated
from cache_layer.position import Position
from cache_layer.publication import Publication, Value, parse

EPOCH = "aaaaaaaa"
#: Of the key all of these values are of.
DIGEST = "00" * 16


def snapshot(
    offset: int,
    payload: bytes | None = b"",
    *,
    epoch: str = EPOCH,
    state: Any = None,
    fresh_for: float = 60.0,
    job: str | None = None,
    error: dict[str, Any] | None = None,
) -> Snapshot:
    """The state of a topic; its value is its offset unless given."""
    payload = b"%d" % offset if payload == b"" else payload
    state = state or ("pending" if payload is None else "fresh")
    fresh_for = fresh_for if state == "fresh" else 0.0
    return Snapshot(
        state=state,
        position=Position(epoch, offset),
        payload=payload,
        age=0.0,
        fresh_for=fresh_for,
        job=job,
        error=error,
    )


def published(offset: int, payload: bytes = b"", *, epoch: str = EPOCH, fresh: float = 60.0) -> bytes:
    """A value as it travels on a channel."""
    payload = payload or b"%d" % offset
    tail, stored = encode(
        payload, digest=DIGEST, fresh=fresh, life=600.0, compute_seconds=0.1, computed_at=1.0, tag_versions=()
    )
    head = b"V" + b"nonce..." + epoch.encode() + b"%016d" % offset
    return head + tail + stored


def entry_of(message: bytes) -> Entry:
    """The entry inside of a published value."""
    publication = parse(message, DIGEST)
    assert isinstance(publication, Value)
    return publication.entry


class FakeFeed:
    """A feed in memory: `say` delivers at once; `down` lets every subscription fail."""

    def __init__(self) -> None:
        self.listeners: dict[str, list[Callable[[bytes], None]]] = {}
        self.on_gap: list[Callable[[], None]] = []
        self.down = False
        self.healthy = True

    async def subscribe(self, channel: str, listener: Callable[[bytes], None]) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable("down")
        self.listeners.setdefault(channel, []).append(listener)

    def unsubscribe(self, channel: str, listener: Callable[[bytes], None]) -> None:
        if listener in self.listeners.get(channel, []):
            self.listeners[channel].remove(listener)

    def say(self, channel: str, message: bytes) -> None:
        for listener in tuple(self.listeners.get(channel, ())):
            listener(message)

    def gap(self) -> None:
        for told in self.on_gap:
            told()


class FakeSource:
    """A topic whose reads are answered by the test: `now` is what a read finds, `gate` holds reads back."""

    def __init__(self, key: str = "k", now: Snapshot | Exception | None = None, **options: Any) -> None:
        self.key = key
        self.channel = f"channel:{key}"
        self.topic = key
        self.tags: tuple[str, ...] = options.get("tags", ())
        self.kind: Literal["value"] = "value"
        self.watched: bool = options.get("watched", False)
        self.now: Snapshot | Exception = now or snapshot(1)
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def outdated_by(self, outdated: Outdated) -> bool:
        return outdated.covers(self.key, self.tags)

    def parse(self, message: bytes) -> Publication | None:
        return parse(message, DIGEST)

    async def read(self) -> Snapshot:
        self.reads += 1
        found = self.now
        await self.gate.wait()
        await asyncio.sleep(0)
        if isinstance(found, Exception):
            raise found
        return found
