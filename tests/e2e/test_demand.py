"""A watched value is computed exactly while somebody looks at it, in whatever process: once for all of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from tests.e2e.test_who_may_at_once import sockets
from tests.support.service import Service
from tests.support.watcher import Watcher, eventually

pytestmark = pytest.mark.timeout(150)

#: Seconds after the last has left until nothing is computed any more: the time of grace, one computation under way, and
#: a busy machine's share; and seconds in which a value that is kept fresh for a second would surely be computed.
GRACE, SURELY = 10.0 + 5.0, 5.0


@pytest.fixture
def name() -> str:
    return uuid4().hex[:12]


async def watching(ends: AsyncExitStack, service: Service, name: str, count: int) -> list[Watcher]:
    """Over both processes."""
    watchers = await sockets(ends, service, count)
    for watcher in watchers:
        await watcher.watch(f"test.pulse?name={name}")
    return watchers


def computed(service: Service, name: str) -> int:
    return service.ledger().count(f"pulse {name}")


async def goes_on(service: Service, name: str, more: int = 3) -> None:
    """It is computed again and again."""
    before = computed(service, name)
    await eventually(lambda: computed(service, name) >= before + more, "it is computed again")


async def is_over(service: Service, name: str) -> None:
    """Nothing is computed any more."""
    before = computed(service, name)
    await asyncio.sleep(SURELY)
    assert computed(service, name) == before


async def test_one_computation_for_all_while_somebody_watches_and_none_after(service: Service, name: str) -> None:
    """Each value is told to everyone, in both processes, and was computed once."""
    async with AsyncExitStack() as ends:
        watchers = await watching(ends, service, name, 8)
        await eventually(lambda: all(len(one.values()) >= 6 for one in watchers), "all are told")
        told = {value for one in watchers for value in one.values()}
        assert len(told) <= computed(service, name) <= len(told) + 1
        assert all(one.offsets() == sorted(set(one.offsets())) for one in watchers)
    assert computed(service, name) >= 6
    await asyncio.sleep(GRACE)
    await is_over(service, name)


async def test_a_reload_does_not_interrupt_it(service: Service, name: str) -> None:
    """For some seconds after the last has left it is kept fresh; whoever comes back has a fresh value at once."""
    async with AsyncExitStack() as ends:
        await watching(ends, service, name, 1)
        await goes_on(service, name)
    await goes_on(service, name)
    async with AsyncExitStack() as ends:
        (back,) = await watching(ends, service, name, 1)
        await eventually(lambda: back.subscribed, "it is back")
        assert back.subscribed[0].data["state"] in ("fresh", "stale")
        await goes_on(service, name)


async def test_who_does_not_look_keeps_nothing_fresh(service: Service, name: str) -> None:
    """Hidden tabs are told what is computed for others, and have the newest value when somebody looks again."""
    async with AsyncExitStack() as ends:
        watchers = await watching(ends, service, name, 4)
        for watcher in watchers[1:]:
            await watcher.client.rpc("hidden", {"hidden": True})
        await goes_on(service, name)
        newest = watchers[0].values()[-1]
        await eventually(lambda: all(newest in one.values() for one in watchers), "all are told")
        await watchers[0].client.rpc("hidden", {"hidden": True})
        await asyncio.sleep(GRACE)
        await is_over(service, name)
        seen = len(watchers[3].values())
        await watchers[3].client.rpc("hidden", {"hidden": False, "topic": f"test.pulse?name={name}"})
        await eventually(lambda: len(watchers[3].values()) > seen, "the newest comes")
        await goes_on(service, name)
