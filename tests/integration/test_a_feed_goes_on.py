"""Whatever comes over its connection, the feed connects again: a process whose feed has ended is blind for ever."""

from __future__ import annotations

import asyncio

from cache_layer.feed import Feed

#: A message of a channel that cannot be read.
_STRANGE = b"*3\r\n$7\r\nmessage\r\n$1\r\n\xff\r\n$1\r\nx\r\n"


async def test_after_what_nobody_foresaw_it_connects_again() -> None:
    connected: asyncio.Queue[None] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.put_nowait(None)
        while b"SUBSCRIBE" not in (said := await reader.read(4096)) and said:
            writer.write(b"+OK\r\n" * said.count(b"CLIENT"))
        writer.write(_STRANGE)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    feed = Feed(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    feed.attach("a", lambda _: None)
    await feed.start()
    try:
        async with asyncio.timeout(10.0):
            await connected.get()
            await connected.get()
    finally:
        await feed.stop()
        server.close()
        await server.wait_closed()
