"""Subscriptions with deltas: what stock clients tell their applications is what was published, and costs less."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from websockets.asyncio.client import ClientConnection, connect

from tests.e2e.clients.conftest import Make, outside_browsers
from tests.e2e.test_watching import invalidate
from tests.support.clients.stock import Stock, Wanted
from tests.support.service import Service, until
from tests.support.watcher import eventually

WITH_DELTAS = Wanted(delta=True)


def text(number: int) -> str:
    """Long, hardly different from the next, and not in ASCII."""
    return f"№ {number}: {'Рейс задержан 🛫 “JFK → Köln”; ' * 40}{number * 7919}"


class Sourced:
    """A watched resource that says what stands in a file."""

    def __init__(self, service: Service, name: str) -> None:
        self._service, self._name = service, name
        self.topic = f"test.watched?name={name}"

    def write(self, value: str) -> None:
        (self._service.home / f"source-{self._name}").write_text(value)

    async def become(self, value: str) -> None:
        self.write(value)
        await invalidate(self._service, f"source.{self._name}")


@pytest.fixture
def sourced(service: Service, unique: str) -> Sourced:
    return Sourced(service, unique)


async def pushes(client: Stock) -> list[dict[str, Any]]:
    """The publications it was pushed, as they were on the wire."""
    lines = [line for frame in await client.frames() for line in frame.split("\n")]
    messages = [json.loads(line) for line in lines if '"push"' in line]
    return [message["push"]["pub"] for message in messages if "pub" in message["push"]]


async def deltas(client: Stock) -> list[int]:
    """How long the deltas were that it was pushed."""
    return [len(push["data"]) for push in await pushes(client) if push.get("delta")]


@outside_browsers
async def test_a_value_in_any_language_is_told_by_its_difference(make: Make, sourced: Sourced) -> None:
    """The first in whole, the others in a fraction of it; beside it a client without deltas is told the same."""
    with_deltas, plain = await make(), await make()
    await sourced.become(text(0))
    for client, wanted in ((with_deltas, WITH_DELTAS), (plain, Wanted())):
        await client.connected()
        await client.subscribed(sourced.topic, wanted)
        await client.hears(sourced.topic, text(0))
    for number in range(1, 5):
        await sourced.become(text(number))
        for client in (with_deltas, plain):
            await client.hears(sourced.topic, *map(text, range(number + 1)))
    assert with_deltas.offsets(sourced.topic) == plain.offsets(sourced.topic)
    assert len(await deltas(with_deltas)) >= 4
    assert max(await deltas(with_deltas)) < len(text(0)) / 10
    assert all(isinstance(push["data"], str) for push in await pushes(with_deltas))
    assert await deltas(plain) == []


@outside_browsers
async def test_signals_in_between_are_read_as_well(make: Make, unique: str) -> None:
    """Progress has no offset and is kept nowhere; it comes in the same way, and the value after it is right."""
    topic = f"test.slow?name={unique}&seconds=2"
    client = await make()
    await client.connected()
    await client.subscribed(topic, WITH_DELTAS)
    await eventually(lambda: client.values(topic), "the value")
    told = client.of("publication", topic)
    percents = [event.data["percent"] for event in told if event.tags.get("kind") == "progress"]
    assert len(percents) > 2
    assert percents == sorted(percents)
    assert [value["name"] for value in client.values(topic)] == [unique]
    assert [event.offset > 0 for event in told] == [*(False for _ in percents), True]


@outside_browsers
async def test_who_comes_back_is_told_in_whole_and_then_by_differences(make: Make, sourced: Sourced) -> None:
    """The server cannot know what a client holds that was away."""
    client = await make()
    await sourced.become(text(0))
    await client.connected()
    await client.subscribed(sourced.topic, WITH_DELTAS)
    await sourced.become(text(1))
    await client.hears(sourced.topic, text(0), text(1))
    await client.disconnect()
    await sourced.become(text(2))
    await client.connected(2)
    await client.hears(sourced.topic, text(0), text(1), text(2))
    before = len(await deltas(client))
    await sourced.become(text(3))
    await client.hears(sourced.topic, text(0), text(1), text(2), text(3))
    assert len(await deltas(client)) > before


@outside_browsers
async def test_a_log_is_recovered_and_told_in_order(make: Make, unique: str) -> None:
    """Several publications at once in the reply, then live ones; the history itself is plain JSON."""
    topic = f"open.{unique}"
    client, other = await make(), await make()
    said = [{"row": number, "text": text(number)} for number in range(9)]
    await other.connected()
    await client.connected()
    await client.subscribed(topic, WITH_DELTAS)
    for value in said[:3]:
        await other.publish(topic, value)
    await client.hears(topic, *said[:3])
    await client.disconnect()
    for value in said[3:6]:
        await other.publish(topic, value)
    await client.connected(2)
    await client.hears(topic, *said[:6])
    assert (await client.event("subscribed", topic, 2)).recovered
    live = len(await deltas(client))
    for value in said[6:]:
        await client.publish(topic, value)
    await client.hears(topic, *said)
    assert client.offsets(topic) == list(range(1, 10))
    assert len(await deltas(client)) >= live + 3
    assert (await client.history(topic, -1)).data() == said


async def test_a_client_that_reads_late_is_told_the_newest_rightly(service: Service, sourced: Sourced) -> None:
    """What was skipped was no base: the difference is to what was really written."""
    values = [" ".join(map(str, [*range(15_000), *range(turn * 10**5, turn * 10**5 + 15_000)])) for turn in range(60)]
    sourced.write(values[0])
    async with connect(service.websocket, proxy=None, max_size=None, max_queue=1, sock=narrow(service)) as websocket:
        wanted = json.dumps({"channel": sourced.topic, "delta": "fossil"})
        await websocket.send(f'{{"id":1,"connect":{{}}}}\n{{"id":2,"subscribe":{wanted}}}')
        client = Slow(websocket)
        assert await client.next() == values[0]
        for value in values[1:]:
            computed = len(service.ledger())
            await sourced.become(value)
            await asyncio.to_thread(until, lambda before=computed: len(service.ledger()) > before, "it is computed")
        told = [await client.next()]
        while told[-1] != values[-1]:
            told.append(await client.next())
    assert len(told) < len(values) - 1
    assert [values.index(value) for value in told] == sorted(values.index(value) for value in told)
    assert client.deltas >= len(told) - 1


def narrow(service: Service) -> socket.socket:
    """A connection whose buffer takes little."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    made.connect(("127.0.0.1", service.port))
    made.setblocking(False)
    return made


class Slow:
    """A client that reads when it is told to."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._lines: list[str] = []
        self._base = b""
        self.deltas = 0

    async def next(self) -> Any:
        """The next publication."""
        while True:
            for publication in self._publications(await self._line()):
                return self._read(publication)

    async def _line(self) -> str:
        while not self._lines:
            async with asyncio.timeout(20):
                self._lines = str(await self._websocket.recv()).split("\n")
        return self._lines.pop(0)

    def _publications(self, line: str) -> list[dict[str, Any]]:
        message = json.loads(line)
        pushed = message.get("push", {}).get("pub")
        return [pushed] if pushed else message.get("subscribe", {}).get("publications", [])

    def _read(self, publication: dict[str, Any]) -> Any:
        data = publication["data"].encode()
        self.deltas += "delta" in publication
        self._base = bytes(apply_delta(self._base, data)) if publication.get("delta") else data
        return json.loads(self._base)
