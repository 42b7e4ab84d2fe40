"""Clients without sockets in the process that is measured: what growing.py publishes to.

Each is a `consumers.connection.Connection` with all its parts, whose transport only counts what it is given.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from consumers.connection import Connection
from consumers.hub import hub
from consumers.transport import Port

#: What is published, and how it is known again in whatever frames.
PAD = "x" * 440
_MARK = PAD.encode()
#: Clients that come, or publications under way, at once.
AT_ONCE = 16
#: Seconds anything may take.
_WITHIN = 60.0


async def in_turns(works: Iterable[Coroutine[Any, Any, Any]], at_once: int = AT_ONCE) -> None:
    """Some at once; the first that fails ends all."""
    queue = iter(works)

    async def take() -> None:
        for work in queue:
            await work

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(take())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes soon."""
    async with asyncio.timeout(_WITHIN):
        while not condition():
            await asyncio.sleep(0.01)


class _Socket:
    """Where messages go that are framed already: a transport that is never full."""

    __slots__ = ("_audience",)

    def __init__(self, audience: Audience) -> None:
        self._audience = audience

    def write(self, message: bytes) -> None:
        self._audience.heard(message.count(_MARK))

    def get_write_buffer_size(self) -> int:
        return 0


class Client:
    """A `consumers.transport.Transport`: counts what it hears."""

    kind, glue, pong = "bench", "\n", False
    greeting: Mapping[str, str] = {}
    scope: Mapping[str, Any] = {"type": "websocket", "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1)}

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._subscribed = 0
        #: Ids of commands the service was too busy for.
        self._refused: list[int] = []
        self.port = Port(_Socket(audience))
        self.connection = Connection(self, hub())

    async def send(self, text: str) -> None:
        if '"error"' in text:
            replies = [json.loads(line) for line in text.splitlines()]
            self._refused += [reply["id"] for reply in replies if "error" in reply]
        self._subscribed += text.count('"subscribe"')
        self._audience.heard(text.count(PAD))

    def write(self, message: bytes) -> bool:
        self._audience.heard(message.count(_MARK))
        return True

    def refused(self) -> None:
        self._audience.failed("a client was refused")

    async def end(self, code: Any) -> None:
        self._audience.failed(f"a client was told {code}")

    def abort(self) -> None:
        self._audience.failed("a client was cut")

    async def follow(self, topics: range) -> None:
        """Connect, and wait until all of them are confirmed.

        The service ends who is silent for seconds after it has come (3502), so nobody comes before it is its turn.
        """
        self.connection.open()
        self.connection.receive('{"id":1,"connect":{}}')
        wanted = [2 + n for n in topics]
        while wanted:
            for number in wanted:
                self.connection.receive(json.dumps({"id": number, "subscribe": {"channel": f"log:{number - 2}"}}))
                await self.connection.ready()
            await until(lambda: self._subscribed + len(self._refused) == len(topics) or bool(self._audience.failure))
            self._audience.check()
            wanted, self._refused = self._refused, []


class Audience:
    """Clients, and what they have still to hear."""

    def __init__(self) -> None:
        #: Why a client was lost; nothing that is measured after that means anything.
        self.failure = ""
        self._clients: list[Client] = []
        self._missing = 0
        self._complete = asyncio.Event()

    def __len__(self) -> int:
        return len(self._clients)

    def heard(self, times: int) -> None:
        self._missing -= times
        if times and self._missing <= 0:
            self._complete.set()

    def failed(self, why: str) -> None:
        self.failure = self.failure or why
        self._complete.set()

    def check(self) -> None:
        """Raises AssertionError when a client was lost."""
        assert not self.failure, self.failure

    async def come(self, topics: list[range]) -> None:
        """One client for each range of topics."""
        coming = [Client(self) for _ in topics]
        await in_turns(client.follow(those) for client, those in zip(coming, topics, strict=True))
        self._clients += coming

    async def tell(self, topics: list[int], each: int, *, together: bool) -> None:
        """Publish on topics, `together` or one after the other; each is heard by `each` clients."""
        from asgi_app.wiring import node

        history, data = node().history, json.dumps(PAD).encode()
        step = len(topics) if together else 1
        for begin in range(0, len(topics), step):
            now = topics[begin : begin + step]
            self._missing, self._complete = len(now) * each, asyncio.Event()
            await in_turns(history.append(f"log:{n}", data, size=100, ttl=60) for n in now)
            await self._complete.wait()
            self.check()

    async def go(self) -> None:
        """All of them leave."""
        await asyncio.gather(*(client.connection.over() for client in self._clients))
        await hub().stop()
