"""For every kind of write: what a client had, and what it was told since, is what a new client is shown.

Two followers at two web processes see the write; a third one comes after it and is given a fresh snapshot.  A log is
read anew from the position at which the followers began.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import redis.asyncio as aioredis
from django.contrib.auth import get_user_model

import asgi_app
from asgi_app import publishing
from asgi_app.env import env
from asgi_app.notices import mark_read
from asgi_app.registry import Principal, log, registry, resource
from asgi_app.wiring import Node
from consumers.connections import Connections
from consumers.hub import Hub
from tests.chaos.push.books import Kind
from tests.support.clients.claims import minted
from tests.support.direct import Client, process
from tests.support.jobs import PROBLEM, Jobs
from tests.support.paged import a_node
from tests.support.store import StoreServer
from tests.support.watcher import eventually

_WITHIN = 30.0
_VALUE, _LOG = "w.value", "w.log"


@dataclass
class World:
    """What is written to."""

    node: Node
    hubs: list[Hub]
    store: Any
    value: Any = 0
    fails: bool = False
    clients: list[Client] = field(default_factory=list)

    async def follower(self, hub: Hub, topic: str, kind: Kind, *, token: str = "", by_server: bool = False) -> Client:
        client = Client(f"client {len(self.clients)}", {topic: kind}, token, (topic,) if by_server else ())
        self.clients.append(client)
        client.connect(hub)
        await eventually(lambda: client.whole, f"{client.name} follows {topic}", within=_WITHIN)
        return client

    async def compare(self, topic: str, kind: Kind, followers: list[Client], **how: Any) -> None:
        """Until the followers show what a new client is shown; at both processes."""
        for hub in self.hubs:
            fresh = await self.follower(hub, topic, kind, **how)
            for one in followers:

                def equal(one: Client = one, fresh: Client = fresh) -> bool:
                    here, there = one.records[topic], fresh.records[topic]
                    return here.position == there.position and (kind == "log" or one.view[topic] == fresh.view[topic])

                await eventually(equal, f"{one.name} shows {one.view[topic]}, not {fresh.view[topic]}", within=_WITHIN)
                assert not one.records[topic].wrong, one.records[topic].wrong
            fresh.drop()


@pytest.fixture
async def world(store_server: StoreServer) -> AsyncIterator[World]:
    redis = aioredis.Redis.from_url(store_server.url)
    async with a_node() as node, redis as client, process(node, store_server.url) as other:
        mine = Hub(node.feed, node.cache.invalidations_channel, Connections(1000, 1000))
        made = World(node, [mine, other], client)
        with registry.isolated():
            _declare(made)
            await asgi_app.ainvalidate_all()
            yield made
        for one in made.clients:
            await one.leave()
        await mine.stop()


def _declare(world: World) -> None:
    log(_LOG, access="public", history=50, ttl=60)

    @resource(_VALUE, offload=False, fresh=600, stale=600, tags=("w",), refresh="watched", retries=0, error_ttl=1)
    async def value() -> Any:
        """What the world has."""
        if world.fails:
            raise ValueError("not now")
        return world.value

    @resource("w.job", fresh=600, tags=("w",))
    def job() -> int:
        """Computed by the test itself."""
        raise AssertionError


async def _changed(world: World) -> None:
    world.value = {"n": 5, "text": "ä\n€"}
    await asgi_app.ainvalidate("w")


async def _changed_softly(world: World) -> None:
    world.value = [1, 2]
    await asgi_app.ainvalidate("w", soft=True)


async def _recomputed(world: World) -> None:
    await asgi_app.ainvalidate("w")


async def _refreshed(world: World) -> None:
    world.value = "refreshed"
    await asgi_app.arefresh(_VALUE)


async def _everything(world: World) -> None:
    world.value = "new"
    await asgi_app.ainvalidate_all()


async def _large(world: World) -> None:
    """Too large to travel with its announcement."""
    world.value = "x" * 400_000
    await asgi_app.ainvalidate("w")


async def _twice(world: World) -> None:
    for world.value in (1, 2):
        await asgi_app.ainvalidate("w")


async def _fails(world: World) -> None:
    world.fails = True
    await asgi_app.ainvalidate("w", soft=True)
    await asyncio.sleep(0.1)
    world.fails, world.value = False, "well again"
    await asgi_app.ainvalidate("w")


async def _unheard(world: World) -> None:
    world.value = "unheard"
    await world.store.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await asgi_app.ainvalidate("w")


Write = Callable[[World], Awaitable[None]]


@pytest.mark.parametrize(
    "write",
    [_changed, _changed_softly, _recomputed, _refreshed, _everything, _large, _twice, _fails, _unheard],
    ids=lambda write: write.__name__.strip("_"),
)
async def test_of_a_value(write: Write, world: World) -> None:
    """Its newest content, at its position."""
    followers = [await world.follower(hub, _VALUE, "value") for hub in world.hubs]
    await eventually(lambda: all(one.view[_VALUE] == [0] for one in followers), "there is a value", within=_WITHIN)
    await write(world)
    await eventually(lambda: all(one.view[_VALUE] == [world.value] for one in followers), "it is told", within=_WITHIN)
    await world.compare(_VALUE, "value", followers)


async def _published(world: World) -> None:
    datas: tuple[Any, ...] = ({"n": 1}, "ä\n€", None, [], 0)
    for data in datas:
        await publishing.publish(_LOG, data)


async def _published_large(world: World) -> None:
    await publishing.publish(_LOG, "x" * 400_000)
    await publishing.publish(_LOG, "small")


async def _published_unheard(world: World) -> None:
    await publishing.publish(_LOG, 1)
    await world.store.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await publishing.publish(_LOG, 2)


async def _trimmed(world: World) -> None:
    for n in range(70):
        await publishing.publish(_LOG, n)


async def _begun_anew(world: World) -> None:
    """The store has lost the log."""
    await publishing.publish(_LOG, "old")
    names = world.node.store.names
    await world.node.store.command("DEL", names.stream(_LOG), names.stream_position(_LOG))
    await publishing.publish(_LOG, "new")


@pytest.mark.parametrize(
    "write",
    [_published, _published_large, _published_unheard, _trimmed, _begun_anew],
    ids=lambda write: write.__name__.strip("_"),
)
async def test_of_a_log(write: Write, world: World) -> None:
    """All since the followers began, or since they were told that they begin anew."""
    await publishing.publish(_LOG, "before")
    followers = [await world.follower(hub, _LOG, "log") for hub in world.hubs]
    await write(world)
    await world.compare(_LOG, "log", followers)
    page = await world.node.history.read(_LOG, ttl=60.0)
    kept = [msgspec.json.decode(logged.data) for logged in page.publications]
    for one in followers:
        told = one.view[_LOG]
        assert told[-len(kept) :] == kept[-len(told) :] if told else write is _begun_anew
        assert one.records[_LOG].losses == (write is _begun_anew)


@pytest.mark.django_db(transaction=True)
async def test_of_an_inbox(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every notification, in order; reading them on one device changes nothing for who comes back."""
    user = await get_user_model().objects.acreate(username="ann")
    token, topic = minted(str(user.pk), 600, secret=env().token_secret), f"inbox#{user.pk}"
    followers = [await world.follower(hub, topic, "log", token=token, by_server=True) for hub in world.hubs]
    ids = [await asgi_app.anotify(user, f"first {n}") for n in range(3)]
    await world.store.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    ids += [await asgi_app.anotify(user, f"second {n}", level="success", data={"n": n}) for n in range(3)]
    principal = Principal(
        user_id=str(user.pk), username="ann", scopes=frozenset({"read"}), is_anonymous=False, permissions=frozenset()
    )
    await mark_read(principal, up_to=ids[1])
    await world.compare(topic, "log", followers, token=token, by_server=True)
    away = followers[0]
    away.drop()
    ids.append(await asgi_app.anotify(user, "while away"))
    away.connect(world.hubs[1])
    await world.compare(topic, "log", followers, token=token, by_server=True)
    for one in followers:
        assert [told["id"] for told in one.view[topic]] == ids
        assert not one.records[topic].losses


async def test_of_a_job(world: World) -> None:
    """The job object, after each of its steps."""
    jobs = Jobs(world.node.store)
    found, params = registry.split_topic("w.job")
    key = found.key(params, Principal.public())
    job_id = await asgi_app.arefresh("w.job")
    topic = f"job:{job_id}"
    followers = [await world.follower(hub, topic, "value") for hub in world.hubs]
    try:
        await world.compare(topic, "value", followers)
        ticket = await jobs.take()
        assert ticket is not None
        claim = await jobs.claim(job_id, key, ticket=ticket)
        await world.compare(topic, "value", followers)
        await jobs.beat(job_id, claim.fence, progress=b'{"done":1,"total":2,"percent":50,"note":""}')
        await world.compare(topic, "value", followers)
        await jobs.end(job_id, claim.fence, "failed", problem=PROBLEM)
        await world.compare(topic, "value", followers)
        assert all(one.view[topic][0]["status"] == "failed" for one in followers)
    finally:
        await jobs.clean()
