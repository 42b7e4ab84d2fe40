"""Values in a process's own memory and values in the store are one cache: what happens to the store happens to both.

Also what was invalidated while the store was away: it is sent before this process trusts the store again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cache_layer import invalidating
from cache_layer.cache import Found
from cache_layer.errors import StoreUnavailable
from cache_layer.invalidating import MAX_STALENESS
from cache_layer.keys import Key
from cache_layer.outdated import MOST, Outdated, of_keys, of_tags
from cache_layer.redis import Store
from tests.support.keys import key
from tests.support.processes import Process, copied, fill
from tests.support.proxy import DOWN, Proxy
from tests.support.store import StoreServer
from tests.support.watcher import eventually

WHAT = key("near", tags=("sales",), fresh=1000.0)
#: Seconds by which a slow tracking connection is late: less than a process may serve without proof.
_LATE = 0.3
NEVER = 1e9


@pytest.fixture
def road(store_server: StoreServer, tmp_path: Path) -> Iterator[Proxy]:
    """Between a process and the store."""
    with Proxy(store_server.socket, tmp_path / "road.sock") as proxy:
        yield proxy


@pytest.fixture
async def here(store_server: StoreServer, store: Store, namespace: str) -> AsyncIterator[Process]:
    """A process that invalidates."""
    async with Process(store_server.url, namespace) as made:
        yield made


@pytest.fixture
async def there(store_server: StoreServer, namespace: str, road: Proxy) -> AsyncIterator[Process]:
    """Another one, whose tracking connection goes over the road."""
    async with Process(store_server.url, namespace, tracking=road.url) as made:
        yield made


@pytest.fixture
async def remote(store_server: StoreServer, store: Store, namespace: str, road: Proxy) -> AsyncIterator[Process]:
    """One whose every connection goes over the road."""
    async with Process(road.url, namespace) as made:
        yield made


def payload(found: Found) -> bytes | None:
    return found.entry.payload if found.entry is not None else None


async def last_served(process: Process, value: bytes, until: float) -> float:
    """When the last look-up began that found the value, of those until a time; 0.0: none did."""
    last = 0.0
    while (began := time.monotonic()) < until:
        try:
            if payload(await process.cache.lookup(WHAT)) == value:
                last = began
        except StoreUnavailable:
            pass
        await asyncio.sleep(0)
    return last


async def gone(process: Process, value: bytes) -> None:
    """Return when a look-up no longer finds the value."""
    async with asyncio.timeout(30):
        while await last_served(process, value, time.monotonic() + 0.05):
            pass


# --- between processes on one loop


async def test_what_one_has_invalidated_no_other_serves(here: Process, there: Process, road: Proxy) -> None:
    """Although the other one will be told of the change itself much later."""
    road.delay(DOWN, _LATE)
    for number in range(5):
        await fill(here.cache, WHAT, b"%d" % number)
        await copied(there, WHAT)
        await here.cache.invalidate(of_tags("sales"))
        assert payload(await there.cache.lookup(WHAT)) is None
        assert payload(await here.cache.lookup(WHAT)) is None


async def test_what_was_being_looked_up_is_no_copy(here: Process, there: Process) -> None:
    """A value that was read before an invalidation and arrives after it is given to its reader and not kept."""
    await fill(here.cache, WHAT, b"old")
    look = asyncio.create_task(_held_up(there, here.cache.invalidate(of_tags("sales"))))
    assert payload(await look) == b"old"
    assert payload(await there.cache.lookup(WHAT)) is None


async def _held_up(process: Process, meanwhile: object) -> Found:
    """A look-up whose answer comes after something else has happened."""
    read = process.store.read

    async def slow(commands: bytes, count: int) -> list[object]:
        answer = await read(commands, count)
        process.store.read = read  # type: ignore[method-assign]
        await meanwhile  # type: ignore[misc]
        return answer

    process.store.read = slow  # type: ignore[method-assign]
    return await process.cache.lookup(WHAT)


async def test_a_commit_elsewhere_replaces_a_copy(here: Process, there: Process) -> None:
    """A new value is told like any other change."""
    await fill(here.cache, WHAT, b"old")
    await copied(there, WHAT)
    await fill(here.cache, WHAT, b"new", force=True)
    await gone(there, b"old")
    assert payload(await there.cache.lookup(WHAT)) == b"new"


async def test_a_failure_drops_the_copy(here: Process, there: Process) -> None:
    """A remembered failure is seen by who holds a copy: nothing of one is given out beside it."""
    await fill(here.cache, WHAT, b"old")
    await copied(there, WHAT)
    begun = await here.cache.begin(WHAT, seen=b"", token="here:1", lease=5.0, force=True)
    assert begun.what == "begun"
    await here.cache.fail_in_place(WHAT, b"{}", token="here:1")
    await there.told()
    assert (await there.cache.lookup(WHAT)).failure == b"{}"


# --- an own memory and an own invalidation


async def test_what_was_looked_up_during_an_own_invalidation(
    store_server: StoreServer, store: Store, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read before the invalidation was in the store, so it is not served after it."""
    with (
        Proxy(store_server.socket, tmp_path / "feed.sock") as feed,
        Proxy(store_server.socket, tmp_path / "tracking.sock") as tracking,
    ):
        async with Process(store_server.url, namespace, feed=feed.url, tracking=tracking.url) as process:
            await fill(process.cache, WHAT, b"old")
            await copied(process, WHAT)
            tracking.delay(DOWN, _LATE)
            feed.cut()
            _before_each(process, monkeypatch, lambda: copied_or_none(process))
            await process.cache.invalidate(of_tags("sales"))
            assert payload(await process.cache.lookup(WHAT)) is None


async def copied_or_none(process: Process) -> None:
    """Look until a copy is kept; after a while that is no longer expected."""
    for _ in range(20):
        await process.cache.lookup(WHAT)
        await asyncio.sleep(0.001)


def _before_each(process: Process, monkeypatch: pytest.MonkeyPatch, work: object) -> None:
    """Something happens whenever an invalidation is about to be sent."""
    script = process.store.script
    assert callable(work)

    async def after(name: str, *rest: object) -> object:
        if name == "outdate":
            await work()
        return await script(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(process.store, "script", after)


async def test_a_feed_that_comes_back(
    here: Process, store_server: StoreServer, namespace: str, road: Proxy, tmp_path: Path
) -> None:
    """Copies of before it was lost, or of while it was, are not served after it: nobody waited for this process."""
    with Proxy(store_server.socket, tmp_path / "feed.sock") as feed:
        # Its gate stays open, so that what is served depends on its feed alone.
        async with Process(
            store_server.url, namespace, feed=feed.url, tracking=road.url, max_staleness=600.0
        ) as process:
            await fill(here.cache, WHAT, b"old")
            await copied(process, WHAT)
            road.hold(DOWN)
            feed.cut()
            await only(here, 1)
            await process.cache.lookup(WHAT)
            await here.cache.invalidate(of_tags("sales"))
            feed.heal()
            await eventually(lambda: process.feed.confirmed(process.names.near()), "it hears again")
            assert payload(await process.cache.lookup(WHAT)) is None


async def test_a_feed_that_only_the_store_knows_is_gone(
    here: Process, store_server: StoreServer, namespace: str, road: Proxy, tmp_path: Path
) -> None:
    """A connection that is half open, and that the store has given up: its process believes that it hears.

    It is not waited for.  What remains is the gate: no copy is served for longer than it may be without proof.
    """
    with Proxy(store_server.socket, tmp_path / "feed.sock") as feed:
        before = await feeds(here)
        async with Process(store_server.url, namespace, feed=feed.url, tracking=road.url) as process:
            await fill(here.cache, WHAT, b"old")
            await copied(process, WHAT)
            feed.half_open()
            for number in await feeds(here) - before:
                await here.store.command("CLIENT", "KILL", "ID", number)
            await only(here, 1)
            await copied(process, WHAT)
            road.delay(DOWN, _LATE)
            await here.cache.invalidate(of_tags("sales"))
            outdated = time.monotonic()
            assert await last_served(process, b"old", outdated + 1.5 * MAX_STALENESS) <= outdated + MAX_STALENESS


async def feeds(process: Process) -> set[str]:
    """Numbers of all connections that are subscribed to something."""
    listing: bytes = await process.store.command("CLIENT", "LIST", "TYPE", "pubsub")
    return {line.split()[0].removeprefix("id=") for line in listing.decode().splitlines()}


async def only(process: Process, count: int) -> None:
    """Return when so many processes hear."""
    async with asyncio.timeout(30):
        while (await process.store.command("PUBSUB", "NUMSUB", process.names.near()))[1] != count:
            await asyncio.sleep(0.005)


async def test_softly_without_a_window(here: Process) -> None:
    """A value that may not be served stale is gone, however it is invalidated."""
    for number in range(50):
        what = key(f"windowless{number}", stale=0.0, stale_if_error=0.0)
        await fill(here.cache, what, b"old", luck=0.5 + number / 100)
        await here.cache.invalidate(of_keys(what, soft=True))
        assert payload(await here.cache.lookup(what)) is None


# --- what others do to the store


@pytest.mark.parametrize("what", ["deleted", "replaced"])
async def test_a_foreign_client_outdates_a_tag(
    here: Process, there: Process, road: Proxy, store: Store, what: str
) -> None:
    """No copy outlives by more than the bound what somebody else does to its tag, however late that is told."""
    await fill(here.cache, WHAT, b"old")
    await copied(there, WHAT)
    road.hold(DOWN)
    tag = here.names.tag("sales")
    await (store.command("UNLINK", tag) if what == "deleted" else store.command("SET", tag, "x" * 16, "PX", 60_000))
    outdated = time.monotonic()
    assert 0 < await last_served(there, b"old", outdated + 1.5 * MAX_STALENESS) <= outdated + MAX_STALENESS


async def test_a_foreign_version_of_a_tag_is_replaced(here: Process, store: Store) -> None:
    """What no version of ours can be, such as that of an older release, does not keep values from being stored."""
    await store.command("SET", here.names.tag("sales"), "12345678", "PX", 60_000)
    await fill(here.cache, WHAT, b"new")
    assert payload(await here.cache.lookup(WHAT)) == b"new"


async def test_the_store_is_flushed(own_server: StoreServer, namespace: str) -> None:
    """All copies go with it."""
    async with Process(own_server.url, namespace) as process:
        await fill(process.cache, WHAT, b"old")
        await copied(process, WHAT)
        await process.store.command("FLUSHALL")
        flushed = time.monotonic()
        assert await last_served(process, b"old", flushed + 1.5 * MAX_STALENESS) <= flushed + MAX_STALENESS


async def test_the_store_is_restarted(own_server: StoreServer, namespace: str) -> None:
    """A server that comes back empty has no copies beside it."""
    async with Process(own_server.url, namespace) as process:
        await fill(process.cache, WHAT, b"old")
        await copied(process, WHAT)
        own_server.kill()
        killed = time.monotonic()
        own_server.start()
        assert await last_served(process, b"old", killed + 1.5 * MAX_STALENESS) <= killed + MAX_STALENESS


async def test_another_server_takes_over(remote: Process, road: Proxy, own_server: StoreServer, namespace: str) -> None:
    """After a failover to a server with an older value, no copy of the newer one is served beside it."""
    async with Process(own_server.url, namespace) as replica:
        await fill(replica.cache, WHAT, b"older")
    await fill(remote.cache, WHAT, b"newer")
    await copied(remote, WHAT)
    road.move(own_server.socket)
    moved = time.monotonic()
    assert await last_served(remote, b"newer", moved + 1.5 * MAX_STALENESS) <= moved + MAX_STALENESS
    assert payload(await first_look(remote)) != b"newer"


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[StoreServer]:
    """A store to be emptied and killed."""
    server = StoreServer(tmp_path / "own.sock")
    server.start()
    yield server
    server.stop()


# --- while the store is away


@pytest.fixture
def no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is not sent behind: only who reads sends it."""
    monkeypatch.setattr(invalidating, "_AGAIN", NEVER)


async def unreachable(process: Process, *outdated: Outdated) -> None:
    """Invalidate while the store is away."""
    for one in outdated:
        with pytest.raises(StoreUnavailable):
            await process.cache.invalidate(one)


async def first_look(process: Process, what: Key = WHAT) -> Found:
    """The first look-up that the store answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await process.cache.lookup(what)
            except StoreUnavailable:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["cut", "half_open"])
@pytest.mark.usefixtures("no_replay")
async def test_a_kept_invalidation_goes_before_the_next_look(
    remote: Process, here: Process, road: Proxy, how: str
) -> None:
    """The store is back and still holds what was invalidated meanwhile: it is not served, here nor by others."""
    await fill(here.cache, WHAT, b"old")
    await copied(remote, WHAT)
    await copied(here, WHAT)
    getattr(road, how)()
    await unreachable(remote, of_tags("sales"))
    road.heal()
    assert payload(await here.cache.lookup(WHAT)) == b"old"
    assert payload(await first_look(remote)) is None
    assert payload(await here.cache.lookup(WHAT)) is None
    assert not remote.invalidator.kept


@pytest.mark.usefixtures("no_replay")
async def test_a_frozen_store(own_server: StoreServer, namespace: str) -> None:
    """It answers nothing and forgets nothing."""
    async with Process(own_server.url, namespace) as process:
        await fill(process.cache, WHAT, b"old")
        await copied(process, WHAT)
        own_server.freeze()
        await unreachable(process, of_keys(WHAT))
        own_server.thaw()
        assert payload(await first_look(process)) is None


@pytest.mark.usefixtures("no_replay")
async def test_too_many_kept_names_are_everything(remote: Process, here: Process, road: Proxy) -> None:
    """Beyond the bound all values are outdated instead: nothing is lost but their computation."""
    other = key("other")
    await fill(here.cache, WHAT, b"old")
    await fill(here.cache, other, b"also old")
    road.cut()
    await unreachable(remote, of_tags("sales"), Outdated(tags=frozenset(f"t{n}" for n in range(MOST))))
    assert remote.invalidator.kept == Outdated(everything=True)
    road.heal()
    assert payload(await first_look(remote, other)) is None
    assert payload(await here.cache.lookup(WHAT)) is None


async def test_what_is_kept_is_sent_without_anybody_reading(remote: Process, here: Process, road: Proxy) -> None:
    """For the sake of the other processes."""
    await fill(here.cache, WHAT, b"old")
    await copied(here, WHAT)
    road.cut()
    await unreachable(remote, of_tags("sales"))
    road.heal()
    await gone(here, b"old")
    assert not remote.invalidator.kept


@pytest.mark.usefixtures("no_replay")
async def test_a_copy_made_while_an_invalidation_fails(
    here: Process, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an invalidation could not outdate in the store is not served from memory either."""

    async def fails() -> None:
        await copied_or_none(here)
        raise StoreUnavailable("no answer")

    await fill(here.cache, WHAT, b"old")
    with monkeypatch.context() as meanwhile:
        _before_each(here, meanwhile, fails)
        await unreachable(here, of_tags("sales"))
    assert payload(await here.cache.lookup(WHAT)) is None


@pytest.mark.usefixtures("no_replay")
async def test_a_cancelled_invalidation_is_kept(remote: Process, here: Process, road: Proxy) -> None:
    """Who asked for it has gone, the change it tells of has not."""
    await fill(here.cache, WHAT, b"old")
    road.half_open()
    asking = asyncio.create_task(remote.cache.invalidate(of_tags("sales")))
    await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    with pytest.raises(StoreUnavailable):
        await remote.cache.lookup(WHAT)
    road.heal()
    assert payload(await first_look(remote)) is None
