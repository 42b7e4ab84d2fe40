"""Who follows what, over all processes: as each says, and no longer than it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cache_layer import watching
from cache_layer.redis import Store
from cache_layer.watching import Watching


@pytest.fixture
async def two(store: Store) -> AsyncIterator[tuple[Watching, Watching]]:
    made = Watching(store), Watching(store)
    yield made
    for one in made:
        await one.stop()


async def until(one: Watching, topics: list[str], expected: bool) -> None:
    async with asyncio.timeout(10):
        while await one.follows("ann", topics) is not expected:
            await asyncio.sleep(0.02)


async def test_somebody_follows_as_long_as_any_process_says_so(two: tuple[Watching, Watching]) -> None:
    """Two tabs in one process and a third in another; other people and other topics do not matter."""
    here, there = two
    for one in (here, here, there):
        one.add("ann", "job:1")
    here.add("bob", "job:2")
    await until(there, ["job:0", "job:1"], True)
    assert not await there.follows("ann", ["job:2"])
    assert not await there.follows("bob", ["job:1"])
    here.discard("ann", "job:1")
    here.discard("ann", "job:1")
    here.discard("ann", "job:1")  # one too many
    await asyncio.sleep(0.2)
    assert await here.follows("ann", ["job:1"])
    there.discard("ann", "job:1")
    await until(here, ["job:1"], False)


async def test_a_process_that_leaves_takes_its_people_along(two: tuple[Watching, Watching]) -> None:
    here, there = two
    here.add("ann", "t")
    await until(there, ["t"], True)
    await here.stop()
    assert not await there.follows("ann", ["t"])


async def test_who_is_not_shown_again_follows_nothing(
    store: Store, two: tuple[Watching, Watching], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies says nothing; one that lives says it again and again."""
    monkeypatch.setattr(watching, "LIFE", 1.0)
    dead, lives = two
    dead.add("ann", "t")
    await until(dead, ["t"], True)
    assert dead._task is not None
    dead._task.cancel()
    monkeypatch.setattr(watching, "_AGAIN", 0.2)
    lives.add("ann", "other")
    await until(lives, ["t"], False)
    await asyncio.sleep(1.5)
    assert await lives.follows("ann", ["other"])
