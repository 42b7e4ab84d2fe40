"""What clients of streams say, on its way to the process that holds their stream: a POST lands on any of them.

Each process listens on a channel of the store that bears its name, and every stream of it has a secret one.

Invariants: what comes in for one stream in one process goes on in that order; what is on its way is bounded; a message
for a stream that has ended is nothing, one for a process that has ended is told to its sender.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from asgi_app.errors import Unavailable
from asgi_app.wiring import Node, node
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.redis import Store

#: What a process may be called, and a stream.
_NAME, _SESSION = re.compile(r"[0-9a-f]{16}"), re.compile(r"[A-Za-z0-9_-]{32}")
#: Messages and bytes on their way at once, from here to all others; and in one round trip.
_WAITING, _WAITING_BYTES = 1000, 8 * 1024 * 1024
_BATCH, _BATCH_BYTES = 64, 1024 * 1024
#: Seconds a message may be on its way.
_WITHIN = 4.0

#: Takes what the client of a stream says; must not block or raise.
Take = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Message:
    channel: str
    body: bytes
    #: How many processes got it.
    told: asyncio.Future[int]


class Relay:
    """The streams of one event loop, and the way to those of others."""

    def __init__(self, store: Store, feed: Feed) -> None:
        """Begins to listen, without waiting for the store."""
        #: Name of this process, new at each start.
        self.node = secrets.token_hex(8)
        self._store = store
        self._streams: dict[str, Take] = {}
        self._waiting: deque[_Message] = deque()
        self._waiting_bytes = 0
        self._sending: asyncio.Task[None] | None = None
        self._feed, self._channel = feed, store.names.node_channel(self.node)
        feed.attach(self._channel, self._arrived)

    async def listens(self) -> None:
        """Return when what other processes bring is known to arrive here, or when the store does not say so in time.

        Before a client is told where its stream is: the first ones of a process come while it begins to listen.
        """
        if not self._feed.confirmed(self._channel):
            with suppress(StoreUnavailable):
                await self._feed.subscribe(self._channel, _ignore)
            self._feed.unsubscribe(self._channel, _ignore)

    def enter(self, take: Take) -> str:
        """A stream has begun; the secret name under which its client speaks."""
        session = secrets.token_urlsafe(24)
        self._streams[session] = take
        return session

    def leave(self, session: str) -> None:
        """It has ended; may be called twice."""
        self._streams.pop(session, None)

    async def pass_on(self, session: str, node: str, text: str) -> bool:
        """Bring a frame to the stream `session` of the process `node`; False when there is no such process.

        Raises StoreUnavailable when nobody knows whether it arrived, Unavailable when too much is on its way.
        """
        if node == self.node:
            self._hand_over(session, text)
            return True
        if not _NAME.fullmatch(node):
            return False
        known = session if _SESSION.fullmatch(session) else ""
        message = self._message(node, b"%b\n%b" % (known.encode(), text.encode()))
        self._waiting.append(message)
        self._waiting_bytes += len(message.body)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all(), name="relay")
        try:
            async with asyncio.timeout(_WITHIN):
                return await message.told > 0
        except TimeoutError as error:
            raise StoreUnavailable("the store takes too long") from error

    async def stop(self) -> None:
        """Send nothing any more; may be called twice."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    def _message(self, node: str, body: bytes) -> _Message:
        if self._waiting and (len(self._waiting) >= _WAITING or self._waiting_bytes + len(body) > _WAITING_BYTES):
            raise Unavailable("too many commands are on their way to other processes", retry_after=1.0)
        return _Message(self._store.names.node_channel(node), body, asyncio.get_running_loop().create_future())

    def _hand_over(self, session: str, text: str) -> None:
        take = self._streams.get(session)
        if take is not None:
            take(text)

    def _arrived(self, body: bytes) -> None:
        session, _, text = body.partition(b"\n")
        with suppress(UnicodeDecodeError):  # nobody here wrote that
            self._hand_over(session.decode(), text.decode())

    async def _send_all(self) -> None:
        batch: list[_Message] = []
        try:
            while self._waiting:
                batch = self._next()
                if batch:
                    await self._send(batch)
        finally:
            self._sending = None
            for message in (*batch, *self._waiting):
                _answer(message, StoreUnavailable("this process stops"))
            self._waiting.clear()
            self._waiting_bytes = 0

    def _next(self) -> list[_Message]:
        batch: list[_Message] = []
        size = 0
        while self._waiting and len(batch) < _BATCH and size < _BATCH_BYTES:
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message.body)
            if not message.told.done():  # else it was given up
                size += len(message.body)
                batch.append(message)
        return batch

    async def _send(self, batch: list[_Message]) -> None:
        try:
            counts = await self._store.transaction(*(("PUBLISH", one.channel, one.body) for one in batch))
        except StoreUnavailable as error:
            for message in batch:
                _answer(message, error)
        else:
            for message, count in zip(batch, counts, strict=True):
                _answer(message, int(count))


def _ignore(_: bytes) -> None:
    """Only the confirmation is wanted."""


def _answer(message: _Message, answer: int | StoreUnavailable) -> None:
    if message.told.done():
        return  # it was given up
    if isinstance(answer, int):
        message.told.set_result(answer)
    else:
        message.told.set_exception(answer)
        message.told.exception()  # read: who gave it up misses nothing


_relays: WeakKeyDictionary[Node, Relay] = WeakKeyDictionary()


def relay() -> Relay:
    """The relay of this process's Node, made at its first use.  Raises RuntimeError outside of a started Node."""
    here = node()
    if here not in _relays:
        _relays[here] = Relay(here.store, here.feed)
    return _relays[here]
