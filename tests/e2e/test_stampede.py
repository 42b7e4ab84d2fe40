"""Many readers of one value in the same moment, over four web processes, are one computation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
import redis

from asgi_app.env import load_env
from cache_layer.invalidating import MAX_STALENESS
from tests.support.service import Service

READERS = 200


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Four web processes that hold values of their own, and a worker."""
    running = Service(
        tmp_path_factory.mktemp("four"),
        "--no-demo",
        MILLPOND_APPS="tests.support.app,tests.support.stampede",
        MILLPOND_WEB_PROCESSES="4",
        MILLPOND_WORKER_CONCURRENCY="2",
    ).start()
    yield running
    assert running.stop() == 0


def url(service: Service, kind: str, name: str) -> str:
    return f"{service.url}/api/v1/resources/stampede.{kind}?name={name}"


async def all_at_once(address: str, **headers: str) -> list[httpx.Response]:
    """As many answers as there are readers, each over a connection of its own."""
    limits = httpx.Limits(max_connections=READERS, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=50, limits=limits, headers=headers) as client:
        return await asyncio.gather(*(client.get(address) for _ in range(READERS)))


def computations(service: Service, kind: str, name: str) -> int:
    return service.ledger().count(f"{kind} {name}")


@pytest.mark.parametrize("kind", ["offloaded", "in_place"])
async def test_a_cold_value(four: Service, kind: str) -> None:
    """Nobody has asked for it before: it is computed once, and all get it."""
    name = uuid4().hex[:12]
    answers = await all_at_once(url(four, kind, name), Prefer="wait=40")
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert computations(four, kind, name) == 1


@pytest.mark.parametrize("kind", ["offloaded", "in_place"])
async def test_a_hot_value_that_expires(four: Service, kind: str) -> None:
    """It is refreshed once, behind everybody's back: all are answered with a value, at once."""
    name = uuid4().hex[:12]
    warm = await all_at_once(url(four, kind, name), Prefer="wait=40")
    old = warm[0].content
    grow_old(four, 700)
    await asyncio.sleep(1.2 * MAX_STALENESS)  # the processes' own copies may outlive a change of the store for so long
    answers = await all_at_once(url(four, kind, name), Prefer="wait=0")
    assert {answer.status_code for answer in answers} == {200}
    await refreshed(four, kind, name, old)
    assert len({answer.content for answer in answers} - {old}) <= 1
    assert computations(four, kind, name) == 2


def grow_old(service: Service, seconds: int) -> None:
    """Let all values in its store become so much older."""
    store = redis.Redis.from_url(load_env(service.environment).store_url)
    for entry in store.scan_iter("c:*:e:stampede.*"):
        store.pexpire(entry, store.pttl(entry) - 1000 * seconds)
    store.close()


async def refreshed(service: Service, kind: str, name: str, old: bytes) -> None:
    """Return when the new value is served."""
    async with httpx.AsyncClient(timeout=50) as client, asyncio.timeout(40):
        while (await client.get(url(service, kind, name))).content == old:
            await asyncio.sleep(0.05)
