"""What a client and its store say to each other, written down between them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import hiredis

#: What a new connection begins with: it is made once, and then used for many things.
_GREETING = frozenset({"AUTH", "CLIENT", "EVAL", "HELLO", "INFO", "SELECT"})


class Wire:
    """A relay on a unix socket before the store: `async with Wire(store, at) as wire` listens at `wire.url`.

    A round trip begins when a connection carries something up after it was silent or carried something down: what a
    client writes before it has seen an answer is one; the greetings of new connections are none.  To be used on the
    loop of the client.
    """

    def __init__(self, upstream: Path, listen: Path) -> None:
        self._upstream = upstream
        self._listen = listen
        self.url = f"unix://{listen}?db=0"
        self.trips = 0
        #: Commands in the order of their arrival, in capitals; scripts as EVALSHA or EVAL.
        self.commands: list[str] = []
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_unix_server(self._accept, str(self._listen))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        await self._server.wait_closed()

    def forget(self) -> None:
        """Count from here."""
        self.trips = 0
        self.commands.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.get_running_loop().create_task(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends, pumps, talk = [writer], [], _Talk(self)
        try:
            store_reader, store_writer = await asyncio.open_unix_connection(str(self._upstream))
            ends.append(store_writer)
            pumps.append(asyncio.create_task(_pump(reader, store_writer, talk.up)))
            pumps.append(asyncio.create_task(_pump(store_reader, writer, talk.down)))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in ends:
                end.transport.abort()
            await asyncio.gather(*pumps, *(end.wait_closed() for end in ends), return_exceptions=True)


class _Talk:
    """One connection: whose turn it is to speak."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._reader = hiredis.Reader()
        self._asking = False

    def up(self, data: bytes) -> None:
        self._reader.feed(data)
        commands = []
        while (command := self._reader.gets()) is not False:
            commands.append(command[0].decode().upper())
        if _GREETING.issuperset(commands) and commands:
            return
        if not self._asking:
            self._wire.trips += 1
        self._asking = True
        self._wire.commands += commands

    def down(self, data: bytes) -> None:
        self._asking = False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: object) -> None:
    assert callable(seen)
    with suppress(OSError):
        while data := await reader.read(1 << 20):
            seen(data)
            writer.write(data)
            await writer.drain()
