"""Queues of one store: who is next, what each worker holds, what was lost.

A waiting job is a place in a fair queue (`lua/_queue.lua`); Celery's message only says that there is work.  What a
worker takes it holds until the job is finished, under its lease, which its parent process prolongs; what a worker held
whose lease ran out, or whose process died, is a loss, and a reaper sees after it.
Invariant: whatever waits, runs or was lost stands in exactly one of these places, and each move is one atomic step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import msgspec

from cache_layer.keys import Names
from cache_layer.pipeline import packed
from cache_layer.redis import Arg, Store

Kind = Literal["computation", "action"]
Reason = Literal["died", "limit", "cancelled"]

#: Seconds a worker may be silent before what it holds is somebody else's.
LEASE = 10.0
#: Seconds a queue on which something waits may be silent before its workers are rung for again.
SILENCE = 2.5
#: Milliseconds what a worker holds, and what was lost, is remembered: longer than any time limit.
HELD_TTL = 2 * 86_400_000
#: Milliseconds after which a running job of a lane no longer counts, should nobody have said that it ended.
_RUNS_AT_MOST = 26 * 3_600_000


#: Lanes whose questions are remembered.
_LANES = 4096
#: Milliseconds it is remembered how long runs take.
_REMEMBERED = 30 * 86_400_000


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has in its hands."""

    kind: Kind
    #: Number of the attempt, 0 until it is claimed.
    fence: int
    #: Process that runs it.
    pid: int
    queue: str
    priority: int
    lane: str
    #: Unix ms (of the store) by which it must have ended, 0: not claimed yet.
    deadline: int


class Lost(Held, frozen=True, kw_only=True):
    """What somebody has to see after."""

    reason: Reason
    worker: str


class Bell(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How to ring for a queue."""

    queue: str
    #: Celery's message.
    message: bytes
    #: List of the store's own broker to push it to, "": the broker is elsewhere, the caller rings.
    list: str


class Ticket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a job needs to wait for its turn."""

    job_id: str
    kind: Kind
    queue: str
    #: 0 to 9, 9 the most urgent.
    priority: int
    #: Whose turn it is: id of a user, "" the public, "*" the service.
    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whether one more job may wait."""

    what: Literal["yes", "full", "crowded"]
    #: Seconds after which it is worth asking again, from how fast the queue is being worked off; None: nobody knows.
    wait: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a worker's parent sees."""

    #: Unix ms, by the store.
    now: int
    #: Job id -> what is held, and since when (unix ms) its end has been asked for, or None.
    held: dict[str, tuple[Held, int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round of a reaper has found."""

    #: Queue -> how often to ring for it.
    rings: dict[str, int]
    lost: dict[str, Lost]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How the queues are, and what has happened on them so far."""

    #: Queue -> jobs that wait.
    waiting: dict[str, int]
    #: What happened to jobs -> how often.
    happened: dict[str, int]
    #: Workers with a lease.
    workers: int
    #: Jobs that wait for their time.
    due: int
    #: Jobs whose process or worker died, that nobody has seen after yet.
    losses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may wait and run."""

    #: Waiting jobs of one queue.
    queue: int
    #: Waiting and running jobs of one user; 0: any number.  The public and the service have no such limit.
    waiting: int = 0
    running: int = 0

    def of_lane(self, lane: str) -> int:
        """How many jobs of this lane may wait; 0: any number."""
        return 0 if lane in ("", "*") else self.waiting


class Queues:
    """The queues of one store."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store = store
        self.names: Names = store.names
        self.limits = limits
        #: The question is the same for all of a lane.
        self._admission = lru_cache(_LANES)(self._pack_admission)

    def _pack_admission(self, queue: str, lane: str) -> bytes:
        args: list[Arg] = [self.names.queues(), queue, lane, self.limits.queue, self.limits.of_lane(lane)]
        return packed(("EVALSHA", self.store.sha("admit"), 0, *args))

    async def admit(self, queue: str, lane: str) -> Admission:
        """May one more job of `lane` wait?  Raises StoreUnavailable."""
        what, wait = await self.store.repeatable_packed("admit", self._admission(queue, lane))
        return Admission(what=what.decode(), wait=seconds(wait))

    async def enqueue(
        self, ticket: Ticket, bell: Bell, *, due: float = 0.0, in_front: bool = False, lost: bool = False
    ) -> bool:
        """Let a job wait, from now on or in `due` seconds; waits it already, nothing happens.

        True: the caller must ring.  Idempotent.  Raises StoreUnavailable.
        """
        names = self.names
        args: list[Arg] = [
            names.queues(),
            ticket.job_id,
            ticket.queue,
            ticket.kind,
            ticket.priority,
            ticket.lane,
            math.ceil(due * 1000),
            int(in_front),
            bell.message,
            int(lost),
        ]
        keys = [names.job(ticket.job_id), *([bell.list] if bell.list else [])]
        return bool(await self.store.repeatable("enqueue", keys, args))

    async def take(self, queue: str, *, worker: str, pid: int) -> Ticket | None:
        """The best waiting job of a queue, held by `worker` from now on; None for nothing.  Raises StoreUnavailable."""
        names = self.names
        args: list[Arg] = [
            *(names.queues(), queue, pid, self.limits.running, _RUNS_AT_MOST, HELD_TTL, names.job("")),
        ]
        found = await self.store.script("take", [names.held(worker)], args)
        if not found:
            return None
        job_id, kind, priority, lane, _ = found
        return Ticket(
            job_id=job_id.decode(), kind=kind.decode(), queue=queue, priority=int(priority), lane=lane.decode()
        )

    async def hold(self, worker: str, job_id: str, held: Held) -> None:
        """Say what a worker holds.  Raises StoreUnavailable."""
        name = self.names.held(worker)
        await self.store.transaction(("HSET", name, job_id, msgspec.json.encode(held)), ("PEXPIRE", name, HELD_TTL))

    async def held(self, worker: str) -> dict[str, Held]:
        """What a worker holds.  Raises StoreUnavailable."""
        found = await self.store.command("HGETALL", self.names.held(worker))
        return {job_id.decode(): msgspec.json.decode(raw, type=Held) for job_id, raw in _pairs(found)}

    async def lose(self, worker: str, job_id: str, held: Held) -> None:
        """A worker lets go of a job it could not end, if that process still holds it: a reaper sees after it.

        Raises StoreUnavailable.
        """
        names = self.names
        args: list[Arg] = [job_id, held.pid, worker, "died", held.fence or "", "1"]
        await self.store.script("lost", [names.held(worker), names.losses()], args)

    async def release(self, ticket: Ticket, *, worker: str = "", over: bool) -> str:
        """An action neither waits nor runs (here) any more; the queue that must be rung for because of it, "" for none.

        Told on its topic.  Idempotent.  Raises StoreUnavailable.
        """
        names = self.names
        args: list[Arg] = [
            *(names.queues(), ticket.job_id, ticket.lane, names.job_channel(ticket.job_id), int(over)),
        ]
        keys = [names.held(worker), names.job(ticket.job_id)]
        going_on: bytes = await self.store.script("release", keys, args)
        return going_on.decode()

    async def ask_for_end(self, job_id: str) -> None:
        """A running action shall end: its worker will see it.  Raises StoreUnavailable."""
        names = self.names
        now = await self.store.milliseconds()
        await self.store.transaction(
            ("HSETNX", names.cancels(), job_id, now),  # from the first time on, whoever asks again
            ("PEXPIRE", names.cancels(), HELD_TTL),
            ("PUBLISH", names.job_channel(job_id), "C"),
        )

    async def forget_cancels(self, most: int = 1000) -> None:
        """Of jobs that ended just when their end was asked for, nobody takes the wish away; days later they are over.

        Raises StoreUnavailable.
        """
        names = self.names
        now = await self.store.milliseconds()
        asked = list(_pairs(await self.store.command("HGETALL", names.cancels())))
        old = [job_id for job_id, since in asked if int(since) < now - _RUNS_AT_MOST][:most]
        if old:
            await self.store.command("HDEL", names.cancels(), *old)

    async def tell(self, job_id: str) -> None:
        """Tell who watches an action that it has changed.  Raises StoreUnavailable."""
        await self.store.command("PUBLISH", self.names.job_channel(job_id), "C")

    async def watch(
        self, worker: str, process: str, roles: Sequence[str], *, life: float, leaves: bool = False
    ) -> Watch:
        """Prolong a worker's lease; what its processes hold.  Raises StoreUnavailable."""
        keys, args = watching(self.names, worker, process, roles, life=life, leaves=leaves)
        return read_watch(await self.store.script("watch", keys, args))

    async def round(self, queues: Sequence[tuple[str, Sequence[str]]]) -> Round:
        """One round of a reaper over `queues`: name, and the lists of the store's own broker.

        Raises StoreUnavailable.
        """
        names = self.names
        told = json.dumps([[name, list(lists)] for name, lists in queues])
        args: list[Arg] = [
            *(names.queues(), names.held(""), HELD_TTL, round(SILENCE * 1000), self.limits.running, told),
        ]
        rings, lost = await self.store.script("round", [names.lives(), names.losses()], args)
        return Round(
            rings={queue.decode(): int(times) for queue, times in _pairs(rings)},
            lost={job_id.decode(): msgspec.json.decode(raw, type=Lost) for job_id, raw in _pairs(lost)},
        )

    async def not_rung(self, queue: str) -> None:
        """The broker did not take a ring: that nobody hears of it is no sign of busy workers.

        Raises StoreUnavailable.
        """
        await self.store.command("HDEL", self.names.queues(f"s:{queue}"), "patience")

    async def seen_after(self, job_id: str, lost: Lost) -> None:
        """A loss is one no longer; another one of the same job still is.  Raises StoreUnavailable."""
        await self.let_go(job_id, worker=lost.worker, pid=lost.pid, fence=lost.fence)

    async def let_go(self, job_id: str, *, worker: str, pid: int, fence: int) -> None:
        """This attempt holds the job no longer; where the job waits or runs otherwise it stays so.

        Raises StoreUnavailable.
        """
        names = self.names
        await self.store.script("let_go", [names.losses(), names.held(worker)], [job_id, worker, fence, pid])

    async def expired(self, workers: Sequence[str]) -> set[str]:
        """Those of `workers` that are dead; one nobody has heard of has a lease from now on.

        Raises StoreUnavailable.
        """
        if not workers:
            return set()
        now = await self.store.milliseconds()
        grace = now + round(LEASE * 1000)
        members = [part for worker in workers for part in (grace, worker)]
        _, leases = await self.store.transaction(
            ("ZADD", self.names.lives(), "NX", *members), ("ZMSCORE", self.names.lives(), *workers)
        )
        return {worker for worker, until in zip(workers, leases, strict=True) if float(until) < now}

    async def waits(self, job_ids: Sequence[str]) -> list[bool]:
        """Which of the jobs wait for their turn or their time.  Raises StoreUnavailable."""
        if not job_ids:
            return []
        found = await self.store.command("HMGET", self.names.queues("of"), *job_ids)
        return [about is not None for about in found]

    async def position(self, queue: str, job_id: str) -> int | None:
        """A job's place in its queue, the next is 1; None when it does not wait.  Raises StoreUnavailable."""
        rank = await self.store.command("ZRANK", self.names.waiting(queue), job_id)
        return None if rank is None else int(rank) + 1

    async def usual_seconds(self, name: str) -> float | None:
        """How long successful runs of a resource or action have taken lately, in the mean; None: nobody knows.

        Raises StoreUnavailable.
        """
        mean = await self.store.command("GET", self.names.history(name))
        return None if mean is None else float(mean)

    async def note_seconds(self, name: str, took: float) -> None:
        """A run has taken so long: the mean follows, a fifth of the way.  Raises StoreUnavailable."""
        mean = await self.usual_seconds(name)
        fresh = took if mean is None else mean + (took - mean) / 5
        await self.store.command("SET", self.names.history(name), f"{fresh:.3f}", "PX", _REMEMBERED)

    async def statistics(self, queues: Sequence[str]) -> Statistics:
        """What those who run the service want to know.  Raises StoreUnavailable."""
        names = self.names
        counts, workers, losses, due, *waiting = await self.store.transaction(
            ("HGETALL", names.queues("counts")),
            ("ZCARD", names.lives()),
            ("HLEN", names.losses()),
            ("ZCARD", names.queues("due")),
            *(("ZCARD", names.waiting(queue)) for queue in queues),
        )
        return Statistics(
            waiting=dict(zip(queues, map(int, waiting), strict=True)),
            happened={what.decode(): int(count) for what, count in _pairs(counts)},
            workers=int(workers),
            due=int(due),
            losses=int(losses),
        )


def watching(
    names: Names, worker: str, process: str, roles: Sequence[str], *, life: float, leaves: bool
) -> tuple[list[str], list[Arg]]:
    """Keys and arguments of `watch.lua`, for whichever client calls it."""
    keys = [names.lives(), names.held(worker), names.cancels(), *(names.role(role) for role in roles)]
    return keys, [worker, 0 if leaves else round(LEASE * 1000), process, round(life * 1000), HELD_TTL]


def read_watch(raw: Sequence[Any]) -> Watch:
    """What `watch.lua` says."""
    now, *rest = raw
    held = {
        job_id.decode(): (msgspec.json.decode(about, type=Held), int(cancel) if cancel else None)
        for job_id, about, cancel in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    }
    return Watch(now=int(now), held=held)


def seconds(ms: int) -> float | None:
    """A wait as scripts tell it."""
    return ms / 1000 if ms else None


def _pairs(flat: Any) -> Iterator[tuple[bytes, bytes]]:
    if isinstance(flat, dict):
        return iter(flat.items())
    return zip(flat[::2], flat[1::2], strict=True)
