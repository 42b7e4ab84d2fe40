"""A store may come back with data of an hour ago: from a snapshot, or as a replica that lagged.  None is served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from cache_layer.cache import Cache, Found
from cache_layer.keys import Key
from cache_layer.outdated import of_tags
from cache_layer.redis import Store
from tests.support.keys import key
from tests.support.store import StoreServer

TOKEN = "here:0000000000000000"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    made = StoreServer(tmp_path / "store.sock")
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def plain(server: StoreServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of somebody else's."""
    async with redis.asyncio.Redis.from_url(server.url) as client:
        yield client


async def fill(cache: Cache, what: Key, payload: bytes) -> None:
    begun = await cache.begin(what, seen=b"", token=TOKEN, lease=5.0, force=True)
    done = await cache.commit(
        what, payload, holder=TOKEN, tag_versions=begun.tag_versions, compute_seconds=0.1, computed_at=1.0, luck=0.5
    )
    assert done.what == "stored"


async def snapshot(plain: redis.asyncio.Redis) -> dict[bytes, tuple[bytes, int]]:
    return {name: (await plain.dump(name) or b"", await plain.pttl(name)) async for name in plain.scan_iter("*")}


async def restored(server: StoreServer, saved: dict[bytes, tuple[bytes, int]]) -> None:
    """The server starts anew, with what was saved of the run before."""
    server.kill()
    server.start()
    async with redis.asyncio.Redis.from_url(server.url) as client:
        for name, (data, left) in saved.items():
            await client.restore(name, max(0, left), data)


async def found(server: StoreServer, what: Key) -> Found:
    store = Store(server.url, "older", deadline=2.0)
    try:
        return await Cache(store).lookup(what)
    finally:
        await store.close()


async def test_a_value_that_was_invalidated_does_not_come_back(server: StoreServer, plain: redis.asyncio.Redis) -> None:
    """Its tag would have its old version again; but no version of another run counts."""
    what = key(tags=("sales",))
    store = Store(server.url, "older", deadline=2.0)
    cache = Cache(store)
    await fill(cache, what, b'"old"')
    saved = await snapshot(plain)
    await cache.invalidate(of_tags("sales"))
    assert (await cache.lookup(what)).entry is None
    await store.close()
    await restored(server, saved)
    assert (await found(server, what)).entry is None


async def test_the_same_run_keeps_its_values(server: StoreServer) -> None:
    """A new connection, or a new process, outdates nothing."""
    what = key()
    store = Store(server.url, "older", deadline=2.0)
    await fill(Cache(store), what, b'"kept"')
    await store.close()
    entry = (await found(server, what)).entry
    assert entry is not None
    assert entry.payload == b'"kept"'


async def test_an_offset_is_never_used_twice(server: StoreServer, plain: redis.asyncio.Redis) -> None:
    """Offsets of a restored version were given to other values before; so their epoch is over."""
    what = key()
    store = Store(server.url, "older", deadline=2.0)
    cache = Cache(store)
    await fill(cache, what, b"[1]")
    saved = await snapshot(plain)
    await fill(cache, what, b"[2]")
    before = await cache.position(what)
    await store.close()
    await restored(server, saved)
    store = Store(server.url, "older", deadline=2.0)
    assert (await Cache(store).position(what)).epoch != before.epoch
    await fill(Cache(store), what, b"[3]")
    after = await Cache(store).position(what)
    assert not before.covers(after)
    await store.close()
