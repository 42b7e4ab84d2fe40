"""A value is stored under its lease, versioned by its bytes, and told to everyone who listens."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

import pytest

from cache_layer.cache import Begun, Cache, Committed
from cache_layer.feed import Feed
from cache_layer.keys import Key
from cache_layer.outdated import of_tags
from cache_layer.publication import TRAVEL_LIMIT, Changed, Publication, Value
from cache_layer.redis import Store
from tests.support.keys import key

TOKEN = "here:one"


@pytest.fixture
def cache(store: Store) -> Cache:
    return Cache(store)


@pytest.fixture
async def feed(store: Store) -> AsyncIterator[Feed]:
    made = Feed(store.url)
    await made.start()
    yield made
    await made.stop()


async def commit(cache: Cache, what: Key, begun: Begun, payload: bytes) -> Committed:
    """End what was begun with a value."""
    return await cache.commit(
        what,
        payload,
        holder=TOKEN,
        tag_versions=begun.tag_versions,
        compute_seconds=0.01,
        computed_at=time.time(),
        luck=0.5,
    )


async def fill(cache: Cache, what: Key, payload: bytes, *, force: bool = False) -> Committed:
    """Compute `what` in this process."""
    found = await cache.lookup(what)
    begun = await cache.begin(what, seen=found.nonce, token=TOKEN, lease=5.0, force=force)
    assert begun.what == "begun"
    return await commit(cache, what, begun, payload)


async def test_a_committed_value_is_found_with_its_age_and_position(cache: Cache) -> None:
    """What was committed is read back in one look-up, with version and freshness."""
    what = key(tags=("sales", "region"), fresh=10, stale=20, stale_if_error=30)
    committed = await fill(cache, what, b'{"n":1}')
    found = await cache.lookup(what)
    assert found.entry is not None
    assert found.entry.payload == b'{"n":1}'
    assert found.entry.position == committed.position
    assert committed.position.offset == 1
    assert found.entry.fresh == 10
    assert found.entry.life == 40
    assert 0 <= found.age < 5


async def test_identical_bytes_keep_the_version(cache: Cache) -> None:
    """Computed again with the same result, the version stays; with another, it grows by one."""
    what = key()
    first = await fill(cache, what, b"[1]")
    again = await fill(cache, what, b"[1]", force=True)
    other = await fill(cache, what, b"[2]", force=True)
    assert again.position == first.position
    assert (other.position.epoch, other.position.offset) == (first.position.epoch, first.position.offset + 1)


async def test_a_version_outlives_its_entry(cache: Cache) -> None:
    """An entry that is lost comes back under the same version if its bytes are the same."""
    what = key()
    first = await fill(cache, what, b"[1]")
    await cache.store.command("UNLINK", cache.names.entry(what))
    again = await fill(cache, what, b"[1]")
    assert again.position == first.position


async def test_loss_of_the_store_starts_a_new_epoch(cache: Cache) -> None:
    """After everything is lost no old position is mistaken for a new one."""
    what = key()
    first = await fill(cache, what, b"[1]")
    await cache.store.command("UNLINK", cache.names.entry(what), cache.names.version(what))
    again = await fill(cache, what, b"[2]")
    assert again.position.epoch != first.position.epoch


async def test_only_one_may_compute(cache: Cache) -> None:
    """While one holds the lease of a key, nobody else gets it; asking again with the same token is no other."""
    what = key()
    assert (await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)).what == "begun"
    assert (await cache.begin(what, seen=b"", token="here:two", lease=5.0)).what == "busy"
    assert (await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)).what == "begun"


async def test_a_lease_is_let_go_by_its_holder_only(cache: Cache) -> None:
    """Who ends without a value frees the key at once; a foreign token neither prolongs nor frees it."""
    what = key()
    await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)
    assert not await cache.hold(what, "here:two", 0)
    assert await cache.hold(what, TOKEN, 9.0)
    assert await cache.store.command("PTTL", cache.names.lease(what)) > 5000
    assert await cache.hold(what, TOKEN, 0)
    assert (await cache.begin(what, seen=b"", token="here:two", lease=5.0)).what == "begun"


async def test_who_judged_an_older_entry_reads_again(cache: Cache) -> None:
    """A computation is not begun over an entry that the asker has not seen."""
    what = key()
    await fill(cache, what, b"[1]")
    assert (await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)).what == "hit"


async def test_a_commit_without_the_lease_stores_nothing(cache: Cache) -> None:
    """Who has lost the lease is refused, and what the new holder does stays."""
    what = key()
    begun = await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)
    await cache.store.command("UNLINK", cache.names.lease(what))
    late = await commit(cache, what, begun, b"[0]")
    assert late.what == "revoked"
    assert (await cache.lookup(what)).entry is None


async def test_the_lease_of_a_job_that_is_no_more_is_free(cache: Cache) -> None:
    """Its record was evicted: nobody will ever let go of the key, so whoever comes takes it."""
    what = key()
    await cache.store.command("SET", cache.names.lease(what), "0190-gone", "PX", 60_000)
    assert (await fill(cache, what, b"[0]")).what == "stored"


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
async def test_no_value_survives_the_invalidation_of_its_tag(cache: Cache, when: str) -> None:
    """A reader that started before an invalidation cannot fill the key, and a filled key is outdated by it."""
    what = key(tags=("sales",))
    begun = await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)
    if when == "before the commit":
        await cache.invalidate(of_tags("sales"))
    committed = await commit(cache, what, begun, b"[0]")
    if when == "after the commit":
        await cache.invalidate(of_tags("sales"))
    assert committed.what == ("superseded" if when == "before the commit" else "stored")
    assert (await cache.lookup(what)).entry is None
    assert (await fill(cache, what, b"[1]")).what == "stored"


async def test_a_lost_tag_invalidates(cache: Cache) -> None:
    """A tag version that the store has evicted outdates its values: eviction fails safe."""
    what = key(tags=("sales",))
    await fill(cache, what, b"[1]")
    await cache.store.command("UNLINK", cache.names.tag("sales"))
    assert (await cache.lookup(what)).entry is None


async def test_foreign_bytes_are_a_miss(cache: Cache) -> None:
    """Bytes that are no entry of ours are nothing, and are replaced."""
    what = key()
    for rubbish in (b"", b"x", b"\x80\x04rubbish" * 20, b"12345678" * 30):
        await cache.store.command("SET", cache.names.entry(what), rubbish, "PX", 60000)
        found = await cache.lookup(what)
        assert found.entry is None
        begun = await cache.begin(what, seen=found.nonce, token=TOKEN, lease=5.0)
        assert begun.what == "begun"
        await cache.fail_in_place(what, b"{}", token=TOKEN)
        await cache.store.command("UNLINK", cache.names.failure(what))


async def test_a_failure_is_remembered_for_a_while(cache: Cache) -> None:
    """After a failure nobody computes again until it is forgotten, which its own time sees to."""
    what = key(error_ttl=60)
    await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)
    await cache.fail_in_place(what, b'{"type":"x"}', token=TOKEN)
    assert (await cache.lookup(what)).failure == b'{"type":"x"}'
    assert (await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)).what == "failed"
    assert 0 < await cache.store.command("PTTL", cache.names.failure(what)) <= 60_000
    await cache.store.command("UNLINK", cache.names.failure(what))
    assert (await cache.begin(what, seen=b"", token=TOKEN, lease=5.0)).what == "begun"


async def test_everyone_who_listens_hears_a_commit(cache: Cache, feed: Feed) -> None:
    """The publication carries the entry as it lies in the store; a big one only says that there is something."""
    what = key()
    heard: list[Publication | None] = []
    await feed.subscribe(cache.names.channel(what), lambda message: heard.append(cache.parse(what.digest, message)))
    committed = await fill(cache, what, b'"small"')
    await fill(cache, what, b'"' + secrets.token_urlsafe(TRAVEL_LIMIT).encode() + b'"', force=True)
    while len(heard) < 2:
        await asyncio.sleep(0.01)
    assert isinstance(heard[0], Value)
    assert heard[0].entry.position == committed.position
    assert heard[0].entry.payload == b'"small"'
    assert heard[1] == Changed()


async def test_an_empty_topic_has_an_epoch_that_lasts(cache: Cache) -> None:
    """The epoch told before the first value is the epoch of the first value."""
    what = key()
    before = await cache.position(what)
    committed = await fill(cache, what, b"[1]")
    assert (before.epoch, before.offset) == (committed.position.epoch, 0)
    assert await cache.position(what) == committed.position
