"""`websockets.broadcast`: what Python can do at the most with sockets that get the same message.

python -m tests.benchmarks.rivals.broadcast PORT CONTROL_PORT        a line to the control port is a message to all
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from tests.benchmarks.crowd import MESSAGE

_everybody: set[ServerConnection] = set()
_TEXT = '{"push":{"channel":"log:crowd","pub":{"data":"' + MESSAGE + '","offset":1}}}'


async def _connected(connection: ServerConnection) -> None:
    _everybody.add(connection)
    try:
        await connection.wait_closed()
    finally:
        _everybody.discard(connection)


async def _control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readline():
        broadcast(_everybody, _TEXT)
    writer.close()


async def main(port: int, control: int) -> None:
    """Serve for ever."""
    await asyncio.start_server(_control, "127.0.0.1", control)
    async with serve(_connected, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
