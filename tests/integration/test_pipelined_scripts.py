"""Scripts that may run twice as well as once, on the connection that all questions of a turn of the loop share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as aioredis

from cache_layer.errors import StoreUnavailable
from cache_layer.redis import Store
from tests.support.jobs import Jobs
from tests.support.keys import key
from tests.support.store import StoreServer
from tests.support.wire import Wire

MANY = 60


@pytest.fixture
async def client(store: Store, store_server: StoreServer, namespace: str) -> AsyncIterator[aioredis.Redis]:
    """Another client; it removes the jobs, which nobody has done, before `store` looks for what is left."""
    made = aioredis.Redis.from_url(store_server.url)
    yield made
    left = [name async for name in made.scan_iter(f"*{{{namespace}}}*")]
    if left:
        await made.delete(*left)
    await made.aclose()


async def test_the_submits_of_a_turn_are_one_round_trip(
    client: aioredis.Redis, store_server: StoreServer, namespace: str, tmp_path: Path
) -> None:
    async with Wire(store_server.socket, tmp_path / "wire.sock") as wire:
        store = Store(wire.url, namespace, deadline=5.0)
        jobs = Jobs(store)
        await jobs.submit(key("first"), "first")
        wire.forget()
        found = await asyncio.gather(*(jobs.submit(key(f"k{n}"), f"job{n}") for n in range(MANY)))
        assert [(each.what, each.job_id) for each in found] == [("created", f"job{n}") for n in range(MANY)]
        assert wire.trips == 1
        await store.close()


async def test_a_store_that_has_forgotten_its_scripts(client: aioredis.Redis, store: Store) -> None:
    """As one that was restarted: they are told to it once more."""
    jobs = Jobs(store)
    assert (await jobs.submit(key("a"), "one")).what == "created"
    await client.script_flush()
    assert (await jobs.submit(key("b"), "two")).what == "created"
    assert (await jobs.submit(key("b"), "three")).job_id == "two"
    assert not store.suspect


async def test_a_connection_that_is_lost_makes_no_job_twice_and_loses_none(
    client: aioredis.Redis, store: Store
) -> None:
    """Whether the store has carried it out before or not: a second time changes nothing."""
    jobs = Jobs(store)
    for turn in range(5):
        await jobs.submit(key("first"), "first")  # by now it has noticed the loss before: each is met by one
        names = [f"job-{turn}-{n}" for n in range(MANY // 5)]
        asking = [asyncio.create_task(jobs.submit(key(name), name)) for name in names]
        for _ in range(turn + 1):
            await asyncio.sleep(0)
        await client.client_kill_filter(_type="normal", skipme=True)
        assert [(await task).job_id for task in asking] == names
    assert await client.llen(jobs.messages()) == MANY + 1
    taken = [ticket.job_id for _ in range(MANY + 2) if (ticket := await jobs.take())]
    assert len(taken) == len(set(taken)) == MANY + 1


async def test_who_is_cancelled_has_submitted_all_the_same(client: aioredis.Redis, store: Store) -> None:
    """And nobody gets an answer that is another's."""
    jobs = Jobs(store)
    asking = [asyncio.create_task(jobs.submit(key(f"k{n}"), f"job{n}")) for n in range(MANY)]
    await asyncio.sleep(0)
    for task in asking[::2]:
        task.cancel()
    assert [(await task).job_id for task in asking[1::2]] == [f"job{n}" for n in range(1, MANY, 2)]
    assert [(await jobs.submit(key(f"k{n}"), "late")).job_id for n in range(0, MANY, 2)] == [
        f"job{n}" for n in range(0, MANY, 2)
    ]


async def test_a_refusal_of_the_store_is_told(client: aioredis.Redis, store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="refused"):
        await store.repeatable("admit", [], ["only one argument"])
    assert not store.suspect
