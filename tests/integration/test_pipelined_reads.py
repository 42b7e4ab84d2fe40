"""Reads on one connection: each answer to its own question, whoever is cancelled, whatever the connection does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as aioredis

from cache_layer import pipeline
from cache_layer.errors import StoreUnavailable
from cache_layer.pipeline import packed
from cache_layer.redis import Store
from tests.support.store import StoreServer
from tests.support.wire import Wire

NAMES = [f"x{number}" for number in range(200)]


@pytest.fixture
async def values(store_server: StoreServer) -> AsyncIterator[None]:
    """A value under each name that is the name."""
    client = aioredis.Redis.from_url(store_server.url)
    await client.mset({name: name for name in NAMES})
    yield
    await client.delete(*NAMES)
    await client.aclose()


def question(name: str) -> bytes:
    return packed(("GET", name), ("STRLEN", name))


async def ask(store: Store, name: str) -> list[object]:
    return await store.read(question(name), 2)


def expected(name: str) -> list[object]:
    return [name.encode(), len(name)]


async def test_the_reads_of_a_turn_are_one_round_trip(store_server: StoreServer, tmp_path: Path, values: None) -> None:
    """However many they are."""
    async with Wire(store_server.socket, tmp_path / "wire.sock") as wire:
        store = Store(wire.url, "t", deadline=5.0)
        assert await ask(store, "x0") == expected("x0")
        wire.forget()
        found = await asyncio.gather(*(ask(store, name) for name in NAMES))
        assert found == [expected(name) for name in NAMES]
        assert wire.trips == 1
        await store.close()


async def test_who_is_cancelled_takes_nobodys_answer(store: Store, values: None) -> None:
    """At any point of the way: what comes for those who have gone is thrown away (CVE-2023-28858, CVE-2023-28859)."""
    for turns in range(6):
        asking = [asyncio.create_task(ask(store, name)) for name in NAMES]
        for _ in range(turns):
            await asyncio.sleep(0)
        for number, task in enumerate(asking):
            if number % 3 == 0:
                task.cancel()
        for number, (task, name) in enumerate(zip(asking, NAMES, strict=True)):
            if number % 3:
                assert await task == expected(name)
    assert await ask(store, "x7") == expected("x7")


async def test_a_refusal_is_one_readers_own(store: Store, values: None) -> None:
    """An error of the store is the answer to one question, and the next answer to the next."""
    found = await asyncio.gather(
        ask(store, "x1"), store.read(packed(("LLEN", "x1"), ("GET", "x1")), 2), ask(store, "x2"), return_exceptions=True
    )
    assert (found[0], found[2]) == (expected("x1"), expected("x2"))
    assert isinstance(found[1], StoreUnavailable)
    assert "WRONGTYPE" in str(found[1])
    assert not store.suspect


async def test_a_connection_that_is_lost_is_made_anew(store: Store, store_server: StoreServer, values: None) -> None:
    """Reads that were on it are asked once more: nobody notices."""
    client = aioredis.Redis.from_url(store_server.url)
    await ask(store, "x0")
    for _ in range(5):
        asking = [asyncio.create_task(ask(store, name)) for name in NAMES]
        await asyncio.sleep(0)
        await client.client_kill_filter(_type="normal", skipme=True)
        assert [await task for task in asking] == [expected(name) for name in NAMES]
    await client.aclose()


async def test_a_store_that_does_not_answer_keeps_nobody_waiting(store_server: StoreServer, values: None) -> None:
    """All are told within the deadline, then at once; and when it answers again, nobody gets an old answer."""
    store = Store(store_server.url, "t", deadline=0.3)
    assert await ask(store, "x0") == expected("x0")
    store_server.freeze()
    try:
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*(ask(store, name) for name in NAMES), return_exceptions=True)
        assert all(isinstance(one, StoreUnavailable) for one in found)
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await ask(store, "x1")
        assert asyncio.get_running_loop().time() - began < 10
    finally:
        store_server.thaw()
    for _ in range(100):
        try:
            assert await ask(store, "x2") == expected("x2")
            break
        except StoreUnavailable:
            await asyncio.sleep(0.05)
    assert await asyncio.gather(*(ask(store, name) for name in NAMES)) == [expected(name) for name in NAMES]
    await store.close()


async def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    """Everybody is told, and the connection can be closed twice and is closed for good."""
    store = Store(f"unix://{tmp_path}/none.sock", "t", deadline=0.5)
    found = await asyncio.gather(*(ask(store, name) for name in NAMES), return_exceptions=True)
    assert all(isinstance(one, StoreUnavailable) for one in found)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await ask(store, "x0")


async def test_no_more_wait_than_fit(
    store: Store, store_server: StoreServer, values: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes when too many wait is refused at once."""
    await ask(store, "x0")
    monkeypatch.setattr(pipeline, "_MOST", 10)
    found = await asyncio.gather(*(ask(store, name) for name in NAMES), return_exceptions=True)
    assert [one for one in found if not isinstance(one, StoreUnavailable)] == [expected(name) for name in NAMES[:10]]
