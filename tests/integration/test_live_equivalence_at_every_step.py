"""Something is published between any two steps of a subscribe, and the client has it once, at its place.

Every task of the process is counted step by step; the test publishes at chosen steps with a client of its own that does
not let the loop go on meanwhile, so that the store is changed exactly there.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

import asgi_app
import cache_layer
from asgi_app.registry import log, registry, resource
from asgi_app.wiring import Node
from consumers.connections import Connections
from consumers.hub import Hub
from tests.chaos.push.books import Record
from tests.support.direct import Client
from tests.support.paged import a_node
from tests.support.store import StoreServer

#: Schedules of each kind of topic.
_SEEDS = {"log": 400, "value": 150} if "LIVE_SEEDS" not in os.environ else {"log": 1000, "value": 300}
_WITHIN = 20.0
#: How often the connection that hears from the store is killed as well: it takes its time to come back.
_KILLED = 0.01


class _Stepped(Coroutine[Any, Any, Any]):
    """A coroutine that tells of each of its steps before it takes it."""

    def __init__(self, work: Coroutine[Any, Any, Any], step: Callable[[], None]) -> None:
        self._work, self._step = work, step

    def send(self, value: Any) -> Any:
        self._step()
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        self._step()
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()


class Steps:
    """Counts the steps of all tasks that are begun within `counted`, and does at some of them what it was told to."""

    def __init__(self) -> None:
        self.count = 0
        self.at: dict[int, list[Callable[[], None]]] = {}
        self._acting = False

    @contextmanager
    def counted(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        self.count = 0
        loop.set_task_factory(self._task)
        try:
            yield
        finally:
            loop.set_task_factory(None)
            for number in sorted(self.at):  # there were fewer steps than that
                self._do(number)

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, **how: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_Stepped(work, self._step), loop=loop, **how)

    def _step(self) -> None:
        if not self._acting:
            self.count += 1
            self._do(self.count)

    def _do(self, number: int) -> None:
        self._acting = True
        try:
            for act in self.at.pop(number, ()):
                act()
        finally:
            self._acting = False


class Store:
    """What others do there, in one moment."""

    def __init__(self, node: Node, client: redis.Redis) -> None:
        self.node, self.client = node, client
        script = Path(cache_layer.__file__).with_name("lua") / "append.lua"
        self._append = client.register_script(script.read_text())

    def publish(self, topic: str, number: int) -> None:
        names = self.node.store.names
        keys = [names.stream(topic), names.stream_position(topic), names.run()]
        args: list[str | int | bytes] = [
            secrets.token_hex(4),
            1000,
            60_000,
            120_000,
            b'{"n":%d}' % number,
            b"",
            b"",
            names.log_channel(topic),
        ]
        self._append(keys, [*args, 262_144])

    def kill_feeds(self) -> None:
        self.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]


values: dict[str, int] = {}


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with registry.isolated():
        log("s.*", access="public", history=1000, ttl=60)

        @resource("s_value", offload=False, fresh=600, tags=lambda params: (f"s.{params.name}",), refresh="watched")
        async def value(name: str) -> dict[str, int]:
            """What stands there, read before something takes its time."""
            found = values.get(name, 0)
            await asyncio.sleep(0)
            return {"n": found}

        yield


@pytest.fixture
async def store(store_server: StoreServer) -> AsyncIterator[Store]:
    async with a_node() as node:
        with redis.Redis.from_url(store_server.url) as client:
            yield Store(node, client)


@pytest.fixture
async def hub(store: Store) -> AsyncIterator[Hub]:
    made = Hub(store.node.feed, store.node.cache.invalidations_channel, Connections(1000, 1000))
    yield made
    await made.stop()


@pytest.mark.timeout(240)
async def test_of_a_log_everything_is_told_once(store: Store, hub: Hub) -> None:
    """Whether its channel is followed here already or not, whoever comes anew or comes back."""
    most = await _steps_of_a_subscribe(hub, "s.measured", "log")
    for seed in range(_SEEDS["log"]):
        dice, topic, steps = random.Random(seed), f"s.{seed}", Steps()
        number = dice.choice((0, 1, 5))
        for n in range(number):
            store.publish(topic, n)
        neighbour, client = Client("neighbour", {topic: "log"}), Client("client", {topic: "log"})
        if dice.random() < 0.5:
            await _comes(hub, neighbour)
        if dice.random() < 0.5:
            await _comes(hub, client)
            client.drop()
            store.publish(topic, number)
            number += 1
        for n in range(number, number + dice.choice((1, 1, 2, 4))):
            at = dice.randint(1, most)
            steps.at.setdefault(at, []).append(partial(store.publish, topic, n))
        if dice.random() < _KILLED:
            steps.at.setdefault(dice.randint(1, most), []).append(store.kill_feeds)
        with steps.counted():
            await _comes(hub, client)
        page = await store.node.history.read(topic, ttl=60.0)
        for one in (client, neighbour) if neighbour.line is not None else (client,):
            record = one.records[topic]
            await _until(partial(_stands, record, (page.epoch, page.top)), f"seed {seed}")
            assert not record.wrong, f"seed {seed}: {record.wrong}"
            assert not record.losses, f"seed {seed}: {one.last}"
            start = record.stretches[0].start
            assert [b'{"n":%d}' % shown["n"] for shown in one.view[topic]] == [
                logged.data for logged in page.publications if logged.offset > start
            ]
        await client.leave()
        await neighbour.leave()


@pytest.mark.timeout(240)
async def test_of_a_value_the_newest_is_shown(store: Store, hub: Hub) -> None:
    """It changes, and is invalidated, while somebody subscribes: what is shown at the end is what is there, once."""
    most = await _steps_of_a_subscribe(hub, "s_value?name=measured", "value")
    doing: set[asyncio.Task[None]] = set()
    for seed in range(_SEEDS["value"]):
        dice, name, steps = random.Random(seed), f"v{seed}", Steps()
        topic, values[name] = f"s_value?name={name}", 0
        client = Client("client", {topic: "value"})
        if dice.random() < 0.5:
            await _comes(hub, client)
            client.drop()

        def change(name: str = name, dice: random.Random = dice) -> None:
            values[name] += dice.choice((0, 1, 1))
            doing.add(asyncio.ensure_future(asgi_app.ainvalidate(f"s.{name}", soft=dice.random() < 0.5)))

        for _ in range(dice.choice((1, 2, 3))):
            steps.at.setdefault(dice.randint(1, most), []).append(change)
        if dice.random() < _KILLED:
            steps.at.setdefault(dice.randint(1, most), []).append(store.kill_feeds)
        with steps.counted():
            await _comes(hub, client)
        await asyncio.gather(*doing)
        doing.clear()
        shows = {"n": values[name]}
        await _until(partial(_shows, client, topic, shows), f"seed {seed}")
        assert not client.records[topic].wrong, f"seed {seed}: {client.records[topic].wrong}"
        await client.leave()


async def _comes(hub: Hub, client: Client) -> None:
    client.connect(hub)
    await _until(lambda: client.whole, f"{client.name} is there")


def _stands(record: Record, top: tuple[str, int]) -> bool:
    return record.position == top


def _shows(client: Client, topic: str, value: Any) -> bool:
    return client.view[topic] == [value]


async def _until(condition: Callable[[], bool], what: str) -> None:
    """As `eventually`, for a thousand short waits."""
    deadline = asyncio.get_running_loop().time() + _WITHIN
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.001)


async def _steps_of_a_subscribe(hub: Hub, topic: str, kind: Any) -> int:
    """How many there are on a channel that nobody follows yet, and a few more."""
    steps, client = Steps(), Client("measuring", {topic: kind})
    with steps.counted():
        client.connect(hub)
        while not client.whole:
            await asyncio.sleep(0)
    await client.leave()
    assert steps.count > 5
    return steps.count + 5
