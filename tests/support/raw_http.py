"""A server on loopback, and what it says byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from tests.support.service import free_port


@asynccontextmanager
async def serving(application: Any, http: Any = "httptools", keep_alive: int = 75) -> AsyncIterator[int]:
    """The port of a server as `millpond web` has one; `http`: its protocol; `keep_alive` in seconds."""
    number = free_port()
    config = uvicorn.Config(
        application,
        http=http,
        port=number,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=keep_alive,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield number
    server.should_exit = True
    await running


async def exchange(port: int, request: bytes) -> bytes:
    """Everything the server says to `request`, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return said


def without_date(said: bytes) -> bytes:
    """A second may end between two answers."""
    return b"\r\n".join(line for line in said.split(b"\r\n") if not line.startswith(b"date: "))
