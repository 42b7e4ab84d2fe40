"""What each path costs on the wire: round trips to the store, counted between it and its client.

copy in this process                    0
value in the store, however many tags   1
stale value                             1; behind it 3 in one process of the deployment (begin, commit, let go), and 1
                                        in each other that was asked for it (somebody computes it)
miss, computed in this process          6 (look, begin, position; subscribe, look, position), then 3 (commit, let go,
                                        look)
miss, computed in another one           7 (look, begin, position; subscribe, look, begin, position), then 1 (look)
invalidation of any number of names     1, and 1 of each other process that holds values: it says that it has heard
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asgi_app import waiting
from asgi_app.registry import Principal, Registry, Resource, registry, resource
from asgi_app.wiring import Node
from cache_layer.cache import Cache
from cache_layer.outdated import EVERYTHING, Outdated, of_keys, of_tags
from cache_layer.redis import Store
from tests.support.declared_keys import key_of
from tests.support.keys import key
from tests.support.nodes import node
from tests.support.processes import Process, copied, fill
from tests.support.store import StoreServer
from tests.support.watcher import eventually
from tests.support.wire import Wire

FIVE = tuple(f"t{number}" for number in range(5))
LOOK = ["PTTL", "MGET"]


@pytest.fixture
async def wire(store_server: StoreServer, store: Store, tmp_path: Path) -> AsyncIterator[Wire]:
    """Between a client and the store."""
    async with Wire(store_server.socket, tmp_path / "wire.sock") as made:
        yield made


@pytest.fixture
async def cache(wire: Wire, namespace: str) -> AsyncIterator[Cache]:
    """Over the wire, connected, with the scripts known to the store."""
    made = Cache(Store(wire.url, namespace, deadline=5.0))
    await warm(made)
    wire.forget()
    yield made
    await made.store.close()


async def warm(cache: Cache) -> None:
    """Run every script once: the store knows it from then on."""
    what = key("warm")
    await fill(cache, what, b"1")
    await cache.position(what)
    await cache.hold(what, "", 0)
    await cache.invalidate(of_keys(what))


@pytest.mark.parametrize("tags", [(), FIVE[:1], FIVE])
async def test_a_value_in_the_store(wire: Wire, cache: Cache, tags: tuple[str, ...]) -> None:
    """One, with as many tags as there are."""
    what = key(tags=tags)
    await fill(cache, what, b"1")
    wire.forget()
    assert (await cache.lookup(what)).entry is not None
    assert (wire.trips, wire.commands) == (1, LOOK)


async def test_a_copy_of_ones_own(wire: Wire, namespace: str, store_server: StoreServer) -> None:
    """None."""
    what = key(tags=FIVE)
    async with Process(wire.url, namespace, feed=store_server.url, tracking=store_server.url) as process:
        await fill(process.cache, what, b"1")
        await copied(process, what)
        wire.forget()
        for _ in range(100):
            assert (await process.cache.lookup(what)).entry is not None
        assert wire.trips == 0


async def test_a_computation(wire: Wire, cache: Cache) -> None:
    """Looking, beginning and committing are one each."""
    await fill(cache, key(tags=FIVE), b"1" * 100_000)
    assert (wire.trips, wire.commands) == (3, [*LOOK, "EVALSHA", "EVALSHA"])


INVALIDATIONS = {
    "a tag": of_tags("a"),
    "100 tags": of_tags(*(f"t{number}" for number in range(100))),
    "10 keys": of_keys(*(key(f"k{number}") for number in range(10))),
    "everything": EVERYTHING,
    "all of it, softly": Outdated(tags=frozenset(FIVE), everything=True, soft=True),
}


@pytest.mark.parametrize("how", INVALIDATIONS)
async def test_an_invalidation(wire: Wire, cache: Cache, how: str) -> None:
    """One, whatever it outdates."""
    await cache.invalidate(INVALIDATIONS[how])
    assert (wire.trips, wire.commands) == (1, ["EVALSHA"])


async def test_an_invalidation_that_others_hear(
    wire: Wire, cache: Cache, namespace: str, store_server: StoreServer
) -> None:
    """Each other process that holds values says so: one trip of its own."""
    async with AsyncExitStack() as stack:
        for _ in range(2):
            process = Process(wire.url, namespace, feed=store_server.url, tracking=store_server.url)
            await stack.enter_async_context(process)
            await process.store.ping()
        sender = await stack.enter_async_context(Process(wire.url, namespace, near=False, feed=store_server.url))
        await sender.store.ping()
        wire.forget()
        await sender.cache.invalidate(of_tags("a"))
        assert (wire.trips, wire.commands) == (3, ["EVALSHA", "PUBLISH", "PUBLISH"])


# --- through a reader


@pytest.fixture
def declared(gate: asyncio.Event) -> Iterator[Registry]:
    """What the nodes below are asked for."""
    with registry.isolated() as mine:

        @resource("slow", offload=False, fresh=1000, stale=1000, tags=FIVE)
        async def slow() -> int:
            await gate.wait()
            return 1

        yield mine


@pytest.fixture
async def gate() -> asyncio.Event:
    """What computations wait for."""
    return asyncio.Event()


@pytest.fixture
async def nodes(wire: Wire, namespace: str, declared: Registry) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes, connected."""
    async with node(wire.url, namespace) as one, node(wire.url, namespace) as two:
        for made in (one, two):
            for _ in range(3):  # connections for all that is asked at once
                await asyncio.gather(*(made.store.command("PING") for _ in range(4)))
        await warm(one.cache)
        wire.forget()
        yield one, two


async def read(asked: Node, wait: float) -> str:
    found: Resource = registry.resource("slow")
    return (await asked.reader.read(found, found.parse({}, text=False), Principal.public(), wait=wait)).state


async def test_a_stale_value(wire: Wire, nodes: tuple[Node, Node], gate: asyncio.Event) -> None:
    """One until it is served; behind it one process computes, and the other one is told that somebody does."""
    what = key_of("slow")
    await fill(nodes[0].cache, what, b"0")
    await nodes[0].store.command("PEXPIRE", nodes[0].store.names.entry(what), 3_100_000)
    wire.forget()
    assert await read(nodes[0], 30.0) == "stale"
    assert (wire.trips, wire.commands) == (1, LOOK)
    await eventually(lambda: wire.trips == 2, "it begins")
    assert await read(nodes[1], 30.0) == "stale"
    await eventually(lambda: wire.trips == 4, "the other asks whether to begin")
    gate.set()
    both = [*LOOK, "EVALSHA", *LOOK, "EVALSHA"]
    await settled(wire, [*both, "EVALSHA", "EVALSHA"], 6)


async def test_a_miss(
    wire: Wire, nodes: tuple[Node, Node], gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the computation runs; until somebody else waits for it; and from its end until both are answered."""
    monkeypatch.setattr(waiting, "_LOOK_AGAIN", 1e9)
    leader = asyncio.create_task(read(nodes[0], 30.0))
    await settled(wire, [*LOOK, "EVALSHA", "EVALSHA", "SUBSCRIBE", *LOOK, "EVALSHA"], 6)
    wire.forget()
    waiter = asyncio.create_task(read(nodes[1], 30.0))
    asked = [*LOOK, "EVALSHA", "EVALSHA"]
    await settled(wire, [*asked, "SUBSCRIBE", *asked], 7)
    wire.forget()
    gate.set()
    assert [await leader, await waiter] == ["fresh", "fresh"]
    assert wire.commands[0] == "EVALSHA"
    await settled(wire, sorted(["EVALSHA", "EVALSHA", *LOOK, *LOOK]), 4, ordered=False)


async def settled(wire: Wire, commands: list[str], trips: int, *, ordered: bool = True) -> None:
    """These come, and no more."""
    await eventually(lambda: wire.trips >= trips, f"{trips} round trips")
    await asyncio.sleep(0.1)
    assert (wire.trips, wire.commands if ordered else sorted(wire.commands)) == (trips, commands)
