"""Readers, writers and accidents around one key, on a real server, through the cache's own doors.

Invariant: each look-up here is judged: what it would serve as fresh is no older than the last invalidation that was
over when it began, and what it would serve as stale is no older than the last hard one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from cache_layer.cache import Cache, Found, fresh_token
from cache_layer.keys import Key
from cache_layer.outdated import Outdated
from cache_layer.queues import Bell
from cache_layer.records import Claim, Records
from tests.integration.interleavings.exploring import Doing, Void
from tests.support import jobs
from tests.support.keys import key

#: Seconds; no lease ends here unless an actor ends it.
_LEASE = 600.0
#: More often than this nobody has to start over here.
_RERUNS = 4
TAG, OTHER_TAG = "sales", "region"
_numbers = count(1)


@dataclass
class Books:
    """What happened in all the orders of a family."""

    cache: Cache
    records: Records
    #: How computations ended, and how askings for the right to compute did; late: refused after another was stored.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: Look-ups, at the end of an order, of a fresh value; of a stale one; of nothing.
    left: Counter[str] = field(default_factory=Counter)


class Stage:
    """One key with its database, for one order."""

    def __init__(self, books: Books) -> None:
        number = next(_numbers)
        self.books = books
        self.cache, self.records = books.cache, books.records
        # Tags of its own, so that the orders do not meet; `everything` outdates only what is over.
        self.key: Key = key(f"k{number}", tags=(f"{OTHER_TAG}{number}", f"{TAG}{number}"))
        self.number = number
        self.database = 0
        #: What was in the database before the last invalidation that is over; and before the last hard one.
        self.announced = self.announced_hard = 0
        #: Values stored so far.
        self.stored = 0
        self._jobs = count(1)

    async def look(self) -> Found:
        """A reader's look-up."""
        announced, hard = self.announced, self.announced_hard
        found = await self.cache.lookup(self.key)
        if found.entry is not None:
            value = int(found.entry.payload)
            assert value >= hard, f"{value} was served after the hard invalidation of everything before {hard}"
            assert value >= announced or not fresh(found), f"{value} was fresh after {announced} was announced"
        return found

    async def clear(self) -> None:
        """Drop what is left of it, for there are thousands."""
        names, jobs = self.cache.names, next(self._jobs)
        await self.cache.store.command(
            "UNLINK",
            names.entry(self.key),
            names.version(self.key),
            names.lease(self.key),
            *(names.tag(tag) for tag in self.key.tags),
            *(names.job(f"{self.number}-{job}") for job in range(1, jobs)),
        )

    def new_job(self) -> str:
        return f"{self.number}-{next(self._jobs)}"


def fresh(found: Found) -> bool:
    """Whether it would be served as it is."""
    return found.entry is not None and not found.softened and found.age < found.entry.fresh


# --- who computes in place


async def reader(stage: Stage, *, again: bool = True) -> Doing:
    """Looks, and computes in place what is not there; starts over `again` and again, as `compute_here` does."""
    found = await stage.look()
    if fresh(found):
        return
    yield
    token, cache, outcomes = fresh_token(), stage.cache, stage.books.outcomes
    for _ in range(_RERUNS):
        begun = await cache.begin(stage.key, seen=found.nonce, token=token, lease=_LEASE)
        outcomes[begun.what] += 1
        if begun.what != "begun":
            return
        yield
        value = stage.database
        yield
        outcomes[what := await _commit(stage, value, token, begun.tag_versions)] += 1
        if what == "stored" or not again:
            return
        yield
    raise AssertionError("it starts over and over")


async def _commit(stage: Stage, value: int, holder: str, versions: tuple[bytes, ...], **job: object) -> str:
    committed = await stage.cache.commit(
        stage.key,
        b"%d" % value,
        holder=holder,
        tag_versions=versions,
        compute_seconds=0.0,
        computed_at=time.time(),
        luck=stage.number % 97 / 97,
        **job,  # type: ignore[arg-type]
    )
    if committed.what == "revoked" and stage.stored:
        stage.books.outcomes["late"] += 1
    stage.stored += committed.what == "stored"
    return committed.what


# --- who has it computed by a job


async def asker(stage: Stage, *, again: bool = True, apart: bool = False) -> Doing:
    """Looks, submits, and is the worker of the job it has made; `apart`: somebody takes it some time later."""
    found = await stage.look()
    if fresh(found):
        return
    yield
    job_id = stage.new_job()
    bell = Bell(queue="default", message=b"", list="")
    submitted = await stage.records.submit(stage.key, job_id=job_id, bell=bell, seen=found.nonce, force=False)
    stage.books.outcomes[submitted.what] += 1
    if submitted.what != "created":
        return
    if apart:
        yield
    async for _ in _worker(stage, job_id, again=again):
        yield


async def _worker(stage: Stage, job_id: str, *, again: bool = True) -> Doing:
    """Claims, reads, commits, until the job is over or somebody else's."""
    for _ in range(_RERUNS):
        claim: Claim = await jobs.claim(stage.records, job_id, stage.key)
        stage.books.outcomes[claim.what] += 1
        if claim.what != "claimed":
            return
        yield
        value = stage.database
        yield
        what = await _commit(stage, value, job_id, claim.tag_versions, job_id=job_id, fence=claim.fence, worker="w")
        stage.books.outcomes[what] += 1
        if what != "superseded" or not again:
            return
        yield
    raise AssertionError("it starts over and over")


async def heir(stage: Stage, *, again: bool = True) -> Doing:
    """The first job's worker seems dead; its job is taken from it, and another worker runs it."""
    job_id, records = f"{stage.number}-1", stage.records
    name = records.names.job(job_id)
    status, fence = await records.store.command("HMGET", name, "status", "fence")
    if status != b"running":
        raise Void
    assert (await records.end(job_id, int(fence), "died", worker="w")).status == "queued"
    yield
    async for _ in _worker(stage, job_id, again=again):
        yield


# --- who changes the database, and what else happens


async def writer(stage: Stage, *invalidations: Callable[[Stage], Outdated]) -> Doing:
    """Changes the database and says so, once for each invalidation."""
    for number, invalidation in enumerate(invalidations):
        if number:
            yield
        stage.database += 1
        yield
        outdated, now = invalidation(stage), stage.database
        await stage.cache.invalidate(outdated)
        stage.announced = now
        if not outdated.soft:
            stage.announced_hard = now


async def lease_ends(stage: Stage) -> Doing:
    """Whoever has the lease of the key has it no longer."""
    if not await stage.cache.store.command("UNLINK", stage.cache.names.lease(stage.key)):
        raise Void
    return
    yield


async def tag_is_evicted(stage: Stage) -> Doing:
    """The store drops the version of a tag for want of room."""
    if not await stage.cache.store.command("UNLINK", stage.cache.names.tag(stage.key.tags[0])):
        raise Void
    return
    yield


# --- what the field does: cache-aside


async def naive_reader(stage: Stage) -> Doing:
    """GET, read, SET."""
    store, name = stage.cache.store, stage.cache.names.entry(stage.key)
    if await store.command("GET", name) is not None:
        return
    yield
    value = stage.database
    yield
    await store.command("SET", name, value, "PX", 60_000)


async def naive_writer(stage: Stage) -> Doing:
    """Write, DEL."""
    stage.database += 1
    yield
    await stage.cache.store.command("DEL", stage.cache.names.entry(stage.key))
