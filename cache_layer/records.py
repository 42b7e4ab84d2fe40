"""Records of computations in the store: submit, claim, beat, end.

The broker is a doorbell, the record is the truth: a message may be lost, doubled or late, and each case is harmless.
Invariant: a terminal status never changes, and only the attempt whose fence is the record's may write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from cache_layer.cache import COMPUTATION_TTL, HISTORY, LOOK_AFTER, fresh_versions, tag_ttl
from cache_layer.keys import Key
from cache_layer.position import Position
from cache_layer.queues import HELD_TTL, LEASE, Bell, Held, Kind, Limits, Ticket, seconds
from cache_layer.redis import Arg, Store
from cache_layer.submission import Submissions

#: Crashes of its process or worker after which a job is dead.
MAX_CRASHES = 3
#: Seconds for which a computation is wanted after somebody has asked for it, or looked at it.
WANTED = 10.0
#: Milliseconds a dead computation, and the progress of an action, is kept.
_DEAD_TTL, _PROGRESS_TTL = 7 * 86_400_000, 86_400_000
#: What a job is told whose workers died again and again (RFC 9457).
DEAD = json.dumps(
    {
        "type": "computation-failed",
        "title": "The computation failed",
        "status": 502,
        "detail": f"its worker died {MAX_CRASHES} times; the job is dead",
        "reason": "dead",
        "retryable": True,
    }
).encode()

_ANSWERS: tuple[Literal["lost"], Literal["on"], Literal["cancel"], Literal["unknown"]] = (
    "lost",
    "on",
    "cancel",
    "unknown",
)
#: How an attempt ends that stores no value.
Ending = Literal["failed", "retrying", "cancelled", "interrupted", "died", "dead"]


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a submission."""

    what: Literal["hit", "failed", "joined", "created", "full", "crowded", "quota"]
    job_id: str
    #: Of the newest value, offset 0 before the first.
    position: Position
    #: A worker of the queue has shown a sign of life.
    alive: bool
    #: The caller must ring (the broker is elsewhere).
    ring: bool = False
    #: The worker of the job that was joined is silent: the caller sees after it.
    silent: bool = False
    #: Seconds after which it is worth asking again (full, crowded); None: nobody knows.
    wait: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The answer to a claim."""

    what: Literal["claimed", "gone", "over", "duplicate", "superseded", "expired"]
    fence: int
    tag_versions: tuple[bytes, ...] = ()
    #: A queue that must be rung for because this is not to be run, "" for none.
    going_on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the end of an attempt came to."""

    #: The job's status now; "": this attempt had lost its job.
    status: Literal["", "queued", "retrying", "failed", "cancelled", "dead"]
    #: The job waits on its queue: the caller must ring.
    ring: bool
    #: Another queue that must be rung for, "" for none.
    going_on: str


class Records:
    """Records of computations of one store."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store = store
        self.names = store.names
        self._submissions = Submissions(store, limits)

    async def submit(
        self,
        key: Key,
        *,
        job_id: str,
        bell: Bell,
        params: str | bytes = b"{}",
        principal: str = "",
        seen: bytes,
        force: bool,
        priority: int = 5,
        lane: str = "",
        asker: str = "",
        key_rate: int = 0,
        key_bytes: int = 0,
        expires: float | None = None,
        abandonable: bool = False,
    ) -> Submitted:
        """Join the live computation of `key` or create one with `job_id`, and ring.  One round trip; safe to repeat.

        `params` and `principal` are JSON, for who computes it.  `seen` is the nonce of the entry the caller judged too
        old; `force` computes although a value is there.  Of keys nobody has asked for lately, `asker` may bring
        `key_rate` a minute (0: any number), with values of `key_bytes` together.  `expires`: seconds within which it
        must have begun.  `abandonable`: it is given up when nobody wants it any more.  Raises StoreUnavailable.
        """
        command = self._submissions.pack(
            key,
            job_id=job_id,
            bell=bell,
            params=params,
            principal=principal,
            seen=seen,
            force=force,
            priority=priority,
            lane=lane,
            asker=asker,
            key_rate=key_rate,
            key_bytes=key_bytes,
            expires=expires,
            abandonable=abandonable,
        )
        what, job, epoch, offset, alive, ring, wait = await self.store.repeatable_packed("submit", command)
        return Submitted(
            what=what.decode(),
            job_id=job.decode(),
            position=Position(epoch.decode(), int(offset)),
            alive=bool(alive),
            ring=ring == 1,
            silent=ring == 2,
            wait=seconds(wait),
        )

    async def claim(
        self, ticket: Ticket, key: Key | None, lease: str, *, worker: str, pid: int, within: float, token: str
    ) -> Claim:
        """Claim a computation that was taken, for `within` seconds, capturing the tag versions of its key.

        Without `key` it is not to be run, only to be ended.  `lease`: as its record names it.  Safe to repeat with the
        same `token`.  Raises StoreUnavailable.
        """
        names = self.names
        keys = [
            *(names.job(ticket.job_id), names.live(), lease, names.held(worker)),
            *(names.tags(key) if key else []),
        ]
        args: list[Arg] = [
            ticket.job_id,
            worker,
            msgspec.json.encode(held(ticket, pid=pid)),
            round(within * 1000),
            tag_ttl(key) if key else 0,
            names.job_channel(ticket.job_id),
            COMPUTATION_TTL,
            LOOK_AFTER,
            int(key is None),
            names.queues(),
            token,
            HELD_TTL,
            *(fresh_versions(key) if key else []),
        ]
        what, fence, going_on, *versions = await self.store.script("claim", keys, args)
        return Claim(what=what.decode(), fence=int(fence), tag_versions=tuple(versions), going_on=going_on.decode())

    async def beat(
        self,
        job_id: str,
        fence: int,
        *,
        worker: str,
        holding: Held,
        progress: bytes = b"",
        key: Key | None = None,
        signal: bytes = b"",
    ) -> Literal["lost", "on", "cancel", "unknown"]:
        """Does an attempt go on?  And tell its progress.  `unknown`: an action nobody knows here, ask the database.

        Raises StoreUnavailable.
        """
        names = self.names
        args: list[Arg] = [
            job_id,
            fence,
            int(holding.kind == "computation"),
            msgspec.json.encode(holding),
            progress,
            names.job_channel(job_id),
            names.channel(key) if key else "",
            signal,
            _PROGRESS_TTL,
            HELD_TTL,
        ]
        answer: int = await self.store.script("beat", [names.job(job_id), names.held(worker), names.cancels()], args)
        return _ANSWERS[answer]

    async def end(
        self,
        job_id: str,
        fence: int,
        how: Ending,
        *,
        worker: str,
        problem: bytes = b"",
        due: float = 0.0,
    ) -> Ended:
        """End an attempt that stores no value.  `due`: seconds after which it is to be tried again.

        Its failure is kept and told where its record says.  `interrupted` counts as no failure; `died` as a crash, of
        which the third ends the job, and `dead` ends it at once.  Safe to repeat.  Raises StoreUnavailable.
        """
        names = self.names
        args: list[Arg] = [
            fence,
            job_id,
            how,
            problem,
            names.job_channel(job_id),
            COMPUTATION_TTL,
            round(due * 1000),
            names.queues(),
            LOOK_AFTER,
            HISTORY,
            MAX_CRASHES,
            DEAD,
            _DEAD_TTL,
        ]
        keys = [names.job(job_id), names.live(), names.held(worker)]
        status, ring, going_on = await self.store.script("end", keys, args)
        return Ended(status=status.decode(), ring=bool(ring), going_on=going_on.decode())

    async def cancel(self, job_id: str, *, by: str = "", channel: str = "") -> tuple[str, bool]:
        """Ask for a computation's end: (the status it had, "" for none; whether it goes on as others asked for it).

        `by`: the lane of who asks; "": it ends whoever wants it.  `channel`: of its value.  Raises StoreUnavailable.
        """
        names = self.names
        keys = [names.job(job_id), names.live(), names.cancels(), channel or names.job_channel(job_id)]
        args: list[Arg] = [
            job_id,
            names.job_channel(job_id),
            COMPUTATION_TTL,
            names.queues(),
            by,
            _PROGRESS_TTL,
        ]
        status, kept = await self.store.script("cancel", keys, args)
        return status.decode(), bool(kept)

    async def examine(self, most: int = 500) -> tuple[list[str], list[str]]:
        """Look after live computations: (queues to ring for, ids of those nobody wants).  Raises StoreUnavailable."""
        names = self.names
        args: list[Arg] = [
            names.queues(),
            names.job(""),
            names.held(""),
            round(LEASE * 1000),
            LOOK_AFTER,
            most,
            COMPUTATION_TTL,
            names.job_channel(""),
            round(WANTED * 1000),
        ]
        keys = [names.live(), names.lives(), names.losses(), names.abandonable()]
        rings, unwanted = await self.store.script("examine", keys, args)
        return [queue.decode() for queue in rings], [job_id.decode() for job_id in unwanted]

    async def get(self, job_id: str) -> dict[str, str] | None:
        """What the store has of a job, or None: of an action at most its progress.  Raises StoreUnavailable."""
        return _fields(await self.store.command("HGETALL", self.names.job(job_id)))

    async def want(self, job_id: str) -> None:
        """Somebody looked at a computation: it is wanted.  Raises StoreUnavailable."""
        await self.store.script("want", [self.names.job(job_id)], [])

    async def page(self, before: str, most: int) -> tuple[list[dict[str, str]], str]:
        """Records of computations older than the job `before` ("": all), newest first; and the id up to which was
        looked, "" when there are no older ones.  At most `most`, fewer where some are gone.  Raises StoreUnavailable.
        """
        names = self.names
        start = f"({before}" if before else "+"
        ids = await self.store.command("ZRANGE", names.all_jobs(), start, "-", "BYLEX", "REV", "LIMIT", 0, most)
        if not ids:
            return [], ""
        found = await self.store.transaction(*(("HGETALL", names.job(job_id.decode())) for job_id in ids))
        gone = [job_id for job_id, raw in zip(ids, found, strict=True) if not raw]
        if gone:
            await self.store.command("ZREM", names.all_jobs(), *gone)
        return [fields for raw in found if (fields := _fields(raw))], ids[-1].decode() if len(ids) == most else ""

    async def sweep(self, most: int = 1000) -> int:
        """Forget ids of computations whose records are gone; how many.  `most`: looked at in one round trip.

        All that began long enough ago, for some of the oldest may be kept longer.  Raises StoreUnavailable.
        """
        names, after, forgotten = self.names, "-", 0
        until = f"({_oldest_id(await self.store.milliseconds() - COMPUTATION_TTL)}"
        while True:
            ids = await self.store.command("ZRANGE", names.all_jobs(), after, until, "BYLEX", "LIMIT", 0, most)
            if not ids:
                return forgotten
            there = await self.store.transaction(*(("EXISTS", names.job(job_id.decode())) for job_id in ids))
            gone = [job_id for job_id, exists in zip(ids, there, strict=True) if not exists]
            if gone:
                await self.store.command("ZREM", names.all_jobs(), *gone)
            after, forgotten = f"({ids[-1].decode()}", forgotten + len(gone)

    async def discard(self, job_id: str) -> None:
        """Forget a computation that is over.  Raises StoreUnavailable."""
        names = self.names
        await self.store.transaction(("UNLINK", names.job(job_id)), ("ZREM", names.all_jobs(), job_id))

    async def alive(self, *roles: str) -> dict[str, bool]:
        """Which roles have shown a sign of life.  Raises StoreUnavailable."""
        now = await self.store.milliseconds()
        counts = await self.store.transaction(*(("ZCOUNT", self.names.role(role), now, "+inf") for role in roles))
        return {role: count > 0 for role, count in zip(roles, counts, strict=True)}

    async def show_life(self, process: str, life: float, *roles: str) -> None:
        """A sign of life of `process` in its roles, which counts for `life` seconds; 0: it leaves.

        Raises StoreUnavailable.
        """
        await self.store.script("sign", [self.names.role(role) for role in roles], [process, round(life * 1000)])


def held(ticket: Ticket, *, pid: int, fence: int = 0, deadline: int = 0) -> Held:
    """What a worker holds that has taken `ticket`."""
    kind: Kind = ticket.kind
    return Held(
        kind=kind,
        fence=fence,
        pid=pid,
        queue=ticket.queue,
        priority=ticket.priority,
        lane=ticket.lane,
        deadline=deadline,
    )


def job_epoch(job_id: str) -> str:
    """The epoch of a job's topic: a job never starts over, so it follows from the id."""
    return job_id.replace("-", "")[-8:]


def _oldest_id(unix_ms: int) -> str:
    """Before all ids of jobs that began then, after all of those before: they begin with the time (UUIDv7)."""
    begin = f"{unix_ms:012x}"
    return f"{begin[:8]}-{begin[8:]}"


def _fields(raw: Mapping[bytes, bytes] | Sequence[bytes]) -> dict[str, str] | None:
    pairs = raw.items() if isinstance(raw, Mapping) else zip(raw[::2], raw[1::2], strict=True)
    return {field.decode(): value.decode() for field, value in pairs} or None
