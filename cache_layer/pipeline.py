"""Questions on one connection: all of a turn of the event loop travel as one write.

A round trip of redis-py costs a task, a lock and a connection of a pool; here it costs a place in a queue.  The store
answers in the order of the questions, and that order alone says whose an answer is.

Invariants: an answer is given to its own question or to nobody (a reader who is cancelled keeps its place, and what
comes for it is thrown away; CVE-2023-28858 was the other way); every question is over within `deadline` seconds, once
sent; a connection on which the order cannot be trusted any more is closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from cache_layer.breaker import Breaker
from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Questions without an answer, at the most.
_MOST = 20_000
_NO_MORE = object()
_LOST = (OSError, asyncio.TimeoutError, redis_errors.RedisError)


class NoScript(StoreUnavailable):
    """The store does not know the script: it was restarted, or has forgotten them all."""


def packed(*commands: Sequence[str | bytes | int | float]) -> bytes:
    """Commands as they travel; worth keeping for what is asked again."""
    return b"".join(hiredis.pack_command(tuple(command)) for command in commands)  # type: ignore[arg-type]


class _Question:
    """Commands in one write, and who waits for their replies."""

    __slots__ = ("again", "answer", "commands", "left", "replies", "sent_at")

    def __init__(self, commands: bytes, count: int, answer: asyncio.Future[list[Any]]) -> None:
        self.commands, self.left, self.answer = commands, count, answer
        self.replies: list[Any] = []
        self.sent_at = 0.0
        #: It may be asked once more: its connection was lost, and twice is as well as once.
        self.again = True


class Pipeline(asyncio.Protocol):
    """One connection of one event loop, made when it is needed."""

    def __init__(self, connection: Callable[[], AbstractConnection], breaker: Breaker, deadline: float) -> None:
        """`connection` makes one that knows how to connect, and to say who we are."""
        self._new_connection = connection
        self._breaker = breaker
        self._deadline = deadline
        self._reader = hiredis.Reader(notEnoughData=_NO_MORE)
        self._transport: asyncio.Transport | None = None
        #: Closes the transport when it is forgotten.
        self._writer: asyncio.StreamWriter | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: list[_Question] = []
        self._sent: deque[_Question] = deque()
        self._flushing = False
        self._watching: asyncio.TimerHandle | None = None
        self._closed = False

    def ask(self, commands: bytes, count: int) -> asyncio.Future[list[Any]]:
        """The replies to `count` commands that may be carried out twice as well as once.

        Raises StoreUnavailable, at once or from the future; may be cancelled at any time.
        """
        if self._closed:
            raise StoreUnavailable("the connection to the store is closed")
        if len(self._sent) + len(self._unsent) >= _MOST:
            raise StoreUnavailable(f"{_MOST} questions wait for the store")
        self._breaker.check()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()
        self._unsent.append(_Question(commands, count, answer))
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)
        return answer

    async def close(self) -> None:
        """Give up everything; may be called twice."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._lose(ConnectionError("closed"))

    # Sending

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None:
            if self._connecting is None and not self._closed:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        if not self._unsent:
            return
        now = asyncio.get_running_loop().time()
        for question in self._unsent:
            question.sent_at = now
        self._transport.write(b"".join([question.commands for question in self._unsent]))
        self._sent.extend(self._unsent)
        self._unsent.clear()
        if self._watching is None:
            self._watching = asyncio.get_running_loop().call_later(self._deadline, self._watch)

    async def _connect(self) -> None:
        connection = self._new_connection()
        try:
            async with asyncio.timeout(self._deadline):
                await connection.connect()  # type: ignore[no-untyped-call]
            # redis-py has no door to what it has connected; from here on it is ours alone.
            self._writer, connection._writer, connection._reader = connection._writer, None, None
        except _LOST as error:
            await connection.disconnect(nowait=True)
            self._connecting = None
            self._fail(error, again=False)
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)
            raise
        else:
            transport: Any = self._writer.transport if self._writer is not None else None
            transport.set_protocol(self)
            self._reader = hiredis.Reader(notEnoughData=_NO_MORE)
            self._connecting, self._transport = None, transport
            self._flush()

    def _watch(self) -> None:
        """One timer for all: the oldest question says whether the store answers."""
        self._watching = None
        if self._sent:
            loop = asyncio.get_running_loop()
            left = self._sent[0].sent_at + self._deadline - loop.time()
            if left <= 0.001:
                self._lose(TimeoutError())
            else:
                self._watching = loop.call_later(left, self._watch)

    # Receiving (asyncio.Protocol)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NO_MORE:
                self._take(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self._lose(ConnectionError(f"the store said what nobody asked for: {error}"))

    def _take(self, reply: Any) -> None:
        question = self._sent[0]
        question.replies.append(reply)
        question.left -= 1
        if question.left:
            return
        self._sent.popleft()
        self._breaker.succeeded()
        if question.answer.done():
            return
        for each in question.replies:
            if isinstance(each, Exception):
                question.answer.set_exception(_refusal(each))
                return
        question.answer.set_result(question.replies)

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(error or ConnectionError("closed by the store"))

    # Losing

    def _lose(self, error: Exception) -> None:
        """Begin anew: what was on its way is asked once more, unless it has had its time."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._writer = None
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        self._fail(error, again=not isinstance(error, TimeoutError) and not self._closed)

    def _fail(self, error: BaseException, *, again: bool) -> None:
        asked = [*self._sent, *self._unsent]
        self._sent.clear()
        self._unsent.clear()
        if asked and not again:
            self._breaker.failed(time.monotonic())
        for question in asked:
            if question.answer.done():
                continue
            if again and question.again:
                question.again = False
                question.replies, question.left = [], question.left + len(question.replies)
                self._unsent.append(question)
            else:
                why = f"the store did not answer: {type(error).__name__}"
                question.answer.set_exception(StoreUnavailable(why))
        if self._unsent and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)


def _refusal(reply: Exception) -> StoreUnavailable:
    if str(reply).startswith("NOSCRIPT"):
        return NoScript("the store does not know the script")
    log.error("the store refused: %s", reply)
    return StoreUnavailable(f"the store refused: {reply}")
