"""Whatever happens between, a client ends where the server is, and was told of every hole.

Several web processes, each with its own connection to a real store; schedules of publications, drops, slow reading, and
connections to the store that are cut, killed and held up.  A seed draws the schedule: `LIVE_SEEDS=300` plays more of
them than a build has time for.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis

import asgi_app
from asgi_app import publishing
from asgi_app.registry import log, registry, resource
from asgi_app.wiring import Node
from cache_layer.errors import StoreUnavailable
from consumers.hub import Hub
from tests.chaos.push import books
from tests.chaos.push.books import Kind
from tests.support.direct import Client, process
from tests.support.paged import a_node
from tests.support.proxy import DOWN, Proxy
from tests.support.store import StoreServer
from tests.support.watcher import eventually

pytestmark = [
    # What a proxy cuts in the moment it is made, asyncio gives to nobody.
    pytest.mark.filterwarnings("ignore:unclosed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
#: How many, or from which to which.
SEEDS = range(*map(int, os.environ.get("LIVE_SEEDS", "8").split("-")))
TOPICS: dict[str, Kind] = {"p.long": "log", "p.short": "log", "p.value?name=a": "value", "p.value?name=b": "value"}
_STEPS, _CLIENTS, _PROCESSES = 120, 8, 3
_SETTLED = 40.0


class Stage:
    """Three web processes and what happens to them."""

    def __init__(self, node: Node, hubs: list[Hub], proxies: list[Proxy], client: Any, dice: random.Random) -> None:
        self.node, self.hubs, self.proxies, self.store, self.dice = node, hubs, proxies, client, dice
        self.clients = [Client(f"client {number}", self._some_topics()) for number in range(_CLIENTS)]
        #: topic -> (epoch, offset) -> number, and the last number.
        self.published: dict[str, dict[tuple[str, int], int]] = {"p.long": {}, "p.short": {}}
        self.numbers: dict[str, int] = {}

    def _some_topics(self) -> dict[str, Kind]:
        return {topic: TOPICS[topic] for topic in self.dice.sample(list(TOPICS), 2)}

    async def play(self, steps: int) -> None:
        for client in self.clients:
            client.connect(self.dice.choice(self.hubs))
        acts: dict[Callable[[], Awaitable[None]], int] = {
            self.publish: 40, self.write: 10, self.drop: 12, self.come_back: 16, self.stall: 6, self.read_on: 8,
            self.kill_feeds: 3, self.cut: 2, self.hold: 3, self.heal: 5, self.wait: 15,
        }  # fmt: skip
        for act in self.dice.choices(list(acts), list(acts.values()), k=steps):
            await act()

    async def publish(self) -> None:
        topic = self.dice.choice(list(self.published))
        for _ in range(self.dice.choice((1, 1, 2, 9))):
            number = self.numbers[topic] = self.numbers.get(topic, 0) + 1
            try:
                position = await publishing.publish(topic, {"n": number})
            except StoreUnavailable:  # a busy machine: it may have been published or not
                continue
            assert position is not None
            self.published[topic][position.epoch, position.offset] = number

    async def write(self) -> None:
        name = self.dice.choice("ab")
        values[name] += self.dice.choice((0, 1, 1))
        soft = self.dice.random() < 0.5
        for _ in range(5):
            with suppress(StoreUnavailable):
                await asgi_app.ainvalidate(f"p.{name}", soft=soft)
                break

    async def drop(self) -> None:
        self.dice.choice(self.clients).drop()

    async def come_back(self) -> None:
        for client in self.clients:
            if client.line is None and self.dice.random() < 0.7:
                client.connect(self.dice.choice(self.hubs))

    async def stall(self) -> None:
        self.dice.choice(self.clients).reads.clear()

    async def read_on(self) -> None:
        self.dice.choice(self.clients).reads.set()

    async def kill_feeds(self) -> None:
        await self.store.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def cut(self) -> None:
        await asyncio.to_thread(self.dice.choice(self.proxies).cut)

    async def hold(self) -> None:
        await asyncio.to_thread(self.dice.choice(self.proxies).hold, DOWN)

    async def heal(self) -> None:
        for proxy in self.proxies:
            await asyncio.to_thread(proxy.heal)

    async def wait(self) -> None:
        await asyncio.sleep(self.dice.choice((0.0, 0.001, 0.01, 0.05)))

    async def settle(self) -> None:
        """Everything works again, and everybody is there."""
        await self.heal()
        for client in self.clients:
            client.reads.set()

        await eventually(self._all_there, "everybody is back", within=_SETTLED)

    def _all_there(self) -> bool:
        for client in self.clients:
            if client.line is None:
                client.connect(self.dice.choice(self.hubs))
        return all(client.whole for client in self.clients)

    async def judge(self) -> None:
        """Everybody stands where the store does, and the books are clean."""
        wrong: list[str] = []
        for topic, published in self.published.items():
            page = await self.node.history.read(topic, ttl=60.0)
            records = {one.name: one.records[topic] for one in self.clients if topic in one.records}
            top = (page.epoch, page.top)
            await self._until(partial(_stand, records, top), topic)
            wrong += books.behind(records, top) + books.audit(records, published, losses=topic == "p.short")
        for name, value in values.items():
            topic = f"p.value?name={name}"
            following = [one for one in self.clients if topic in one.records]
            right = partial(_show, following, topic, [{"n": value}])
            await self._until(right, topic)
            if not right():
                wrong.append(f"{topic}: {[one.view[topic] for one in following]} are shown, and it is {value}")
            wrong += books.audit({one.name: one.records[topic] for one in following}, {}, losses=False)
        assert not wrong, "\n".join(wrong)

    async def _until(self, condition: Callable[[], bool], topic: str) -> None:
        with suppress(AssertionError):  # who is wrong is said by name
            await eventually(lambda: self._all_there() and condition(), topic, within=_SETTLED)


def _stand(records: dict[str, books.Record], top: tuple[str, int]) -> bool:
    return not books.behind(records, top)


def _show(clients: list[Client], topic: str, content: list[Any]) -> bool:
    return all(client.view[topic] == content for client in clients)


values = {"a": 0, "b": 0}


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    """What is followed here."""
    with registry.isolated():
        log("p.long", access="public", history=1000, ttl=600)
        log("p.short", access="public", history=5, ttl=600)

        @resource("p.value", offload=False, fresh=600, tags=lambda params: (f"p.{params.name}",), refresh="watched")
        async def value(name: str) -> dict[str, int]:
            """What stands there, read before something takes its time."""
            found = values[name]
            await asyncio.sleep(0.002)
            return {"n": found}

        values.update(a=0, b=0)
        yield


async def anew(node: Node) -> None:
    """Nothing is left of the seed before, as soon as a busy machine lets the store answer."""
    names = node.store.names
    while True:
        try:
            await node.store.command("DEL", *(names.stream_position(topic) for topic in ("p.long", "p.short")))
            await asgi_app.ainvalidate_all()
            return
        except StoreUnavailable:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_clients_end_where_the_server_is(
    seed: int, store_server: StoreServer, tmp_path: Path
) -> None:
    """And were told of every hole, of nothing twice, and of nothing out of order."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(a_node())
        node.store._deadline = 5.0  # a busy machine is no store that is away
        # Topics and their positions are those of this seed alone.
        await anew(node)
        proxies = [
            stack.enter_context(Proxy(store_server.socket, tmp_path / f"{number}")) for number in range(_PROCESSES)
        ]
        hubs = [await stack.enter_async_context(process(node, proxy.url)) for proxy in proxies]
        client = await stack.enter_async_context(aioredis.Redis.from_url(store_server.url))
        stage = Stage(node, hubs, proxies, client, random.Random(seed))
        try:
            await stage.play(_STEPS)
            await stage.settle()
            await stage.judge()
        finally:
            for one in stage.clients:
                await one.leave()
