"""Values in one of Django's caches, beside a data store that has the jobs and the channels."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.conf import settings as django_settings
from django.core.cache.backends.filebased import FileBasedCache
from django.core.files import locks
from django.db import connections

from asgi_app import stores
from asgi_app.env import Env, env
from asgi_app.environment import addresses
from asgi_app.running import doctor
from asgi_app.stores.raw import add, read
from cache_layer.cache import Begun, Committed
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.keys import Key
from cache_layer.outdated import EVERYTHING, Outdated, of_keys, of_tags
from cache_layer.publication import Changed, Value
from cache_layer.queues import Bell, Limits
from cache_layer.records import Claim, Records
from cache_layer.redis import Store
from tests.support import jobs
from tests.support.keys import key
from tests.support.store import StoreServer
from tests.support.watcher import eventually

BELL = Bell(queue="default", message=b"ding", list="")
KINDS = {"tag": of_tags("sales"), "key": of_keys(key(tags=("sales",))), "everything": EVERYTHING}


class CacheRouter:
    """The table of the cache in a database of the test's own."""

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        return "values" if model._meta.app_label == "django_cache" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:
        return True


@dataclass
class Process:
    """What one process of the service holds."""

    store: Store
    feed: Feed
    cache: stores.OtherCache
    records: Records

    async def job(self, what: Key, *, force: bool = False) -> tuple[str, Claim, tuple[bytes, ...]]:
        """A job of `what`, claimed, its versions captured: id, claim, versions."""
        job_id = f"0190000000000000{random.getrandbits(64):016x}"
        submitted = await self.records.submit(what, job_id=job_id, bell=BELL, seen=b"", force=force)
        assert submitted.what == "created"
        claim, versions = await self.claim(what, job_id)
        return job_id, claim, versions

    async def claim(self, what: Key, job_id: str) -> tuple[Claim, tuple[bytes, ...]]:
        claim = await jobs.claim(self.records, job_id, what, worker="worker")
        assert claim.what == "claimed"
        more = await self.cache.capture(what) if isinstance(self.cache, stores.SharedCache) else ()
        return claim, claim.tag_versions + more

    async def finish(
        self, what: Key, payload: bytes, job_id: str, claim: Claim, versions: tuple[bytes, ...]
    ) -> Committed:
        job = {"job_id": job_id, "fence": claim.fence, "worker": "worker"}
        return await self.commit(what, payload, versions, holder=job_id, **job)

    async def commit(self, what: Key, payload: bytes, versions: tuple[bytes, ...], **more: Any) -> Committed:
        return await self.cache.commit(
            what, payload, tag_versions=versions, compute_seconds=0.1, computed_at=time.time(), luck=0.5, **more
        )

    async def fill(self, what: Key, payload: bytes) -> Committed:
        """Let a worker compute it."""
        return await self.finish(what, payload, *await self.job(what, force=True))

    async def begin(self, what: Key, token: str, *, force: bool = False, **more: Any) -> Begun:
        found = await self.cache.lookup(what)
        return await self.cache.begin(what, seen=found.nonce, token=token, lease=5.0, force=force, **more)

    async def shown(self, what: Key) -> bytes | None:
        found = await self.cache.lookup(what)
        return found.entry.payload if found.entry is not None else None

    def ready(self) -> bool:
        return isinstance(self.cache, stores.SharedCache) or self.feed.confirmed(self.store.names.near())


Start = Callable[[], Awaitable[Process]]


@pytest.fixture(params=["locmem", "file", "database", "dummy"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def table(kind: str, settings: Any, tmp_path: Path, django_db_blocker: Any) -> Iterator[None]:
    """A database of the test's own for the table of the cache, if it is to be in one; it may be made twice."""
    if kind != "database":
        yield
        return
    place = addresses.for_django(addresses.of_file(tmp_path / "values.sqlite3"))
    made = connections.configure_settings({"default": place, "values": place})
    connections.settings["values"] = made["values"]
    settings.DATABASE_ROUTERS = [f"{__name__}.CacheRouter"]
    with django_db_blocker.unblock():
        for _ in range(2):
            stores.make_table(msgspec.structs.replace(env(), cache_store="database"), "values")
        connections["values"].close()
        yield
    del connections["values"]
    del connections.settings["values"]


@pytest.fixture
def caches_of(table: None, settings: Any, tmp_path: Path, namespace: str) -> Callable[[str, int], str]:
    """Makes the cache a process has of a kind; its alias.  What is shared is one, what is private one for each."""

    def make(kind: str, number: int) -> str:
        made, alias = dict(django_settings.CACHES), f"{kind}-{number}"
        made[alias] = {**made[kind]}
        if kind == "locmem":
            made[alias]["LOCATION"] = f"{namespace} {number}"
        elif kind == "file":
            made[alias]["LOCATION"] = str(tmp_path / "cache")
        settings.CACHES = made
        return alias

    return make


@pytest.fixture
async def start(store_server: StoreServer, store: Store, namespace: str, kind: str, caches_of: Any) -> Any:
    """Starts processes of one deployment whose values are kept in a cache of this kind."""
    async with AsyncExitStack() as running:
        numbers = iter(range(9))

        async def begin() -> Process:
            alias = caches_of(kind, next(numbers))
            process = open_process(store_server.url, namespace, alias)
            running.push_async_callback(close_process, process)
            process.cache.invalidator.start()
            await process.feed.start()
            await eventually(process.ready, "it hears")
            return process

        yield begin


def open_process(url: str, namespace: str, alias: str) -> Process:
    settings_: Env = msgspec.structs.replace(env(), cache_store=alias, namespace=namespace)
    store, feed = Store(url, namespace, deadline=2.0), Feed(url)
    return Process(store, feed, stores.open_cache(settings_, store, feed), Records(store, Limits(queue=100)))


async def close_process(process: Process) -> None:
    await process.cache.invalidator.stop()
    process.cache.close()
    await process.feed.stop()
    await process.store.close()


only = pytest.mark.parametrize
SHARED = ["file", "database"]
KEEPING = ["locmem", *SHARED]
WHAT = key(tags=("sales",), fresh=30.0)


@only("kind", KEEPING, indirect=True)
async def test_a_job_s_value_is_found_in_every_process(start: Start) -> None:
    """With its position, which equal bytes keep; and its job is over."""
    web, worker = await start(), await start()
    committed = await worker.fill(WHAT, b'{"n":1}')
    assert committed.what == "stored"
    for process in (web, worker):
        found = await process.cache.lookup(WHAT)
        assert found.entry is not None
        assert (found.entry.payload, found.entry.position, found.failure) == (b'{"n":1}', committed.position, None)
        assert (found.entry.life, found.softened) == (WHAT.policy.life, False)
        assert found.age < 5
    again, other = await worker.fill(WHAT, b'{"n":1}'), await worker.fill(WHAT, b'{"n":2}')
    assert again.position == committed.position
    assert (other.position.epoch, other.position.offset) == (committed.position.epoch, 2)


@only("kind", KEEPING, indirect=True)
async def test_a_hit_asks_no_data_store(start: Start, store_server: StoreServer, namespace: str, kind: str) -> None:
    """It is served while the data store is gone, from memory as far as invalidations are heard."""
    web = await start()
    await web.fill(WHAT, b"1")
    assert await web.shown(WHAT) == b"1"
    await web.store.close()
    asked: list[object] = []
    web.store._guarded = lambda work: asked.append(work)  # type: ignore[method-assign,assignment,return-value]
    assert await web.shown(WHAT) == b"1"
    assert asked == []


@only("outdated", KINDS)
async def test_when_invalidate_returns_nobody_is_served_what_was(start: Start, outdated: str) -> None:
    """In no process, whichever invalidated; a value computed since is."""
    processes = [await start(), await start(), await start()]
    for number, invalidating in enumerate(processes):
        await processes[number - 1].fill(WHAT, b"%d" % number)
        assert {await process.shown(WHAT) for process in processes} == {b"%d" % number}
        await invalidating.cache.invalidate(KINDS[outdated])
        assert {await process.shown(WHAT) for process in processes} == {None}


@only("outdated", KINDS)
@only("kind", KEEPING, indirect=True)
async def test_a_softened_value_is_there_and_stale(start: Start, outdated: str) -> None:
    """For every process that had it, and until it is computed anew."""
    web, worker = await start(), await start()
    await worker.fill(WHAT, b"1")
    assert await web.shown(WHAT) == b"1"
    soft = Outdated(
        tags=KINDS[outdated].tags, keys=KINDS[outdated].keys, everything=KINDS[outdated].everything, soft=True
    )
    await worker.cache.invalidate(soft)
    found = await web.cache.lookup(WHAT)
    assert found.entry is not None
    assert found.softened
    await worker.fill(WHAT, b"2")
    assert await web.shown(WHAT) == b"2"
    assert not (await web.cache.lookup(WHAT)).softened


@only("outdated", KINDS)
async def test_a_job_that_began_before_an_invalidation_starts_over(start: Start, outdated: str) -> None:
    """Its value is stored nowhere; its next attempt, which reads anew, stores one."""
    web, worker = await start(), await start()
    job_id, claim, versions = await worker.job(WHAT)
    await web.cache.invalidate(KINDS[outdated])
    committed = await worker.finish(WHAT, b"1", job_id, claim, versions)
    assert (committed.what, committed.ring) == ("superseded", 1)
    assert await web.shown(WHAT) is None
    claim, versions = await worker.claim(WHAT, job_id)
    assert (await worker.finish(WHAT, b"2", job_id, claim, versions)).what == "stored"
    assert await web.shown(WHAT) == b"2"


async def test_a_job_that_is_outdated_again_and_again_is_given_up(start: Start) -> None:
    """After the reruns the caller is told to fail it."""
    worker = await start()
    job_id, claim, versions = await worker.job(WHAT)
    rings = []
    for _ in range(6):
        await worker.cache.invalidate(of_tags("sales"))
        rings.append((await worker.finish(WHAT, b"1", job_id, claim, versions)).ring)
        if rings[-1] == 1:
            claim, versions = await worker.claim(WHAT, job_id)
    assert rings == [1, 1, 1, 1, 1, -1]
    await worker.records.end(job_id, claim.fence, "failed", worker="worker", problem=b"{}")


async def test_an_attempt_that_lost_its_job_stores_nothing(start: Start) -> None:
    """Nor does one that has finished it before."""
    worker = await start()
    job_id, claim, versions = await worker.job(WHAT)
    late = Claim(what="claimed", fence=claim.fence + 1, tag_versions=())
    assert (await worker.finish(WHAT, b"1", job_id, late, versions)).what == "revoked"
    assert await worker.shown(WHAT) is None
    assert (await worker.finish(WHAT, b"2", job_id, claim, versions)).what == "stored"
    assert (await worker.finish(WHAT, b"3", job_id, claim, versions)).what == "revoked"
    assert await worker.shown(WHAT) == b"2"


async def test_who_waits_is_told_and_finds_the_value(start: Start, kind: str) -> None:
    """On the channel of the key, when the value is where a look finds it; a look just before begins nothing anew."""
    web, worker = await start(), await start()
    heard: list[object] = []
    shown = asyncio.get_running_loop().create_future()

    async def look() -> None:
        shown.set_result(await web.shown(WHAT))

    def hear(message: bytes) -> None:
        heard.append(web.cache.parse(WHAT.digest, message))
        looking.append(asyncio.ensure_future(look()))

    looking: list[asyncio.Future[None]] = []
    await web.feed.subscribe(web.cache.names.channel(WHAT), hear)
    await worker.fill(WHAT, b"1")
    assert await shown == b"1"
    assert isinstance(heard[0], Changed if kind in SHARED else Value)
    late = await web.records.submit(WHAT, job_id="late", bell=BELL, seen=b"", force=False)
    assert late.what == "hit"
    assert late.position.offset == 1


async def test_a_failed_job_is_remembered(start: Start) -> None:
    """Where no fresh value is, its problem is found; a value that comes ends it."""
    web, worker = await start(), await start()
    job_id, claim, _ = await worker.job(WHAT)
    await worker.records.end(job_id, claim.fence, "failed", worker="worker", problem=b'{"why":1}')
    assert (await web.cache.lookup(WHAT)).failure == b'{"why":1}'
    await worker.fill(WHAT, b"1")
    assert (await web.cache.lookup(WHAT)).failure is None


# --- computed in a web process


async def test_two_processes_do_not_compute_at_once(start: Start) -> None:
    """The second joins; when the value is there both have it."""
    one, two = await start(), await start()
    begun = await one.begin(WHAT, "here:one")
    assert begun.what == "begun"
    assert (await two.begin(WHAT, "here:two")).what == "busy"
    assert not await two.cache.hold(WHAT, "here:two", 5.0)
    assert await one.cache.hold(WHAT, "here:one", 5.0)
    assert (await one.commit(WHAT, b"1", begun.tag_versions, holder="here:one")).what == "stored"
    assert {await one.shown(WHAT), await two.shown(WHAT)} == {b"1"}
    assert (await two.cache.begin(WHAT, seen=b"", token="here:two", lease=5.0)).what == "hit"
    assert not await one.cache.hold(WHAT, "here:one", 5.0)


@only("outdated", KINDS)
async def test_a_computation_here_that_began_before_an_invalidation_stores_nothing(start: Start, outdated: str) -> None:
    """Whether it is told that its lease went, or that what it read did."""
    one, two = await start(), await start()
    begun = await one.begin(WHAT, "here:one")
    await two.cache.invalidate(KINDS[outdated])
    committed = await one.commit(WHAT, b"1", begun.tag_versions, holder="here:one")
    assert committed.what in ("superseded", "revoked")
    assert {await one.shown(WHAT), await two.shown(WHAT)} == {None}
    assert (await two.begin(WHAT, "here:two")).what == "begun"


async def test_a_failure_here_is_remembered_and_told(start: Start) -> None:
    """By whoever holds the lease only; and nobody begins again while it is remembered."""
    one, two = await start(), await start()
    heard: list[bytes] = []
    await two.feed.subscribe(two.cache.names.channel(WHAT), heard.append)
    assert (await one.begin(WHAT, "here:one")).what == "begun"
    await one.cache.fail_in_place(WHAT, b'{"not":"mine"}', token="here:two")
    await one.cache.fail_in_place(WHAT, b'{"why":1}', token="here:one")
    await eventually(lambda: heard == [b'E{"why":1}'], "it is told")
    assert (await two.cache.lookup(WHAT)).failure == b'{"why":1}'
    assert (await two.begin(WHAT, "here:two")).what == "failed"
    assert (await two.begin(WHAT, "here:two", force=True)).what == "begun"


async def test_new_keys_have_a_quota(start: Start) -> None:
    """As with the data store: by their number, and by the bytes of their values."""
    web = await start()
    for number in range(2):
        begun = await web.begin(key(f"new.{number}"), f"here:{number}", asker="alice", key_rate=2, key_bytes=500)
        assert begun.what == "begun"
    assert (await web.begin(key("new.2"), "here:2", asker="alice", key_rate=2, key_bytes=500)).what == "quota"
    first = await web.begin(key("new.2"), "here:2", asker="bob", key_rate=9, key_bytes=500)
    large = b'"%b"' % random.Random(1).randbytes(600).hex().encode()
    await web.commit(key("new.2"), large, first.tag_versions, holder="here:2", asker="bob")
    assert (await web.begin(key("new.3"), "here:3", asker="bob", key_rate=9, key_bytes=500)).what == "quota"


# --- what only some of them have


@only("kind", SHARED, indirect=True)
async def test_a_job_whose_versions_were_lost_starts_over(start: Start) -> None:
    """A full cache dropped one while it ran: nobody can say any more what the value is made of."""
    web = await start()
    job_id, claim, versions = await web.job(WHAT)
    await web.cache._kept.run(lambda cache: cache.clear())
    assert (await web.finish(WHAT, b"1", job_id, claim, versions)).what == "superseded"
    claim, versions = await web.claim(WHAT, job_id)
    assert (await web.finish(WHAT, b"2", job_id, claim, versions)).what == "stored"
    assert await web.shown(WHAT) == b"2"


@only("kind", SHARED, indirect=True)
async def test_the_data_store_knows_which_value_came(start: Start) -> None:
    """Who has seen that one may have it computed anew at once, and who has not looks again first."""
    web = await start()
    await web.fill(WHAT, b"1")
    found = await web.cache.lookup(WHAT)
    assert await web.store.command("GET", web.cache.names.entry(WHAT)) == found.nonce


@only("kind", SHARED, indirect=True)
async def test_values_outlive_the_data_store(start: Start, store_server: StoreServer, namespace: str) -> None:
    """After it lost everything they are served, are invalidated, and go on counting their positions."""
    web = await start()
    before = await web.fill(WHAT, b"1")
    for name in await web.store.command("KEYS", f"*{{{namespace}}}*"):
        await web.store.command("UNLINK", name)
    assert await web.shown(WHAT) == b"1"
    again, other = await web.fill(WHAT, b"1"), await web.fill(WHAT, b"2")
    assert again.position == before.position
    assert (other.position.epoch, other.position.offset) == (before.position.epoch, 2)


@only("kind", SHARED, indirect=True)
async def test_an_invalidation_without_the_data_store_is_an_error_and_outdates_all_the_same(
    start: Start, store_server: StoreServer
) -> None:
    """Nobody could be told; but whoever reads is served nothing old, and reads on."""
    web, other = await start(), await start()
    await web.fill(WHAT, b"1")
    await web.fill(key("other.resource"), b"2")
    store_server.freeze()
    try:
        with pytest.raises(StoreUnavailable):
            await web.cache.invalidate(of_tags("sales"))
        assert {await web.shown(WHAT), await other.shown(WHAT)} == {None}
        assert await web.shown(key("other.resource")) == b"2"
    finally:
        store_server.thaw()
    await eventually(lambda: not web.cache.invalidator.kept, "it is told later", within=30)


def test_of_many_who_add_to_files_at_once_one_does(tmp_path: Path) -> None:
    """Django's own back end looks and writes in two steps, between which others come."""
    names, barrier = [f"name-{number}" for number in range(50)], threading.Barrier(8)

    def added(number: int) -> list[str]:
        cache = FileBasedCache(str(tmp_path / "values"), {})
        won = []
        for name in names:
            barrier.wait(30)
            if add(cache, name, b"%d" % number, 60):
                won.append(name)
        return won

    with ThreadPoolExecutor(8) as threads:
        winners = [name for won in threads.map(added, range(8)) for name in won]
    assert sorted(winners) == sorted(names)


def test_nobody_waits_long_for_another_who_adds_to_files(tmp_path: Path) -> None:
    """A process that is stopped while it adds makes the cache unavailable to those who add, and no more."""
    cache = FileBasedCache(str(tmp_path / "values"), {})
    assert add(cache, "first", b"1", 60)
    with open(tmp_path / "values" / "millpond.lock", "wb") as held:
        assert locks.lock(held, locks.LOCK_EX)
        with pytest.raises(OSError, match="another process"):
            add(cache, "second", b"2", 60)
        assert read(cache, ["first", "second"]) == {"first": b"1"}
    assert add(cache, "second", b"2", 60)


@only("kind", ["file"], indirect=True)
async def test_a_cache_that_is_away_is_unavailable(start: Start, tmp_path: Path) -> None:
    """An invalidation that did not reach it is kept, and nothing is read before it is done."""
    web = await start()
    await web.fill(WHAT, b"1")
    moved = (tmp_path / "cache").rename(tmp_path / "away")
    (tmp_path / "cache").write_text("no directory")
    with pytest.raises(StoreUnavailable):
        await web.cache.invalidate(of_tags("sales"))
    with pytest.raises(StoreUnavailable):
        await web.cache.lookup(WHAT)
    (tmp_path / "cache").unlink()
    moved.rename(tmp_path / "cache")

    async def settled() -> None:
        while web.cache.invalidator.kept:
            with suppress(StoreUnavailable):
                assert await web.shown(WHAT) is None
            await asyncio.sleep(0.02)

    await asyncio.wait_for(settled(), 20)
    assert await web.shown(WHAT) is None


@only("kind", ["locmem"], indirect=True)
async def test_memory_is_not_trusted_while_nothing_is_heard(start: Start) -> None:
    """A process that may have missed an invalidation asks the data store, and drops what it had."""
    web, worker = await start(), await start()
    await worker.fill(WHAT, b"1")
    assert await web.shown(WHAT) == b"1"
    await web.feed.stop()
    await worker.cache.invalidate(of_tags("sales"))
    assert await web.shown(WHAT) is None


@only("kind", ["locmem"], indirect=True)
async def test_a_copy_is_renewed_with_its_value(start: Start) -> None:
    """A process that has one takes the next one, though nobody asks for it."""
    web, worker = await start(), await start()
    await worker.fill(WHAT, b"1")
    assert await web.shown(WHAT) == b"1"
    await worker.fill(WHAT, b"2")
    until = time.monotonic() + 20
    while await web.shown(WHAT) != b"2":
        assert time.monotonic() < until, "the copy is renewed"
        await asyncio.sleep(0.02)


@only("kind", ["file", "dummy"], indirect=True)
async def test_a_check_says_where_values_are(start: Start, caches_of: Any, kind: str, tmp_path: Path) -> None:
    """And whether it answers."""
    alias = caches_of(kind, 5)
    found = await asyncio.to_thread(doctor._values, alias)
    assert found.ok
    assert alias in found.text
    if kind == "file":
        (tmp_path / "cache").rename(tmp_path / "away")
        (tmp_path / "cache").write_text("no directory")
        assert not (await asyncio.to_thread(doctor._values, alias)).ok


def test_a_check_names_the_data_store_where_values_are_in_it() -> None:
    """Whether that one answers is said elsewhere."""
    assert str(doctor._values("redis").text) == "kept in the store"
