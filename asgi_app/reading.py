"""The one flow behind all doors: read(resource, params, principal) -> Reading.

    look up (one round trip) -> verdict: serve | serve and refresh behind | load
                                                        load -> join or submit the one computation of the key
    a reader that waits is woken by the publication of the commit, and looks again

Invariant: no reader runs a computation on its own; it joins the one of its key, in the cluster (promise 1), and a
cancelled reader leaves it running.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from asgi_app import access, computing
from asgi_app.errors import (
    ComputationFailed,
    IdempotencyMismatch,
    MillpondError,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from asgi_app.jobs import dump_principal, new_job_id
from asgi_app.registry import Action, Principal, Resource
from cache_layer.cache import Cache, Found
from cache_layer.codec import Entry
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.freshness import Verdict, decide
from cache_layer.keys import Key, digest
from cache_layer.last_known import LastKnown
from cache_layer.position import Position
from cache_layer.publication import Signal, Value, parse
from cache_layer.records import Records, Submitted
from cache_layer.single_flight import SingleFlight

if TYPE_CHECKING:
    from asgi_app.env import Env
    from asgi_app.wiring import Doorbell

log = logging.getLogger(__name__)

#: Seconds after which a waiting reader looks again although nobody woke it, jittered.
_LOOK_AGAIN = 1.0
#: Seconds between two requests of this process to refresh one stale value; and how many are remembered.
_ASK_AGAIN = 0.5
_ASKED_MOST = 10_000
#: How often a load starts over because somebody else was quicker.
_RACES = 3
#: What a client should wait, in seconds, before it asks a service again that lacks a part.
_RETRY_AFTER = 2.0

DEAD = json.dumps(
    ComputationFailed("its worker died three times; the job is dead", extra={"reason": "dead"}).problem()
).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a door may show."""

    #: stale: `entry` is older than it should be; pending: no value yet; failed: `error` says why there is none.
    state: Literal["fresh", "stale", "pending", "failed"]
    #: Of the entry, or of the newest value known to be outdated.
    position: Position
    entry: Entry | None = None
    #: Seconds since the entry was computed and stored.
    age: float = 0.0
    #: The computation on its way, when it is known here.
    job_id: str | None = None
    #: Problem (RFC 9457) of the last computation; beside an entry: why it is not fresh.
    error: Mapping[str, Any] | None = None
    #: No worker of the resource's queue shows a sign of life.
    unattended: bool = False
    #: How it came about, for Cache-Status.
    via: Literal["hit", "computed", "joined", "last known"] = "hit"

    @property
    def fresh_for(self) -> float:
        """Seconds the value stays fresh; 0 when it is not."""
        return max(0.0, self.entry.fresh - self.age) if self.entry is not None and self.state == "fresh" else 0.0


@dataclass(frozen=True, slots=True)
class _Question:
    resource: Resource
    params: Any
    principal: Principal
    key: Key
    trusted: bool


@dataclass(slots=True)
class _Waiter:
    """Listens on the channel of a key until something happens there."""

    newer_than: Position | None
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, message: bytes) -> None:
        publication, known = parse(message), self.newer_than
        if isinstance(publication, Signal) and publication.kind == "progress":
            return
        if isinstance(publication, Value) and known is not None and known.covers(publication.entry.position):
            return
        self.woken.set()


class Reader:
    """Reads, refreshes and runs, for one event loop."""

    def __init__(self, cache: Cache, records: Records, feed: Feed, doorbell: Doorbell, env: Env) -> None:
        self._cache = cache
        self._records = records
        self._feed = feed
        self._doorbell = doorbell
        self._env = env
        self._loads: SingleFlight[Submitted] = SingleFlight()
        self._computations: SingleFlight[None] = SingleFlight()
        self._looks: SingleFlight[Reading] = SingleFlight()
        self._last_known = LastKnown()
        #: When a stale value's refresh was last asked for: not again for each of its readers.
        self._asked: dict[str, float] = {}

    def start(self) -> None:
        """Begin to hear invalidations; on the running loop."""
        self._feed.attach(self._cache.invalidations_channel, self._invalidated)
        self._feed.on_gap.append(self._last_known.clear)

    async def stop(self) -> None:
        """End what runs behind; may be called twice."""
        for flights in (self._looks, self._loads, self._computations):
            await flights.close()

    async def read(
        self,
        resource: Resource,
        params: Any,
        principal: Principal,
        *,
        wait: float = 0.0,
        newer_than: Position | None = None,
        trusted: bool = False,
    ) -> Reading:
        """Read a resource; at once unless `wait` gives the seconds to hold out for its computation.

        With `newer_than` it holds out for a value the holder of that position has not seen.  Raises Denied or
        Unauthenticated (unless `trusted`), Unavailable when the store is away and nothing may be served.
        """
        question = await self._question(resource, params, principal, trusted)
        try:
            reading = await self._look(question)
            if wait > 0 and not _satisfies(reading, newer_than):
                reading = await self._wait(question, reading, wait, newer_than)
            return reading
        except StoreUnavailable as error:
            return self._without_store(question, error)

    async def refresh(
        self,
        resource: Resource,
        params: Any,
        principal: Principal,
        *,
        job_id: str | None = None,
        trusted: bool = False,
    ) -> str:
        """Compute anew although a fresh value may be there; the id of the job, "" for one computed in this process.

        The same `job_id` twice is one job.  Raises Denied, Unauthenticated, Unavailable, TooManyRequests.
        """
        question = await self._question(resource, params, principal, trusted)
        try:
            if not resource.offload:
                self._compute_here(question, b"", force=True)
                return ""
            return (await self._submit(question, b"", force=True, job_id=job_id)).job_id
        except StoreUnavailable as error:
            raise _away() from error

    async def run(
        self,
        action: Action,
        params: Any,
        principal: Principal,
        *,
        job_id: str | None = None,
        idempotency_key: str | None = None,
        trusted: bool = False,
    ) -> str:
        """Put an action on its queue; the id of its job.  The same `job_id` twice is one job.

        So is the same `idempotency_key` of one principal within a day; with other parameters it raises
        IdempotencyMismatch.  Raises Denied, Unauthenticated, Unavailable, TooManyRequests.
        """
        if not trusted:
            await access.check(action, principal, params)
        job_id = job_id or _new_id()
        if idempotency_key is not None:
            job_id = await self._first_id(action, params, principal, idempotency_key, job_id)
        bell = self._doorbell.bell(job_id, queue=action.queue, priority=action.priority, time_limit=action.time_limit)
        fields: dict[str, str | bytes | int] = {
            "id": job_id,
            "kind": "action",
            "name": action.name,
            "params": json.dumps(action.dump(params)),
            "queue": action.queue,
            "priority": action.priority,
            "owner": principal.user_id or "",
            "principal": dump_principal(principal),
            "topic": "",
        }
        try:
            submitted = await self._records.enqueue(job_id, bell=bell, fields=fields)
        except StoreUnavailable as error:
            raise _away() from error
        return (await self._accepted(submitted)).job_id

    async def _first_id(self, action: Action, params: Any, principal: Principal, key: str, job_id: str) -> str:
        """The job id that was first given for an Idempotency-Key."""
        asked = digest(json.dumps(action.dump(params), sort_keys=True))
        name = self._records.names.idempotency(digest(principal.user_id or "", action.name, key))
        try:
            first = await self._records.store.command(
                "SET", name, f"{job_id} {asked}", "NX", "GET", "PX", 24 * 3_600_000
            )
        except StoreUnavailable as error:
            raise _away() from error
        if first is None:
            return job_id
        known_id, known_asked = first.decode().split(" ")
        if known_asked != asked:
            raise IdempotencyMismatch(f"the job {known_id} was asked for with this key and other parameters")
        return str(known_id)

    # --- one look

    async def _question(self, resource: Resource, params: Any, principal: Principal, trusted: bool) -> _Question:
        if not trusted:
            await access.check(resource, principal, params)
        return _Question(resource, params, principal, resource.key(params, principal), trusted)

    async def _look(self, question: _Question) -> Reading:
        for _ in range(_RACES):
            found = await self._find(question.key)
            reading = await self._judge(question, found)
            if reading is not None:
                return reading
        return Reading(state="pending", position=await self._cache.position(question.key))

    async def _find(self, key: Key) -> Found:
        era = self._last_known.era
        found = await self._cache.lookup(key)
        if found.entry is not None and self._feed.confirmed(self._cache.invalidations_channel):
            self._last_known.keep(key, found.entry, found.age, era=era)
        return found

    async def _judge(self, question: _Question, found: Found) -> Reading | None:
        """The reading for what was found; None when somebody changed it meanwhile: look again."""
        entry, error = found.entry, _problem(found.failure)
        verdict = decide(
            age=found.age if entry is not None else None,
            fresh=entry.fresh if entry is not None else 0.0,
            compute_seconds=entry.compute_seconds if entry is not None else 0.0,
            policy=question.key.policy,
            failed=error is not None,
            luck=1.0 - random.random(),
        )
        if verdict is Verdict.LOAD:
            return await self._load(question, found)
        if verdict is Verdict.FAIL or entry is None:
            return Reading(state="failed", position=await self._cache.position(question.key), error=error)
        fresh = found.age < entry.fresh
        if verdict is Verdict.SERVE_AND_REFRESH:
            self._refresh_behind(question, found.nonce)
        return Reading(
            state="fresh" if fresh else "stale",
            position=entry.position,
            entry=entry,
            age=found.age,
            error=error if verdict is Verdict.SERVE_AFTER_ERROR else None,
        )

    async def _load(self, question: _Question, found: Found) -> Reading | None:
        if not question.resource.offload:
            self._compute_here(question, found.nonce)
            return Reading(state="pending", position=await self._cache.position(question.key), via="computed")
        try:
            submitted = await self._submit_once(question, found.nonce)
        except (Unavailable, TooManyRequests) as error:
            return self._after_refusal(question, found, error)
        if submitted.what in ("hit", "failed"):
            return None
        return Reading(
            state="pending",
            position=submitted.position,
            job_id=submitted.job_id,
            unattended=not submitted.alive,
            via="computed" if submitted.what == "created" else "joined",
        )

    def _after_refusal(self, question: _Question, found: Found, error: MillpondError) -> Reading:
        """No computation was accepted: an old value within stale-if-error, else the refusal."""
        entry = found.entry
        if entry is None or found.age >= entry.fresh + question.key.policy.stale_if_error:
            raise error
        return Reading(state="stale", position=entry.position, entry=entry, age=found.age, error=error.problem())

    def _refresh_behind(self, question: _Question, seen: bytes) -> None:
        digest_, now = question.key.digest, time.monotonic()
        if now - self._asked.get(digest_, -_ASK_AGAIN) < _ASK_AGAIN:
            return
        if len(self._asked) > _ASKED_MOST:
            self._asked.clear()
        self._asked[digest_] = now
        if question.resource.offload:
            self._loads.start(question.key.digest, lambda: self._submit(question, seen))
        else:
            self._compute_here(question, seen)

    # --- the one computation

    async def _submit_once(self, question: _Question, seen: bytes) -> Submitted:
        return await self._loads.do(question.key.digest, lambda: self._submit(question, seen))

    async def _submit(
        self, question: _Question, seen: bytes, force: bool = False, job_id: str | None = None
    ) -> Submitted:
        resource, key = question.resource, question.key
        job_id = job_id or _new_id()
        bell = self._doorbell.bell(
            job_id, queue=resource.queue, priority=resource.priority, time_limit=resource.time_limit
        )
        asker = question.principal if resource.vary is not None else Principal.public()
        fields: dict[str, str | bytes | int] = {
            "id": job_id,
            "kind": "computation",
            "name": resource.name,
            "params": json.dumps(resource.dump(question.params)),
            "queue": resource.queue,
            "priority": resource.priority,
            "owner": "",
            "principal": dump_principal(asker),
            "topic": key.topic,
        }
        submitted = await self._records.submit(
            key,
            job_id=job_id,
            bell=bell,
            fields=fields,
            seen=seen,
            dead_problem=DEAD,
            force=force,
            asker=question.principal.user_id or "",
            key_rate=0 if question.trusted else self._env.key_rate,
        )
        return await self._accepted(submitted)

    async def _accepted(self, submitted: Submitted) -> Submitted:
        if submitted.what == "full":
            raise Unavailable(f"the queue is full: {self._env.queue_limit} jobs are waiting", retry_after=_RETRY_AFTER)
        if submitted.what == "quota":
            raise TooManyRequests(
                f"more than {self._env.key_rate} new questions in a minute (MILLPOND_KEY_RATE)", retry_after=60.0
            )
        if submitted.ring:
            fields = await self._records.get(submitted.job_id)
            if fields is not None:
                await self._doorbell.ring(submitted.job_id, fields)
        return submitted

    def _compute_here(self, question: _Question, seen: bytes, force: bool = False) -> None:
        self._computations.start(
            question.key.digest,
            lambda: computing.compute_here(
                self._cache,
                question.resource,
                question.params,
                question.principal,
                question.key,
                seen=seen,
                force=force,
                limit=self._env.max_value,
                show_message=self._env.env == "development",
            ),
        )

    # --- waiting

    async def _wait(self, question: _Question, reading: Reading, wait: float, newer_than: Position | None) -> Reading:
        channel = self._cache.names.channel(question.key)
        arrived = time.monotonic()
        deadline = arrived + wait
        waiter = _Waiter(newer_than)
        try:
            async with asyncio.timeout(wait):
                await self._feed.subscribe(channel, waiter.hear)
        except TimeoutError:
            return reading
        first = reading
        try:
            while True:
                # Shared with others that wait, but never one that began before this reader came: promise 2.
                latest = await self._looks.do(question.key.digest, lambda: self._look(question), since=arrived)
                if _satisfies(latest, newer_than):
                    return replace(latest, via=first.via if latest.via == "hit" else latest.via)
                first = first if first.job_id else replace(latest, via=first.via)
                if not await self._woken(waiter, deadline):
                    return latest if latest.entry is not None or latest.job_id else first
        finally:
            self._feed.unsubscribe(channel, waiter.hear)

    async def _woken(self, waiter: _Waiter, deadline: float) -> bool:
        """Wait for the waiter, or until it is time to look again; False when the deadline is over."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            async with asyncio.timeout(min(left, _LOOK_AGAIN * random.uniform(0.8, 1.2))):
                await waiter.woken.wait()
        except TimeoutError:
            return time.monotonic() < deadline
        waiter.woken.clear()
        return True

    # --- without the store

    def _without_store(self, question: _Question, error: StoreUnavailable) -> Reading:
        held = self._last_known.get(question.key)
        if held is None:
            raise _away() from error
        entry, age = held
        return Reading(
            state="fresh" if age < entry.fresh else "stale",
            position=entry.position,
            entry=entry,
            age=age,
            error=_away().problem(),
            via="last known",
        )

    def _invalidated(self, message: bytes) -> None:
        self._last_known.invalidate(json.loads(message)["tags"])


def _satisfies(reading: Reading, newer_than: Position | None) -> bool:
    """Whether a waiting reader need not wait any longer."""
    if reading.state == "failed":
        return True
    if reading.entry is None:
        return False
    return newer_than is None or not newer_than.covers(reading.position)


def _away() -> Unavailable:
    return Unavailable("the store cannot be reached", retry_after=_RETRY_AFTER, extra={"part": "store"})


def _problem(raw: bytes | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    try:
        problem = json.loads(raw)
    except ValueError:
        return None
    return problem if isinstance(problem, dict) else None


def _new_id() -> str:
    return new_job_id(time.time_ns() // 1_000_000)


async def refresh_topic(text: str, principal: Principal) -> str:
    """Compute the value of a topic anew; needs the scope `run`.  Returns the job's id."""
    from asgi_app import wiring
    from asgi_app.registry import registry

    access.require_scope(principal, "run")
    if text.startswith("job:"):
        raise NotFound("a job cannot be refreshed")
    resource, params = registry.split_topic(text)
    return await wiring.node().reader.refresh(resource, params, principal)
