"""What a web process computes itself (`offload=False`) keeps the promises of what workers compute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from msgspec import Meta

from asgi_app.errors import MillpondError, TooManyRequests, Unavailable
from asgi_app.reading import Reading
from asgi_app.registry import Principal, Registry, registry, resource
from asgi_app.wiring import Node
from cache_layer import invalidating
from cache_layer.cache import Found
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key
from cache_layer.outdated import Outdated, of_keys, of_tags
from cache_layer.redis import Store
from tests.support.nodes import node
from tests.support.proxy import Proxy
from tests.support.store import StoreServer
from tests.support.watcher import eventually

ALICE, BOB = (
    Principal(user_id=name, username=name, scopes=frozenset({"read"}), is_anonymous=False, permissions=frozenset())
    for name in ("alice", "bob")
)
PUBLIC = Principal.public()
WAIT = 20.0
Number = Annotated[int, Meta(ge=0, le=1000)]


class Origin:
    """What the computations ask; they may be made to wait for it."""

    def __init__(self) -> None:
        self.value: Any = "old"
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def read(self) -> Any:
        """What was there when it was asked, after the gate has been opened."""
        self.asked += 1
        found = self.value
        await self.open.wait()
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
async def origin() -> Origin:
    return Origin()


@pytest.fixture
def declared(origin: Origin) -> Iterator[Registry]:
    """The resources of these tests."""
    with registry.isolated() as mine:

        @resource("value", offload=False, fresh=1000, tags=("sales",), error_ttl=60)
        async def value(n: Number = 0) -> Any:
            return await origin.read()

        @resource("offloaded", tags=("sales",))
        def offloaded(n: Number = 0) -> int:
            return n

        @resource("patient", offload=False, fresh=1000, stale=0, soft_timeout=0.1)
        async def patient() -> Any:
            return await origin.read()

        @resource("nothing", offload=False, fresh=1000, stale=0, negative_ttl=7)
        async def nothing() -> Any:
            return await origin.read()

        yield mine


@pytest.fixture
async def web(store_server: StoreServer, store: Store, namespace: str, declared: Registry) -> AsyncIterator[Node]:
    """A web process that holds values of its own."""
    async with node(store_server.url, namespace, near=True, key_rate=5, key_bytes=1000) as made:
        yield made


async def ask(
    web: Node, name: str = "value", principal: Principal = PUBLIC, *, wait: float = WAIT, **params: Any
) -> Reading:
    found = registry.resource(name)
    return await web.reader.read(found, found.parse(params, text=False), principal, wait=wait)


def key_of(name: str, **params: Any) -> Key:
    found = registry.resource(name)
    return found.key(found.parse(params, text=False), PUBLIC)


def payload(found: Reading | Found) -> bytes | None:
    return found.entry.payload if found.entry is not None else None


@pytest.mark.parametrize("how", ["key", "tag", "everything"])
async def test_data_that_changes_in_mid_computation(web: Node, origin: Origin, how: str) -> None:
    """It is computed again from what is there now; who waits gets that, and nobody anything else."""
    origin.open.clear()
    asking = asyncio.create_task(ask(web))
    await eventually(lambda: origin.asked == 1, "it has read the old data")
    origin.value = "new"
    outdated = {"key": of_keys(key_of("value")), "tag": of_tags("sales"), "everything": Outdated(everything=True)}
    await web.cache.invalidate(outdated[how])
    origin.open.set()
    reading = await asking
    assert (reading.state, payload(reading), origin.asked) == ("fresh", b'"new"', 2)


async def test_data_that_changes_while_nobody_waits(web: Node, origin: Origin) -> None:
    """A refresh behind a value is computed again too."""
    await ask(web)
    origin.open.clear()
    found = registry.resource("value")
    async with asyncio.timeout(WAIT):
        while origin.asked < 2:  # while the first one is being tidied up it is joined
            await web.reader.refresh(found, found.parse({}, text=False), PUBLIC)
            await asyncio.sleep(0.01)
    origin.value = "new"
    await web.cache.invalidate(of_tags("sales"))
    origin.open.set()
    await eventually(lambda: origin.asked == 3, "it is computed again")
    async with asyncio.timeout(WAIT):
        while payload(await web.cache.lookup(key_of("value"))) != b'"new"':
            await asyncio.sleep(0.01)


async def test_many_who_miss_share_one_computation(web: Node, origin: Origin) -> None:
    """However many ask."""
    readings = await asyncio.gather(*(ask(web) for _ in range(100)))
    assert {payload(reading) for reading in readings} == {b'"old"'}
    assert origin.asked == 1


@pytest.mark.parametrize("name", ["value", "offloaded"])
async def test_new_questions_are_counted(web: Node, name: str) -> None:
    """Each principal may bring so many a minute, whoever computes them; others are not concerned."""
    for number in range(5):
        await ask(web, name, ALICE, n=number, wait=0.0)
    with pytest.raises(TooManyRequests):
        await ask(web, name, ALICE, n=5, wait=0.0)
    await ask(web, name, ALICE, n=0, wait=0.0)
    await ask(web, name, BOB, n=6, wait=0.0)
    await end_jobs(web)


async def test_bytes_of_new_values_are_counted(web: Node, origin: Origin) -> None:
    """Whoever has filled the store with so much in a minute brings nothing new."""
    origin.value = "x" * 1000
    assert (await ask(web, principal=ALICE)).state == "fresh"
    with pytest.raises(TooManyRequests):
        await ask(web, principal=ALICE, n=1)
    assert (await ask(web, principal=BOB, n=1)).state == "fresh"
    assert (await ask(web, principal=ALICE)).state == "fresh"


async def test_too_many_at_once(store_server: StoreServer, store: Store, namespace: str, origin: Origin) -> None:
    """The bulkhead: a hundred computations of a process run, the next is refused until one of them is over."""
    origin.open.clear()
    with registry.isolated():

        @resource("many", offload=False)
        async def many(n: Number) -> Any:
            return await origin.read()

        async with node(store_server.url, namespace, key_rate=1000) as web:
            asking = [asyncio.create_task(ask(web, "many", n=number)) for number in range(100)]
            await eventually(lambda: origin.asked == 100, "all of them run")
            with pytest.raises(Unavailable) as refused:
                await ask(web, "many", n=100)
            assert refused.value.retry_after
            origin.open.set()
            assert {reading.state for reading in await asyncio.gather(*asking)} == {"fresh"}
            assert (await ask(web, "many", n=100)).state == "fresh"


async def outlive(web: Node, key: Key, seconds: float) -> None:
    """Let the value become so much older."""
    store, entry = web.store, web.store.names.entry(key)
    await store.command("PEXPIRE", entry, await store.command("PTTL", entry) - round(seconds * 1000))


async def test_an_old_value_stands_in(web: Node, origin: Origin) -> None:
    """A computation that takes longer than the soft timeout is not waited for while an old value may be served."""
    await ask(web, "patient")
    await outlive(web, key_of("patient"), 1500)
    await eventually(lambda: not _copied(web, "patient"), "the copy is gone")
    origin.value = "new"
    origin.open.clear()
    reading = await ask(web, "patient")
    assert (reading.state, payload(reading)) == ("stale", b'"old"')
    assert reading.error is not None
    origin.open.set()
    await eventually(lambda: origin.asked == 2, "it was computed anew")
    async with asyncio.timeout(WAIT):
        while payload(await ask(web, "patient")) != b'"new"':
            await asyncio.sleep(0.01)


def _copied(web: Node, name: str) -> bool:
    assert web.near is not None
    return web.near.get(web.store.names.entry(key_of(name))) is not None


async def test_nothing_is_fresh_for_less_long(web: Node, origin: Origin) -> None:
    """That there is nothing is forgotten sooner than a value."""
    origin.value = None
    reading = await ask(web, "nothing")
    assert payload(reading) == b"null"
    assert reading.entry is not None
    assert reading.entry.fresh <= 7 * 1.1
    await outlive(web, key_of("nothing"), 10)
    await eventually(lambda: not _copied(web, "nothing"), "the copy is gone")
    origin.value = "something"
    assert payload(await ask(web, "nothing")) == b'"something"'


async def test_a_failure_is_remembered(web: Node, origin: Origin) -> None:
    """Who asks shortly after is told the same, and nothing is computed."""
    origin.value = ValueError("no luck")
    assert (await ask(web)).state == "failed"
    assert (await ask(web)).state == "failed"
    assert origin.asked == 1


async def test_a_foreign_failure_is_none(web: Node) -> None:
    """Bytes that are no problem of ours do not keep a key from being computed."""
    await web.store.command("SET", web.store.names.failure(key_of("value")), "rubbish", "PX", 60_000)
    assert payload(await ask(web, wait=3.0)) == b'"old"'


async def test_no_last_value_that_was_invalidated_here(
    store_server: StoreServer, store: Store, namespace: str, declared: Registry, tmp_path: Any, monkeypatch: Any
) -> None:
    """While the store is away a process serves its last values, save those it knows to be outdated."""
    monkeypatch.setattr(invalidating, "_AGAIN", 1e9)
    with Proxy(store_server.socket, tmp_path / "road.sock") as road:
        async with node(road.url, namespace) as web:
            await ask(web)
            await ask(web)
            road.cut()
            assert payload(await ask(web)) == b'"old"'
            with pytest.raises(StoreUnavailable):
                await web.cache.invalidate(of_tags("sales"))
            with pytest.raises(MillpondError):
                await ask(web)


async def end_jobs(web: Node) -> None:
    """Nobody works here."""
    names = web.store.names
    for job in await web.store.command("ZRANGE", names.live(), 0, -1):
        await web.records.cancel(job.decode())
    for found in await web.store.command("KEYS", names.broker_prefix() + "*"):
        await web.store.command("UNLINK", found)
