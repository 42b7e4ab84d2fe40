"""The store's client: scripts and reads with deadlines, a breaker, and errors translated.

Invariant: no call takes longer than `deadline` seconds, none runs on the task of a request that may be cancelled (a
cancelled command costs its connection, redis-py since CVE-2023-28858), and only `StoreUnavailable` leaves.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import redis.asyncio as aioredis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cache_layer.background import Background
from cache_layer.breaker import Breaker
from cache_layer.codec import TAG_VERSION
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Names
from cache_layer.pipeline import NoScript, Pipeline, packed

log = logging.getLogger(__name__)

#: What can be sent to the store.
Arg = str | bytes | int | float
T = TypeVar("T")

#: Milliseconds a tag version outlives its last use at least.  A lost version invalidates, so a short life is safe.
TAG_TTL = 7 * 24 * 3_600_000
#: Milliseconds a store remembers whose data it has without any new connection.
_RUN_TTL = 30 * 24 * 3_600_000
_RUN = re.compile(rb"run_id:([0-9a-f]+)")
_INCLUDED = re.compile(r"^--# (\S+)$", re.MULTILINE)


@cache
def scripts() -> dict[str, str]:
    """Name -> text of `lua/*.lua`; a line `--# NAME` stands for that file (Redis has no libraries before 7)."""
    found = {script.name: script.read_text() for script in files("cache_layer").joinpath("lua").iterdir()}
    whole = {name: _INCLUDED.sub(lambda line: found[line[1]], text) for name, text in found.items()}
    return {name.removesuffix(".lua"): text for name, text in whole.items() if not name.startswith("_")}


class Store:
    """One deployment's part of one Redis or Valkey server (>= 6.2), for one event loop."""

    def __init__(self, url: str, namespace: str = "", *, deadline: float = 0.8, connections: int = 64) -> None:
        """Without `namespace`: for who has no part of a deployment there, but keys of their own."""
        self.url = url
        self.names = Names(namespace)
        self._deadline = deadline
        self._connections = connections
        #: As many as the pool has: who waits for a connection says nothing of the store.
        self._free = asyncio.Semaphore(connections)
        self._breaker = Breaker()
        self._pool = aioredis.ConnectionPool.from_url(
            url,
            max_connections=connections,
            socket_timeout=deadline,
            socket_connect_timeout=deadline / 2,
            # A write whose reply was lost may have happened: redis-py's own retries would do it twice.
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            redis_connect_func=self._introduce if namespace else None,
        )
        self._client: Any = aioredis.Redis(connection_pool=self._pool)
        self._client.response_callbacks.clear()  # replies as the server sends them
        # All read now: an upgrade under a running process must not mix versions.
        self._scripts = {name: self._client.register_script(text) for name, text in scripts().items()}
        self._calls = Background()
        self._pipeline = Pipeline(self._pool.make_connection, self._breaker, deadline)

    @property
    def suspect(self) -> bool:
        """Whether it did not answer the last time: who can do without it does not wait for it."""
        return self._breaker.suspicious

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run `lua/<name>.lua`.  Raises StoreUnavailable."""
        script = self._scripts[name]
        return await self._call(lambda: script(keys=keys, args=args))

    async def repeatable(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """As `script`, of one that may run twice as well as once: with others' questions, in one round trip.

        It costs a fraction of `script`; when the connection is lost it is run again.  Raises StoreUnavailable.
        """
        return await self.repeatable_packed(name, packed(("EVALSHA", self.sha(name), len(keys), *keys, *args)))

    async def repeatable_packed(self, name: str, command: bytes) -> Any:
        """As `repeatable`, of a command that is packed already: EVALSHA with `sha(name)`.  Raises StoreUnavailable."""
        try:
            return (await self._pipeline.ask(command, 1))[0]
        except NoScript:
            await self.command("SCRIPT", "LOAD", scripts()[name])
            return (await self._pipeline.ask(command, 1))[0]

    def sha(self, name: str) -> str:
        """By which the store knows a script."""
        sha: str = self._scripts[name].sha
        return sha

    async def transaction(self, *commands: tuple[Arg, ...]) -> list[Any]:
        """Run commands as one MULTI, in one round trip.  Raises StoreUnavailable."""

        async def run() -> list[Any]:
            async with self._client.pipeline(transaction=True) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute()
                return replies

        return await self._call(run)

    def read(self, commands: bytes, count: int) -> Awaitable[list[Any]]:
        """The replies to `count` commands that only read, packed by `pipeline.packed`: with others' in one round trip.

        Raises StoreUnavailable.
        """
        return self._pipeline.ask(commands, count)

    async def command(self, *command: Arg) -> Any:
        """Run one command.  Raises StoreUnavailable."""
        return await self._call(lambda: self._client.execute_command(*command))

    async def milliseconds(self) -> int:
        """Unix time by the store's own clock.  Raises StoreUnavailable."""
        seconds, micros = await self.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def ping(self) -> None:
        """Raises StoreUnavailable when the store does not answer within the deadline, whatever the breaker says."""
        await self._guarded(lambda: self._client.execute_command("PING"))

    def distrust(self) -> None:
        """A connection to the store was found dead: those that wait in the pool may be, too, and are given up."""
        self._calls.start(self._give_up_idle())

    async def _give_up_idle(self) -> None:
        idle = self._pool._available_connections
        for connection in tuple(idle):
            if connection in idle:  # waiting for its end, as the pool does, would leave it there for others to take
                await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        await self._calls.close()
        await self._pipeline.close()
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
        await connection.send_command("EVAL", scripts()["introduce"], len(keys), *keys, *args)
        await connection.read_response()

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        self._breaker.check()
        return await self._guarded(work)

    async def _guarded(self, work: Callable[[], Awaitable[T]]) -> T:
        return await asyncio.shield(self._calls.start(self._bounded(work)))

    async def _bounded(self, work: Callable[[], Awaitable[T]]) -> T:
        with self._breaker.judging():
            async with asyncio.timeout(self._deadline):
                return await self._connected(work)

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
