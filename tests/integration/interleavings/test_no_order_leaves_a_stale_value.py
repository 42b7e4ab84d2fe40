"""In whatever order readers, writers and accidents take their steps, nothing outdated is served.

Two readers each look up, begin (or submit a job and claim it), read the database, commit, and start over when they are
told to; a writer changes the database and invalidates.  Every order is played against the real server.  Orders counted,
of twins and of steps that do nothing only one (see `exploring`):

    in place  by key 961, by tag 616, everything 616; softly by key 616, by tag 616, everything 616
    by job    by key 518, by tag 518, everything 518; softly by key 518, by tag 518; submitted and claimed apart 910
    accidents between any two steps (readers do not start over): the lease ends 4098; a tag is evicted 3686
    a worker that seems dead, and another that takes its job over: 630
    a writer that writes and invalidates twice, by tag and then by key (readers do not start over): 3874
    cache-aside as it is mostly written (GET, read, SET; DEL): 267, of which 35 leave a stale value

Left out: accidents with jobs and with the other kinds of invalidation, and three readers.  They are too many orders for
every day, and go through the same scripts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from cache_layer.cache import Cache, fresh_token
from cache_layer.outdated import EVERYTHING, Outdated, of_keys, of_tags
from cache_layer.queues import Limits
from cache_layer.records import Records
from cache_layer.redis import Store
from tests.integration.interleavings import stage as actors
from tests.integration.interleavings.exploring import Actor, Doing, explore
from tests.integration.interleavings.stage import Books, Stage, fresh
from tests.support.jobs import Jobs

Invalidation = Callable[[Stage], Outdated]
Cast = Callable[[Stage], list[Actor]]

HARD: dict[str, Invalidation] = {
    "key": lambda stage: of_keys(stage.key),
    "tag": lambda stage: of_tags(stage.key.tags[-1]),
    "everything": lambda stage: EVERYTHING,
}
SOFT: dict[str, Invalidation] = {
    "key": lambda stage: of_keys(stage.key, soft=True),
    "tag": lambda stage: of_tags(stage.key.tags[-1], soft=True),
    "everything": lambda stage: Outdated(everything=True, soft=True),
}


@pytest.fixture
async def books(store: Store) -> AsyncIterator[Books]:
    """Empty ones; jobs that an order has left alive are dropped in the end."""
    yield Books(Cache(store), Records(store, Limits(queue=10_000)))
    await Jobs(store).clean()


async def play(books: Books, cast: Cast) -> int:
    """Play all orders of a cast; at the end of each, what is found is what the database holds, or is not fresh."""
    stage = Stage(books)

    def anew() -> list[Actor]:
        nonlocal stage
        stage = Stage(books)
        return cast(stage)

    async def judge() -> None:
        found = await stage.look()
        if fresh(found):
            assert found.entry is not None
            assert int(found.entry.payload) == stage.database
        books.left["fresh" if fresh(found) else "stale" if found.entry is not None else "nothing"] += 1
        await stage.clear()

    return await explore(anew, judge)


def in_place(invalidation: Invalidation) -> Cast:
    """Two readers that compute in place, and start over when they have to; a writer."""

    def cast(stage: Stage) -> list[Actor]:
        return [
            Actor("reader", actors.reader(stage)),
            Actor("reader", actors.reader(stage)),
            Actor("writer", actors.writer(stage, invalidation)),
        ]

    return cast


def by_job(invalidation: Invalidation, *, apart: bool = False) -> Cast:
    """Two readers that submit jobs, with workers that run them until they are over; a writer."""

    def cast(stage: Stage) -> list[Actor]:
        return [
            Actor("asker", actors.asker(stage, apart=apart)),
            Actor("asker", actors.asker(stage, apart=apart)),
            Actor("writer", actors.writer(stage, invalidation)),
        ]

    return cast


def once(*more: Callable[[Stage], Doing]) -> Cast:
    """Two readers that compute in place, once, and whoever else."""

    def cast(stage: Stage) -> list[Actor]:
        readers = [Actor("reader", actors.reader(stage, again=False)) for _ in range(2)]
        return readers + [Actor(f"other {number}", other(stage)) for number, other in enumerate(more)]

    return cast


async def test_cache_aside_leaves_stale_values(books: Books) -> None:
    """Without leases and versions, the same actors do leave what nobody will outdate: the harness sees it."""
    stage, stale = Stage(books), 0

    def anew() -> list[Actor]:
        nonlocal stage
        stage = Stage(books)
        readers = [Actor("reader", actors.naive_reader(stage)) for _ in range(2)]
        return [*readers, Actor("writer", actors.naive_writer(stage))]

    async def judge() -> None:
        nonlocal stale
        left = await books.cache.store.command("GET", books.cache.names.entry(stage.key))
        stale += left is not None and int(left) != stage.database

    assert await explore(anew, judge) >= 260
    assert stale >= 30


@pytest.mark.parametrize(("how", "floor"), [("key", 960), ("tag", 610), ("everything", 610)])
async def test_in_place_and_hard(books: Books, how: str, floor: int) -> None:
    """What is gone is computed anew from what is there now, or is still not there."""
    assert await play(books, in_place(HARD[how])) >= floor
    assert books.left["fresh"] >= floor // 2
    assert books.left["stale"] == 0
    assert books.outcomes["revoked" if how == "key" else "superseded"] >= floor // 2


@pytest.mark.parametrize("how", ["key", "tag", "everything"])
async def test_in_place_and_soft(books: Books, how: str) -> None:
    """What is stale is computed anew, and served as stale until then, never as fresh."""
    assert await play(books, in_place(SOFT[how])) >= 610
    assert books.left["fresh"] >= 300
    assert books.left["stale"] >= 50
    assert books.left["nothing"] == 0


@pytest.mark.parametrize("how", HARD)
async def test_by_job_and_hard(books: Books, how: str) -> None:
    """A job whose data was outdated meanwhile runs again."""
    assert await play(books, by_job(HARD[how])) >= 510
    assert books.left["fresh"] >= 250
    assert books.left["stale"] == 0
    assert books.outcomes["superseded"] >= 250


@pytest.mark.parametrize("how", ["key", "tag"])
async def test_by_job_and_soft(books: Books, how: str) -> None:
    """The same, softly: what lies there remains as stale."""
    assert await play(books, by_job(SOFT[how])) >= 510
    assert books.left["stale"] >= 50
    assert books.left["nothing"] == 0
    assert books.outcomes["superseded"] >= 250


async def test_a_job_that_waits(books: Books) -> None:
    """What happens between submission and claim is seen by the worker: it reads after it."""
    assert await play(books, by_job(HARD["key"], apart=True)) >= 900
    assert books.outcomes["superseded"] >= 400


async def test_a_lease_ends(books: Books) -> None:
    """A leader that was away for longer than its lease stores nothing, whatever others have done meanwhile."""
    cast = once(lambda stage: actors.writer(stage, HARD["tag"]), actors.lease_ends)
    assert await play(books, cast) >= 4000
    assert books.outcomes["late"] >= 800
    assert books.outcomes["superseded"] >= 1000


async def test_a_tag_is_evicted(books: Books) -> None:
    """A version that the store has dropped outdates what was computed under it, and what is being computed."""
    cast = once(lambda stage: actors.writer(stage, HARD["key"]), actors.tag_is_evicted)
    assert await play(books, cast) >= 3600
    assert books.outcomes["superseded"] >= 1000


async def test_two_invalidations(books: Books) -> None:
    """Between two invalidations nothing of before the first is served, after the second nothing of before it."""
    cast = once(lambda stage: actors.writer(stage, HARD["tag"], HARD["key"]))
    assert await play(books, cast) >= 3800
    assert books.outcomes["revoked"] >= 1000
    assert books.outcomes["superseded"] >= 1000


async def test_a_worker_that_seems_dead(books: Books) -> None:
    """Its job is run by another; whichever of the two commits, it is nothing outdated, and only one of them does."""

    def cast(stage: Stage) -> list[Actor]:
        return [
            Actor("asker", actors.asker(stage, again=False)),
            Actor("heir", actors.heir(stage, again=False)),
            Actor("writer", actors.writer(stage, HARD["key"])),
        ]

    assert await play(books, cast) >= 630
    assert books.outcomes["late"] >= 100


async def test_a_key_is_never_stuck(books: Books) -> None:
    """However an order ended, whoever comes then gets the value that is there, or the right to compute it."""
    stage = Stage(books)

    def anew() -> list[Actor]:
        nonlocal stage
        stage = Stage(books)
        return in_place(HARD["key"])(stage)

    async def judge() -> None:
        found = await stage.look()
        begun = await books.cache.begin(stage.key, seen=b"", token=fresh_token(), lease=1.0)
        assert begun.what == ("hit" if found.entry is not None else "begun")

    assert await explore(anew, judge) >= 960
