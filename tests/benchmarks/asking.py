"""A web process asked without sockets, for growing.py: its server's own protocol gets requests as bytes.

What is left out is the kernel's; parsing, routing and writing are those of the service.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from asgi_app import asgi
from asgi_app.running.protocol import Protocol
from cache_layer import metrics

_REQUEST = b"GET /api/v1/resources/bench.page?n=%d HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n\r\n"


class Front:
    """Some connections to the service of this process."""

    def __init__(self) -> None:
        config = uvicorn.Config(
            asgi.application, lifespan="off", log_config=None, access_log=False, server_header=False
        )
        self._config, self._state = config, ServerState()
        self._second = 0

    async def ask(self, numbers: Iterable[int], connections: int) -> None:
        """One request after the other on each connection.  Raises AssertionError unless the front answers them all."""
        before, asked = metrics.events["answered before Django"], iter(numbers)
        open_ = [_Connection(self._config, self._state) for _ in range(connections)]
        await asyncio.gather(*(self._ask(connection, asked) for connection in open_))
        answered = sum(connection.answered for connection in open_)
        assert metrics.events["answered before Django"] - before == answered, "Django was asked"

    async def ask_some(self, size: int, count: int, connections: int) -> None:
        """As `ask`, for keys below `size`, by a uniform law."""
        await self.ask((random.randrange(size) for _ in range(count)), connections)

    async def _ask(self, connection: _Connection, numbers: Iterator[int]) -> None:
        for n in numbers:
            second = int(time.monotonic())
            if second != self._second:  # as the server does it
                self._second, self._state.default_headers = second, [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
            await connection.ask(n)
        connection.protocol.connection_lost(None)


class _Connection:
    """The transport of one, which takes everything at once."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        self.answered = 0
        self._came = asyncio.Event()
        self.protocol = Protocol(asgi.front, config=config, server_state=state, app_state={})
        self.protocol.connection_made(self)  # type: ignore[arg-type]

    async def ask(self, n: int) -> None:
        before = self.answered
        self._came.clear()
        self.protocol.data_received(_REQUEST % n)
        if self.answered == before:
            await self._came.wait()

    def write(self, answer: bytes) -> None:
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        self.answered += 1
        self._came.set()

    def get_extra_info(self, name: str) -> Any:
        return None

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""

    def close(self) -> None:
        """The service closes none that is asked."""
