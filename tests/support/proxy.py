"""A proxy in front of the store that breaks connections as networks do: cut, half open, held up, or moved elsewhere.

It runs on a thread of its own, so that it also serves, and breaks, what blocks the thread of the test.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

#: Directions, as seen from the client.
UP, DOWN = "up", "down"
_PATIENCE = 10.0


class Proxy:
    """Listens at `url`, on a unix socket or, without one, on loopback TCP; `with Proxy(...) as proxy` runs it."""

    def __init__(self, upstream: Path | int, listen: Path | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        """`upstream`: a unix socket, or a port of loopback."""
        self.upstream = upstream
        self.url = ""
        self._listen = listen
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._pairs: set[_Pair] = set()
        self._cut = self._swallow = False
        self._open = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self._delay = {UP: 0.0, DOWN: 0.0}

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._call(self._serve())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    def cut(self) -> None:
        """End all connections and refuse new ones, until `heal`."""
        self._call(self._set(cut=True))

    def half_open(self) -> None:
        """All connections stay and carry nothing any more, in neither direction; new ones likewise, until `heal`."""
        self._call(self._set(swallow=True))

    def hold(self, direction: str) -> None:
        """Keep back what goes in this direction, until `heal`; nothing of it is lost."""
        self._call(self._set(hold=direction))

    def delay(self, direction: str, seconds: float) -> None:
        """Carry each piece later in this direction, in order."""
        self._delay[direction] = seconds

    @property
    def port(self) -> int:
        """Where it listens, when that is on TCP."""
        return int(self._server.sockets[0].getsockname()[1])

    def move(self, upstream: Path | int) -> None:
        """End all connections and take new ones to another server, as an address does after a failover."""
        self.upstream = upstream
        self._call(self._set(cut=True))
        self.heal()

    def heal(self) -> None:
        """Pass again.  Connections that were half open remain dead: what they carried is lost."""
        self._delay.update({UP: 0.0, DOWN: 0.0})
        self._call(self._set())

    @property
    def connections(self) -> int:
        """How many are open at this moment."""
        return len(self._pairs)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _set(self, *, cut: bool = False, swallow: bool = False, hold: str = "") -> None:
        self._cut, self._swallow = cut, swallow
        for direction, event in self._open.items():
            if direction == hold:
                event.clear()
            else:
                event.set()
        for pair in list(self._pairs):
            pair.dead = pair.dead or swallow
            if cut:
                await pair.end()

    async def _serve(self) -> None:
        await self._set()
        if self._listen is not None:
            self._server = await asyncio.start_unix_server(self._accept, str(self._listen), ssl=self._tls)
            self.url = f"unix://{self._listen}?db=0"
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
            port = self._server.sockets[0].getsockname()[1]
            self.url = f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{port}/0"

    async def _close(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # whom the last turn accepted begins, and so can end what it was given
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:  # one that reached the store only now would be left open with the loop
                task.cancel()
            await asyncio.wait(others)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(writer, dead=self._swallow)
        self._pairs.add(pair)
        try:
            if self._cut:
                return
            with suppress(OSError):
                up_reader, up_writer = await self._connect()
                pair.writers.append(up_writer)
                pair.tasks = [
                    asyncio.create_task(self._pump(UP, reader, up_writer, pair)),
                    asyncio.create_task(self._pump(DOWN, up_reader, writer, pair)),
                ]
                await asyncio.wait(pair.tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await pair.end()
            self._pairs.discard(pair)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.upstream, int):
            return await asyncio.open_connection("127.0.0.1", self.upstream)
        return await asyncio.open_unix_connection(str(self.upstream))

    async def _pump(
        self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self._delay[direction])
                await self._open[direction].wait()
                if not pair.dead:
                    writer.write(data)
                    await writer.drain()
            if pair.dead:  # the end of a half-open connection is not heard of at its other end either
                await asyncio.Event().wait()


class _Pair:
    """A connection and its continuation to the store."""

    def __init__(self, writer: asyncio.StreamWriter, *, dead: bool) -> None:
        self.dead = dead
        self.writers = [writer]
        self.tasks: list[asyncio.Task[None]] = []

    async def end(self) -> None:
        """May be called twice."""
        for writer in self.writers:
            writer.transport.abort()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the turn in which the transports let their sockets go
