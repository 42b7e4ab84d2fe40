"""When an invalidation has returned, no process of the deployment serves what it outdated: not from its own memory, and
not when it, or one of its connections, is late, silent or cut off.

The other process is a real one that looks the key up without a pause; it says when the last look-up began that found a
value.  Its tracking connection is slow, so that it must be told otherwise, or waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cache_layer.outdated import EVERYTHING, Outdated, of_keys, of_tags
from cache_layer.redis import Store
from tests.support.hammer import TAG, Hammer, hammered
from tests.support.processes import Process, fill
from tests.support.proxy import DOWN, Proxy
from tests.support.store import StoreServer

#: Seconds by which the other process is told late of changes: less than it may serve without proof.
_LATE = 0.3

INVALIDATIONS = {
    "tag": of_tags(TAG),
    "key": of_keys(hammered()),
    "everything": EVERYTHING,
    "softly": of_tags(TAG, soft=True),
}


@pytest.fixture
def feed(store_server: StoreServer, tmp_path: Path) -> Iterator[Proxy]:
    """Between the other process's feed and the store."""
    with Proxy(store_server.socket, tmp_path / "feed.sock") as proxy:
        yield proxy


@pytest.fixture
def tracking(store_server: StoreServer, tmp_path: Path) -> Iterator[Proxy]:
    """Between the other process's tracking connection and the store."""
    with Proxy(store_server.socket, tmp_path / "tracking.sock") as proxy:
        yield proxy


@pytest.fixture
async def hammer(
    store_server: StoreServer, store: Store, namespace: str, feed: Proxy, tracking: Proxy
) -> AsyncIterator[Hammer]:
    """The other process, at work."""
    async with Hammer(store_server.url, namespace, feed=feed.url, tracking=tracking.url) as made:
        tracking.delay(DOWN, _LATE)
        yield made


@pytest.fixture
async def here(store_server: StoreServer, namespace: str) -> AsyncIterator[Process]:
    """This process."""
    async with Process(store_server.url, namespace) as made:
        yield made


async def outdate(
    here: Process, hammer: Hammer, value: str, outdated: Outdated, *, before: Callable[[], object] = lambda: None
) -> float:
    """Let the other process have a copy of a value, and invalidate it; when that had returned."""
    await fill(here.cache, hammered(), value.encode(), force=True)
    await hammer.has_a_copy(value)
    before()
    async with asyncio.timeout(30):
        await here.cache.invalidate(outdated)
    return time.monotonic()


async def passes(seconds: float) -> None:
    """Time for the other process to serve what it should not."""
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("how", INVALIDATIONS)
async def test_a_copy_is_not_served_afterwards(here: Process, hammer: Hammer, how: str) -> None:
    """Whatever is invalidated, round after round: the last look-up that found it fresh began before the return."""
    returned = {}
    for number in range(5):
        returned[str(number)] = await outdate(here, hammer, str(number), INVALIDATIONS[how])
        await passes(_LATE / 3)
    report = await hammer.report()
    assert set(report.copies) >= set(returned)
    assert {value: report.fresh[value] <= at for value, at in returned.items()} == dict.fromkeys(returned, True)


async def test_a_process_that_is_stopped(here: Process, hammer: Hammer) -> None:
    """It is waited for no longer than it may serve without proof; when it goes on it does not serve the old value."""
    await fill(here.cache, hammered(), b"old")
    await hammer.has_a_copy("old")
    await hammer.hold_still()
    async with asyncio.timeout(30):
        await here.cache.invalidate(of_tags(TAG))
    returned = time.monotonic()
    hammer.go_on()
    await fill(here.cache, hammered(), b"new")
    await hammer.has_a_copy("new")
    assert (await hammer.report()).fresh["old"] <= returned


async def test_a_process_whose_feed_is_silent(here: Process, hammer: Hammer, feed: Proxy) -> None:
    """The store believes that it was told; it says nothing, so it is waited for."""
    returned = await outdate(here, hammer, "old", of_tags(TAG), before=feed.half_open)
    await passes(_LATE)
    assert (await hammer.report()).fresh["old"] <= returned


async def test_a_process_whose_feed_is_cut(here: Process, hammer: Hammer, feed: Proxy) -> None:
    """Once it has noticed that nobody waits for it any more, it serves no values of its own."""
    await fill(here.cache, hammered(), b"old")
    await hammer.has_a_copy("old")
    feed.cut()
    await hammer.has_no_copies()
    await here.cache.invalidate(of_tags(TAG))
    returned = time.monotonic()
    await passes(_LATE)
    assert (await hammer.report()).fresh["old"] <= returned


@pytest.mark.parametrize("how", ["cut", "half_open"])
async def test_a_process_whose_tracking_is_lost(here: Process, hammer: Hammer, tracking: Proxy, how: str) -> None:
    """It is told over its feed all the same."""
    returned = await outdate(here, hammer, "old", of_tags(TAG), before=getattr(tracking, how))
    await passes(_LATE)
    assert (await hammer.report()).fresh["old"] <= returned
