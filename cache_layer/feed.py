"""One pub/sub connection of this process, shared by everyone here who watches the store.

Invariant: `subscribe` returns only after the store confirmed the subscription, so what is read afterwards misses
nothing; and whenever messages may have been missed, `on_gap` is called after all channels are subscribed again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Sequence

import redis.asyncio as aioredis
from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cache_layer.errors import StoreUnavailable

Listener = Callable[[bytes], None]

log = logging.getLogger(__name__)

#: Seconds a channel without listeners stays subscribed: reloads and tab switches come back.
_LINGER = 5.0
#: Seconds between proofs of life, and how long the store may take to answer one.
_PROBE = 4.0
_SILENCE = 2.0 * _PROBE
#: Seconds a subscription may take.
_CONFIRM = 1.5
#: Channels named in one SUBSCRIBE.
_BATCH = 256
_LOST = (redis_errors.RedisError, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError)


class Feed:
    """Subscriptions of one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._listeners: dict[str, list[Listener]] = {}
        self._confirmed: set[str] = set()
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._heard = 0.0
        self._had_connection = False
        self._connected = asyncio.Event()
        #: Called after the connection was lost and every channel is subscribed again: anything may have been missed.
        self.on_gap: list[Callable[[], None]] = []
        #: Called when the connection was lost: others to the same store may be dead without knowing.
        self.on_loss: list[Callable[[], None]] = []

    @property
    def healthy(self) -> bool:
        """Whether the connection is up and has proven it lately."""
        return self._connected.is_set() and time.monotonic() - self._heard < _SILENCE + 1.0

    async def start(self) -> None:
        """Begin to connect; returns at once.  May be called twice."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="feed")

    async def stop(self) -> None:
        """Close the connection; may be called twice, or before `start`."""
        if self._task is not None:
            # Again and again: while it connects, `wait_for` of Python 3.11 may swallow a cancellation (gh-86296).
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=0.1)
            if not self._task.cancelled():
                self._task.exception()  # read: it is no warning
            self._task = None
        for future in self._awaited.values():
            future.cancel()

    async def subscribe(self, channel: str, listener: Listener) -> None:
        """Call `listener` with every message of `channel` from now on; it must not block or raise.

        Raises StoreUnavailable, with nothing left behind, when the store does not confirm in time.
        """
        self._listeners.setdefault(channel, []).append(listener)
        if channel in self._confirmed:
            return
        try:
            async with asyncio.timeout(_CONFIRM):
                await self._connected.wait()
                if channel not in self._confirmed:
                    await self._confirmation(channel)
        except _LOST as error:
            self.unsubscribe(channel, listener)
            raise StoreUnavailable("the store did not confirm a subscription") from error
        except BaseException:
            self.unsubscribe(channel, listener)
            raise

    def attach(self, channel: str, listener: Listener) -> None:
        """Like `subscribe` without waiting: messages come as soon as the store is there.  See `confirmed`."""
        self._listeners.setdefault(channel, []).append(listener)
        if self._connected.is_set() and channel not in self._confirmed:
            task = asyncio.get_running_loop().create_task(self._confirmation(channel))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def confirmed(self, channel: str) -> bool:
        """Whether messages of `channel` are known to arrive here at this moment."""
        return channel in self._confirmed and self.healthy

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Stop calling `listener`; not subscribed is no error."""
        listeners = self._listeners.get(channel, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            asyncio.get_running_loop().call_later(_LINGER, self._release, channel)

    async def _confirmation(self, channel: str) -> None:
        future = self._awaited.get(channel)
        if future is None:
            future = self._awaited[channel] = asyncio.get_running_loop().create_future()
            try:
                await self._send("SUBSCRIBE", channel)
            except BaseException:
                self._awaited.pop(channel, None)
                raise
        await asyncio.shield(future)

    def _release(self, channel: str) -> None:
        if self._listeners.get(channel):
            return
        self._listeners.pop(channel, None)
        if channel in self._confirmed:
            self._confirmed.discard(channel)
            task = asyncio.get_running_loop().create_task(self._drop(channel))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _drop(self, channel: str) -> None:
        if channel not in self._listeners:  # nobody came back before this task ran; a later SUBSCRIBE follows in order
            await self._send("UNSUBSCRIBE", channel)

    async def _send(self, *command: str) -> None:
        connection = self._connection
        if connection is None:
            raise redis_errors.ConnectionError("not connected")
        await connection.send_packed_command(connection.pack_command(*command), check_health=False)

    async def _run(self) -> None:
        pause = 0.1
        while True:
            began = time.monotonic()
            try:
                await self._session()
            except _LOST as error:
                log.warning("feed lost: %s", error or type(error).__name__)
                self._call(self.on_loss)
            except Exception:
                log.exception("feed lost")  # a process without it would be blind for ever
                self._call(self.on_loss)
            finally:
                self._connected.clear()
                self._confirmed.clear()
                self._fail_awaited()
            pause = 0.1 if time.monotonic() - began > 5.0 else min(2.0, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _session(self) -> None:
        # RESP2 on purpose: subscription replies and messages come as plain arrays on this one connection.
        pool = aioredis.ConnectionPool.from_url(
            self._url, protocol=2, socket_connect_timeout=1.0, socket_timeout=2.0, retry=Retry(NoBackoff(), 0)
        )
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # asked once, as loops do at their end, and swallowed by connect()
            self._connection = connection
            wanted = list(self._listeners)
            for start in range(0, len(wanted), _BATCH):
                await self._send("SUBSCRIBE", *wanted[start : start + _BATCH])
            await self._listen(connection, set(wanted))
        finally:
            self._connection = None
            await connection.disconnect(nowait=True)

    async def _listen(self, connection: AbstractConnection, waiting: set[str]) -> None:
        self._heard = time.monotonic()
        if not waiting:
            self._up()
        probe = asyncio.get_running_loop().create_task(self._probe(), name="feed probe")
        try:
            while True:
                async with asyncio.timeout(_SILENCE):
                    message = await connection.read_response(timeout=math.inf)
                self._heard = time.monotonic()
                if isinstance(message, list) and len(message) == 3:
                    self._take(message, waiting)
        finally:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)

    def _take(self, message: Sequence[bytes], waiting: set[str]) -> None:
        kind, channel = message[0], message[1].decode()
        if kind == b"message":
            self._deliver(channel, message[2])
        elif kind == b"subscribe":
            self._confirm(channel)
            if channel in waiting:
                waiting.discard(channel)
                if not waiting:
                    self._up()

    def _up(self) -> None:
        self._connected.set()
        if self._had_connection:
            self._call(self.on_gap)
        self._had_connection = True

    @staticmethod
    def _call(listeners: list[Callable[[], None]]) -> None:
        for told in listeners:
            try:
                told()
            except Exception:
                log.exception("after the loss of a connection")

    def _confirm(self, channel: str) -> None:
        if channel in self._listeners:
            self._confirmed.add(channel)
        future = self._awaited.pop(channel, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _deliver(self, channel: str, data: bytes) -> None:
        for listener in tuple(self._listeners.get(channel, ())):
            try:
                listener(data)
            except Exception:
                log.exception("a listener of %s failed", channel)

    def _fail_awaited(self) -> None:
        awaited, self._awaited = self._awaited, {}
        for future in awaited.values():
            if not future.done():
                future.set_exception(redis_errors.ConnectionError("connection lost"))
                future.exception()

    async def _probe(self) -> None:
        # Half-open connections look healthy: only an answer proves life (celery/kombu #2590, redis-py #2417).
        while True:
            await asyncio.sleep(_PROBE)
            await self._send("PING")
