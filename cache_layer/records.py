"""Records of jobs in the store: submit, claim, beat, end.

The broker is a doorbell, the record is the truth: a message may be lost, doubled or late, and each case is harmless.
Invariant: a terminal status never changes, and only the attempt whose fence is the record's may write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cache_layer.cache import COMPUTATION_TTL, RING_AGAIN, fresh_epoch, fresh_versions, tag_ttl, version_ttl
from cache_layer.keys import Key
from cache_layer.position import Position
from cache_layer.redis import Arg, Store

#: Seconds an attempt may be silent before its job is somebody else's.
LEASE = 15.0
#: Milliseconds a finished action can be looked at.
ACTION_TTL = 24 * 3_600_000
#: The same as `RING_AGAIN` where the queue cannot be looked into.
_RING_AGAIN_ELSEWHERE = 300_000
#: Crashes of its worker after which a job is dead.
MAX_CRASHES = 3
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

_ANSWERS: tuple[Literal["lost"], Literal["on"], Literal["cancel"]] = ("lost", "on", "cancel")

Fields = Mapping[str, str | bytes | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bell:
    """Where and how to ring for a job."""

    queue: str
    #: Celery's message: bytes for a list of the store's own broker.
    message: bytes
    #: Lists of the queue by priority, the one to ring first; empty: the broker is elsewhere, the caller rings.
    lists: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The answer to a submission."""

    what: Literal["hit", "failed", "joined", "created", "full", "quota"]
    job_id: str
    #: Of the newest value, offset 0 before the first.
    position: Position
    #: A worker of the queue has shown a sign of life.
    alive: bool
    #: The caller must ring for `job_id` (the broker is elsewhere).
    ring: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The answer to a claim."""

    what: Literal["claimed", "gone", "over", "duplicate", "superseded", "silent"]
    fence: int
    tag_versions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """What seeing after a job came to."""

    what: Literal["gone", "over", "well", "rung", "requeued", "dead"]
    #: The caller must ring (the broker is elsewhere).
    ring: bool


class Records:
    """Job records of one store."""

    def __init__(self, store: Store, *, queue_limit: int) -> None:
        self.store = store
        self.names = store.names
        self._queue_limit = queue_limit

    async def submit(
        self,
        key: Key,
        *,
        job_id: str,
        bell: Bell,
        fields: Fields,
        seen: bytes,
        force: bool,
        asker: str = "",
        key_rate: int = 0,
        key_bytes: int = 0,
    ) -> Submitted:
        """Join the live computation of `key` or create one with `job_id`, and ring.  One round trip; safe to repeat.

        `seen` is the nonce of the entry the caller judged too old; `force` computes although a value is there.  Of keys
        nobody has asked for lately, `asker` may bring `key_rate` a minute (0: any number), with values of `key_bytes`
        together.  A job that is joined and
        has lost its worker or its message is set going again.  Raises StoreUnavailable.
        """
        names = self.names
        keys = [
            names.entry(key),
            names.version(key),
            names.failure(key),
            names.lease(key),
            names.job(job_id),
            names.role(f"worker:{bell.queue}"),
            names.brought(asker),
            names.live(),
            names.run(),
            *bell.lists,
        ]
        places: Fields = {
            "lease": names.lease(key),
            "failure": names.failure(key),
            "channel": names.channel(key),
            "error_ttl": max(1, round(key.policy.error_ttl * 1000)),
        }
        args: list[Arg] = [
            seen,
            job_id,
            fresh_epoch(),
            version_ttl(key),
            self._queue_limit,
            int(force),
            names.job(""),
            ring_again(bell),
            key_rate,
            key_bytes,
            bell.message,
            *_flat({**fields, **places}),
        ]
        what, job, epoch, offset, alive, ring = await self.store.script("submit", keys, args)
        submitted = Submitted(
            what=what.decode(),
            job_id=job.decode(),
            position=Position(epoch.decode(), int(offset)),
            alive=bool(alive),
            ring=ring == 1,
        )
        return await self._seen_after(submitted, bell) if ring == 2 else submitted

    async def _seen_after(self, joined: Submitted, bell: Bell) -> Submitted:
        woken = await self.wake(joined.job_id, bell)
        return replace(joined, what="failed" if woken.what == "dead" else "joined", ring=woken.ring)

    async def wake(self, job_id: str, bell: Bell) -> Woken:
        """See after a live job: ring again if it waits too long, take it from a silent worker, end a deadly one.

        Of `bell` only the lists of the queue matter.  Idempotent; anybody may do it.  Raises StoreUnavailable.
        """
        names = self.names
        args: list[Arg] = [
            job_id,
            ring_again(bell),
            MAX_CRASHES,
            DEAD,
            names.job_channel(job_id),
            COMPUTATION_TTL,
        ]
        what, ring = await self.store.script("wake", [names.job(job_id), names.live(), *bell.lists], args)
        return Woken(what=what.decode(), ring=bool(ring))

    async def overdue(self, most: int = 100) -> list[str]:
        """Ids of live jobs somebody should see after, the longest overdue first.  Raises StoreUnavailable."""
        clock = await self.store.command("TIME")
        now = int(clock[0]) * 1000 + int(clock[1]) // 1000
        found = await self.store.command("ZRANGE", self.names.live(), "-inf", now, "BYSCORE", "LIMIT", 0, most)
        return [job_id.decode() for job_id in found]

    async def enqueue(self, job_id: str, *, bell: Bell, fields: Fields) -> Submitted:
        """Create the job of an action and ring; an id that exists is joined.  Raises StoreUnavailable."""
        names = self.names
        keys = [names.job(job_id), names.role(f"worker:{bell.queue}"), names.live(), *bell.lists]
        args: list[Arg] = [self._queue_limit, bell.message, job_id, ring_again(bell), *_flat(fields)]
        what, alive, ring = await self.store.script("enqueue", keys, args)
        position = Position(job_epoch(job_id), 1)
        return Submitted(what=what.decode(), job_id=job_id, position=position, alive=bool(alive), ring=bool(ring))

    async def claim(self, job_id: str, key: Key | None, *, worker: str) -> Claim:
        """Take a job for `LEASE` seconds, capturing the tag versions of its key.  Raises StoreUnavailable."""
        names = self.names
        job = names.job(job_id)
        keys = [job, names.live(), names.lease(key), *names.tags(key)] if key else [job, names.live(), job]
        fresh = fresh_versions(key) if key else []
        args: list[Arg] = [
            job_id,
            worker,
            round(LEASE * 1000),
            tag_ttl(key) if key else 0,
            names.job_channel(job_id),
            int(key is not None),
            COMPUTATION_TTL,
            *fresh,
        ]
        what, *rest = await self.store.script("claim", keys, args)
        fence, versions = (int(rest[0]), tuple(rest[1:])) if rest else (0, ())
        return Claim(what=what.decode(), fence=fence, tag_versions=versions)

    async def beat(
        self, job_id: str, fence: int, *, progress: bytes = b"", key: Key | None = None, signal: bytes = b""
    ) -> Literal["lost", "on", "cancel"]:
        """Prolong an attempt's lease, and tell its progress.  Raises StoreUnavailable."""
        names = self.names
        channel = names.channel(key) if key else ""
        args: list[Arg] = [fence, round(LEASE * 1000), progress, names.job_channel(job_id), channel, signal, job_id]
        answer: int = await self.store.script("beat", [names.job(job_id), names.live()], args)
        return _ANSWERS[answer]

    async def end(
        self,
        job_id: str,
        fence: int,
        status: Literal["succeeded", "failed", "cancelled", "retrying"],
        *,
        fields: Mapping[str, str],
        problem: bytes = b"",
        due: float = 0.0,
        message: bytes = b"",
    ) -> tuple[bool, bool]:
        """End an attempt that stores no value: (it was still ours, the caller must ring).  Raises StoreUnavailable.

        `fields` is the job's record: of a computation it names the lease that is let go and where its failure is kept.
        `retrying` without a problem is an interruption: it counts as no failure.  `due`: in how many seconds.
        """
        names = self.names
        keys = [names.job(job_id), names.live()]
        if "lease" in fields:
            keys += [fields["lease"], fields["failure"]]
        args: list[Arg] = [
            fence,
            job_id,
            status,
            problem,
            names.job_channel(job_id),
            COMPUTATION_TTL if "lease" in fields else ACTION_TTL,
            round(due * 1000),
            message,
            RING_AGAIN,
        ]
        done, ring = await self.store.script("end", keys, args)
        return bool(done), bool(ring)

    async def cancel(self, job_id: str) -> str:
        """Ask for a job's end; the status it had, "" when there is none.  Raises StoreUnavailable."""
        names = self.names
        args: list[Arg] = [job_id, names.job_channel(job_id), COMPUTATION_TTL]
        answer: bytes = await self.store.script("cancel", [names.job(job_id), names.live()], args)
        return answer.decode()

    async def get(self, job_id: str) -> dict[str, str] | None:
        """The fields of a job, or None.  Raises StoreUnavailable."""
        raw = await self.store.command("HGETALL", self.names.job(job_id))
        pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
        return {field.decode(): value.decode() for field, value in pairs} or None

    async def alive(self, *roles: str) -> dict[str, bool]:
        """Which roles have shown a sign of life.  Raises StoreUnavailable."""
        seconds, micros = await self.store.command("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        counts = await self.store.transaction(*(("ZCOUNT", self.names.role(role), now, "+inf") for role in roles))
        return {role: count > 0 for role, count in zip(roles, counts, strict=True)}

    async def show_life(self, process: str, life: float, *roles: str) -> None:
        """A sign of life of `process` in its roles, which counts for `life` seconds; 0: it leaves.

        Raises StoreUnavailable.
        """
        await self.store.script("sign", [self.names.role(role) for role in roles], [process, round(life * 1000)])


def ring_again(bell: Bell) -> int:
    """Milliseconds a job may wait before its message counts as lost."""
    return RING_AGAIN if bell.lists else _RING_AGAIN_ELSEWHERE


def job_epoch(job_id: str) -> str:
    """The epoch of a job's topic: a job never starts over, so it follows from the id."""
    return job_id.replace("-", "")[-8:]


def _flat(fields: Fields) -> Sequence[Arg]:
    return [part for pair in fields.items() for part in pair]
