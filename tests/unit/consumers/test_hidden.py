"""Who does not look keeps nothing fresh, and has the newest value soon after looking again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cache_layer.outdated import of_tags
from consumers.connections import Connections
from consumers.hub import Hub
from tests.unit.consumers.stand_ins import FakeFeed, FakeSource, snapshot
from tests.unit.consumers.test_hub import INVALIDATIONS, join, until


@pytest.fixture
def feed() -> FakeFeed:
    return FakeFeed()


@pytest.fixture
async def hub(feed: FakeFeed) -> AsyncIterator[Hub]:
    made = Hub(feed, INVALIDATIONS, Connections(10, 10))  # type: ignore[arg-type]
    yield made
    await made.stop()


def invalidate(feed: FakeFeed) -> None:
    feed.say(INVALIDATIONS, of_tags("a").to_json())


async def test_a_value_that_only_hidden_ones_follow_is_not_computed(hub: Hub, feed: FakeFeed) -> None:
    """They are told that it is outdated; whoever looks again has it read, once."""
    source = FakeSource(now=snapshot(1), watched=True, tags=("a",))
    one, one_seat = await join(hub, source)
    other, other_seat = await join(hub, source)
    hub.hide(one_seat, True)
    invalidate(feed)
    await until(lambda: source.reads == 2, "the other looks, and it is read")
    hub.hide(other_seat, True)
    source.now = snapshot(2)
    invalidate(feed)
    await until(lambda: one.got[-1:] == other.got[-1:] == ["stale:{}"], "they are told that it is outdated")
    await asyncio.sleep(0.1)
    assert source.reads == 2
    hub.hide(other_seat, False)
    await until(lambda: other.got[-1].startswith("value:"), "who looks again has the newest")
    assert one.got[-1] == other.got[-1]
    assert source.reads == 3


async def test_by_the_clock_it_is_not_read_either(hub: Hub) -> None:
    """Neither when the last who looked has left; what is fresh needs no read when somebody looks again."""
    source = FakeSource(now=snapshot(1, fresh_for=0.2), watched=True)
    _, looks = await join(hub, source)
    _, seat = await join(hub, source)
    hub.hide(seat, True)
    await until(lambda: source.reads >= 2, "it is kept fresh")
    hub.leave(looks)
    await asyncio.sleep(0.1)
    reads = source.reads
    await asyncio.sleep(1.0)
    assert source.reads == reads
    source.now = snapshot(2, fresh_for=600.0)
    hub.hide(seat, False)
    await until(lambda: source.reads == reads + 1, "it is read when somebody looks")
    hub.hide(seat, True)
    hub.hide(seat, False)
    await asyncio.sleep(0.1)
    assert source.reads == reads + 1
