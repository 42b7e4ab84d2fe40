"""The store's client: scripts and reads with deadlines, a breaker, and errors translated.

Invariant: no call takes longer than `deadline` seconds, none runs on the task of a request that may be cancelled (a
cancelled command costs its connection, redis-py since CVE-2023-28858), and only `StoreUnavailable` leaves.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import redis.asyncio as aioredis
from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cache_layer.codec import TAG_VERSION
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Names

log = logging.getLogger(__name__)

#: What can be sent to the store.
Arg = str | bytes | int | float
T = TypeVar("T")

#: Failures in a row that open the breaker, and seconds until one call probes again.
_BREAKER_FAILURES = 3
_BREAKER_PAUSE = 0.5
#: Milliseconds a tag version outlives its last use at least.  A lost version invalidates, so a short life is safe.
TAG_TTL = 7 * 24 * 3_600_000
#: Milliseconds a store remembers whose data it has without any new connection.
_RUN_TTL = 30 * 24 * 3_600_000
_RUN = re.compile(rb"run_id:([0-9a-f]+)")
#: What says that the store cannot be reached; any other error is an answer of it.
_UNAVAILABLE = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError, asyncio.TimeoutError)


@cache
def _scripts() -> dict[str, str]:
    """Name -> text of `lua/*.lua`."""
    found = files("cache_layer").joinpath("lua").iterdir()
    return {script.name.removesuffix(".lua"): script.read_text() for script in found}


class Breaker:
    """Answers at once while the store is known to be away.  `now` is any monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._closed_again_at = 0.0

    def open(self, now: float) -> bool:
        """Whether to refuse.  After the pause one caller is let through to probe; the others wait another pause."""
        if self._failures < _BREAKER_FAILURES:
            return False
        if now < self._closed_again_at:
            return True
        self._closed_again_at = now + _BREAKER_PAUSE
        return False

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, now: float) -> None:
        self._failures += 1
        self._closed_again_at = now + _BREAKER_PAUSE


class Store:
    """One deployment's part of one Redis or Valkey server (>= 6.2), for one event loop."""

    def __init__(self, url: str, namespace: str, *, deadline: float = 0.8, connections: int = 64) -> None:
        self.url = url
        self.names = Names(namespace)
        self._deadline = deadline
        self._connections = connections
        #: Waited for before the pool, which would say that all are in use as it says that the store is away.
        self._free = asyncio.Semaphore(connections)
        self._breaker = Breaker()
        self._pool = aioredis.BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=deadline / 2,
            socket_timeout=deadline,
            socket_connect_timeout=deadline / 2,
            # A write whose reply was lost may have happened: redis-py's own retries would do it twice.
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            redis_connect_func=self._introduce,
        )
        self._client: Any = aioredis.Redis(connection_pool=self._pool)
        self._client.response_callbacks.clear()  # replies as the server sends them
        # All read now: an upgrade under a running process must not mix versions.
        self._scripts = {name: self._client.register_script(text) for name, text in _scripts().items()}
        self._calls: set[asyncio.Task[Any]] = set()

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run `lua/<name>.lua`.  Raises StoreUnavailable."""
        script = self._scripts[name]
        return await self._call(lambda: script(keys=keys, args=args))

    async def transaction(self, *commands: tuple[Arg, ...]) -> list[Any]:
        """Run commands as one MULTI, in one round trip.  Raises StoreUnavailable."""

        async def run() -> list[Any]:
            async with self._client.pipeline(transaction=True) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute()
                return replies

        return await self._call(run)

    async def command(self, *command: Arg) -> Any:
        """Run one command.  Raises StoreUnavailable."""
        return await self._call(lambda: self._client.execute_command(*command))

    async def ping(self) -> None:
        """Raises StoreUnavailable when the store does not answer within the deadline, whatever the breaker says."""
        await self._guarded(lambda: self._client.execute_command("PING"))

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        for task in list(self._calls):
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._client.aclose()
        await self._pool.disconnect()

    async def _introduce(self, connection: AbstractConnection) -> None:
        """On every new connection, before its first use: a server with older data must not serve it as current."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        run = _RUN.search(await connection.read_response())
        if run is None:
            log.warning("the store does not say which run of it this is: data that comes back older is not noticed")
            return
        keys = [self.names.run(), self.names.everything()]
        args = [run[1], secrets.token_bytes(TAG_VERSION), TAG_TTL, _RUN_TTL]
        await connection.send_command("EVAL", _scripts()["introduce"], len(keys), *keys, *args)
        await connection.read_response()

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._breaker.open(time.monotonic()):
            raise StoreUnavailable("the store is away")
        return await self._guarded(work)

    async def _guarded(self, work: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.get_running_loop().create_task(self._bounded(work))
        self._calls.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that an abandoned call is no warning

    def _bounded(self, work: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        async def run() -> T:
            try:
                async with asyncio.timeout(self._deadline):
                    result = await self._connected(work)
            except _UNAVAILABLE as error:
                self._breaker.failed(time.monotonic())
                raise StoreUnavailable(f"the store did not answer: {type(error).__name__}") from error
            except redis_errors.RedisError as error:
                self._breaker.succeeded()
                log.error("the store refused: %s", error)
                raise StoreUnavailable(f"the store refused: {error}") from error
            self._breaker.succeeded()
            return result

        return run()

    async def _connected(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it once a connection is free.  Raises StoreUnavailable, and tells the breaker nothing, if none is."""
        try:
            async with asyncio.timeout(self._deadline / 2):
                await self._free.acquire()
        except TimeoutError as error:
            raise StoreUnavailable(f"all {self._connections} connections are in use") from error
        try:
            return await work()
        finally:
            self._free.release()
