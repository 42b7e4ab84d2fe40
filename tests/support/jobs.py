"""The verbs of submitters, workers and reapers at the level of the store; what tests do not vary is fixed."""

from __future__ import annotations

import time
from itertools import count

from cache_layer.cache import Cache, Committed
from cache_layer.keys import Key
from cache_layer.queues import Bell, Kind, Limits, Queues, Round, Ticket
from cache_layer.records import Claim, Ended, Ending, Records, Submitted, held
from cache_layer.redis import Store
from tests.support.keys import key

PROBLEM = b'{"type":"problem","detail":"it failed"}'
#: Process ids of nobody; the store only compares them.
PID = 4711

_tokens = count(1)


class Jobs:
    """Of one store; its broker is the store itself, or elsewhere (`native=False`)."""

    def __init__(self, store: Store, limits: Limits | None = None, *, native: bool = True) -> None:
        self.store, self.names = store, store.names
        limits = limits or Limits(queue=100)
        self.cache, self.queues, self.records = Cache(store), Queues(store, limits), Records(store, limits)
        self._native = native

    # --- whoever asks

    def bell(self, job_id: str = "", queue: str = "default") -> Bell:
        return Bell(queue=queue, message=f"for {job_id}".encode(), list=self.messages(queue) if self._native else "")

    def messages(self, queue: str = "default") -> str:
        return self.names.broker_prefix() + queue

    async def submit(
        self,
        what: Key,
        job_id: str,
        *,
        seen: bytes = b"",
        force: bool = False,
        queue: str = "default",
        priority: int = 5,
        lane: str = "",
        expires: float | None = None,
        abandonable: bool = False,
    ) -> Submitted:
        return await self.records.submit(
            what,
            job_id=job_id,
            bell=self.bell(job_id, queue),
            seen=seen,
            force=force,
            priority=priority,
            lane=lane,
            expires=expires,
            abandonable=abandonable,
        )

    def action(self, job_id: str, *, queue: str = "default", priority: int = 5, lane: str = "") -> Ticket:
        return Ticket(job_id=job_id, kind="action", queue=queue, priority=priority, lane=lane)

    async def enqueue(self, ticket: Ticket, *, due: float = 0.0, in_front: bool = False) -> bool:
        return await self.queues.enqueue(ticket, self.bell(ticket.job_id, ticket.queue), due=due, in_front=in_front)

    # --- a worker

    async def take(self, queue: str = "default", *, worker: str = "w", pid: int = PID) -> Ticket | None:
        return await self.queues.take(queue, worker=worker, pid=pid)

    async def claim(
        self,
        job_id: str,
        what: Key | None,
        *,
        worker: str = "w",
        pid: int = PID,
        within: float = 60.0,
        token: str = "",
        ticket: Ticket | None = None,
    ) -> Claim:
        """Of the job of a key, or (`what=None`) only to end it."""
        return await claim(
            self.records, job_id, what, worker=worker, pid=pid, within=within, token=token, ticket=ticket
        )

    async def work(self, job_id: str, what: Key, *, worker: str = "w", pid: int = PID) -> Claim:
        """Take the best job, which has to be this one, and claim it."""
        ticket = await self.take(worker=worker, pid=pid)
        assert ticket is not None
        assert ticket.job_id == job_id
        return await self.claim(job_id, what, worker=worker, pid=pid, ticket=ticket)

    async def beat(self, job_id: str, fence: int, *, worker: str = "w", pid: int = PID, progress: bytes = b"") -> str:
        holding = held(computation(job_id), pid=pid, fence=fence, deadline=1)
        return await self.records.beat(job_id, fence, worker=worker, holding=holding, progress=progress)

    async def commit(
        self, what: Key, job_id: str, claim: Claim, payload: bytes = b"1", *, worker: str = "w"
    ) -> Committed:
        return await self.cache.commit(
            what,
            payload,
            holder=job_id,
            tag_versions=claim.tag_versions,
            compute_seconds=0.1,
            computed_at=time.time(),
            luck=0.5,
            job_id=job_id,
            fence=claim.fence,
            worker=worker,
        )

    async def end(
        self, job_id: str, fence: int, how: Ending, *, worker: str = "w", problem: bytes = b"", due: float = 0.0
    ) -> Ended:
        return await self.records.end(job_id, fence, how, worker=worker, problem=problem, due=due)

    async def shows_life(self, worker: str = "w") -> None:
        """The worker has its lease, for as long as a slow machine needs for a test."""
        await self.queues.watch(worker, worker, ["worker", "worker:default"], life=7.0)
        await self.store.command("ZADD", self.names.lives(), await self._in_an_hour(), worker)

    async def falls_silent(self, worker: str = "w") -> None:
        """Its lease has run out."""
        await self.store.command("ZADD", self.names.lives(), 1, worker)

    # --- a reaper

    async def round(self, *queues: str) -> Round:
        """A round that follows another one: it knows no silence of the store itself."""
        await self.follows_a_round()
        return await self.queues.round([(queue, [self.messages(queue)]) for queue in queues or ("default",)])

    async def follows_a_round(self) -> None:
        """However slow the machine, the last round was just now."""
        await self.store.command("SET", self.names.queues("round"), await self._in_an_hour(), "PX", 60_000)

    async def _in_an_hour(self) -> int:
        return (int((await self.store.command("TIME"))[0]) + 3600) * 1000

    async def look_after(self, *job_ids: str) -> tuple[list[str], list[str]]:
        """Examine these now, whenever they were looked after last."""
        for job_id in job_ids:
            await self.store.command("ZADD", self.names.live(), "XX", 1, job_id)
        return await self.records.examine()

    # --- what there is

    async def fields(self, job_id: str) -> dict[str, str]:
        found = await self.records.get(job_id)
        assert found is not None
        return found

    async def status(self, job_id: str) -> str:
        fields = await self.records.get(job_id)
        return fields["status"] if fields else ""

    async def rings(self, queue: str = "default") -> int:
        """Messages that wait in the broker."""
        return int(await self.store.command("LLEN", self.messages(queue)))

    async def waiting(self, queue: str = "default") -> list[str]:
        """Ids, the next first."""
        found = await self.store.command("ZRANGE", self.names.waiting(queue), 0, -1)
        return [job_id.decode() for job_id in found]

    async def holds(self, worker: str = "w") -> set[str]:
        return {job_id.decode() for job_id in await self.store.command("HKEYS", self.names.held(worker))}

    async def left(self) -> list[str]:
        """What is left of the queues, statistics and leases aside."""
        prefix = self.names.queues()
        found = await self.store.command("KEYS", prefix + "*")
        parts = [name.decode().removeprefix(prefix) for name in found]
        return sorted(part for part in parts if not part.startswith(("s:", "d:")) and part not in _NOT_OF_JOBS)

    async def clean(self) -> None:
        """Drop what lives without a TTL: messages, places, and jobs that a test has left alive."""
        for name in await self.store.command("KEYS", f"*{self.names.queues().removeprefix('q:')}*".replace(":*", "*")):
            if await self.store.command("PTTL", name) == -1:
                await self.store.command("UNLINK", name)


_NOT_OF_JOBS = ("lives", "round", "counts", "known")


def computation(job_id: str, *, queue: str = "default", priority: int = 5, lane: str = "") -> Ticket:
    """A computation as it was taken."""
    kind: Kind = "computation"
    return Ticket(job_id=job_id, kind=kind, queue=queue, priority=priority, lane=lane)


async def claim(
    records: Records,
    job_id: str,
    what: Key | None,
    *,
    worker: str = "w",
    pid: int = PID,
    within: float = 60.0,
    token: str = "",
    ticket: Ticket | None = None,
) -> Claim:
    """Of the job of a key, or (`what=None`) only to end it."""
    lease = await records.store.command("HGET", records.names.job(job_id), "lease") or b"none"
    return await records.claim(
        ticket or computation(job_id),
        what,
        lease.decode(),
        worker=worker,
        pid=pid,
        within=within,
        token=token or f"token {next(_tokens)}",
    )


def many(names: int) -> list[Key]:
    """Keys of several values."""
    return [key(f"of.many{number}") for number in range(names)]
