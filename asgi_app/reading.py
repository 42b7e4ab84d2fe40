"""The one flow behind all doors: read(resource, params, principal) -> Reading.

    look up (one round trip) -> verdict: serve | serve and refresh behind | load
                                                        load -> join or submit the one computation of the key
    a reader that waits is woken by the publication of the commit, and looks again

Invariant: no reader runs a computation on its own; it joins the one of its key, in the cluster (promise 1), and a
cancelled reader leaves it running.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from asgi_app import access, computing
from asgi_app.env import Env
from asgi_app.errors import ComputationTimeout, MillpondError, NotCached, TooManyRequests, Unavailable, store_away
from asgi_app.registry import Principal, Resource
from asgi_app.submitting import Question, Submitter, quota_spent
from asgi_app.waiting import Waiter
from cache_layer import metrics
from cache_layer.cache import Cache, Found, fresh_token
from cache_layer.codec import Entry
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.freshness import ANYTHING, Demand, Verdict, decide
from cache_layer.keys import Key
from cache_layer.last_known import LastKnown
from cache_layer.outdated import Outdated
from cache_layer.position import Position
from cache_layer.records import Submitted
from cache_layer.single_flight import SingleFlight

log = logging.getLogger(__name__)

#: Seconds between two requests of this process to refresh one stale value; and how many are remembered.
_ASK_AGAIN = 0.5
_ASKED_MOST = 10_000
#: How often a load starts over because somebody else was quicker.
_RACES = 3
#: Computations at once in this process (offload=False): a bulkhead before whatever they ask.
_HERE_AT_ONCE = 100


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
    #: An outdated value that may stand in when its computation takes too long, with its age in seconds.
    stand_in: tuple[Entry, float] | None = None

    @property
    def fresh_for(self) -> float:
        """Seconds the value stays fresh; 0 when it is not."""
        return max(0.0, self.entry.fresh - self.age) if self.entry is not None and self.state == "fresh" else 0.0


class Reader:
    """Reads and refreshes, for one event loop."""

    def __init__(self, cache: Cache, feed: Feed, submitter: Submitter, env: Env) -> None:
        self._cache = cache
        self._feed = feed
        self._submitter = submitter
        self._env = env
        self._loads: SingleFlight[Submitted] = SingleFlight()
        self._begins: SingleFlight[str] = SingleFlight()
        #: Of them, those that ask the store whether they may.
        self._beginning = 0
        self._computations: SingleFlight[None] = SingleFlight()
        self._looks: SingleFlight[Reading] = SingleFlight()
        self._probes: SingleFlight[None] = SingleFlight()
        self._last_known = LastKnown()
        #: When a stale value's refresh was last asked for: not again for each of its readers.
        self._asked: dict[str, float] = {}

    def start(self) -> None:
        """Begin to hear invalidations; on the running loop."""
        self._feed.attach(self._cache.invalidations_channel, self._invalidated)
        self._feed.on_gap.append(self._last_known.clear)

    async def stop(self) -> None:
        """End what runs behind; may be called twice."""
        await self._begins.finish()  # a lease that is taken and not used would keep others waiting
        for flights in (self._looks, self._loads, self._computations, self._probes):
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
        near: bool = True,
        demand: Demand = ANYTHING,
    ) -> Reading:
        """Read a resource; at once unless `wait` gives the seconds to hold out for its computation.

        With `newer_than` it holds out for a value the holder of that position has not seen; `near=False` asks the store
        and not this process's memory.  Raises Denied or Unauthenticated (unless `trusted`), NotCached where the demand
        says so, Unavailable when the store is away and nothing may be served.
        """
        if not trusted:
            access.check_readable(principal)
        question = await self._question(resource, params, principal, trusted)
        near = near and newer_than is None
        return await self.answer(question, wait=wait, newer_than=newer_than, near=near, demand=demand)

    async def answer(
        self,
        question: Question,
        *,
        wait: float = 0.0,
        newer_than: Position | None = None,
        near: bool = True,
        demand: Demand = ANYTHING,
        found: Found | None = None,
    ) -> Reading:
        """As `read`, for a question that may be asked; `found` is what its asker has just looked up."""
        arrived = time.monotonic()
        try:
            reading = await self._look(question, near=near, demand=demand, found=found)
            if wait > 0 and not _satisfies(reading, newer_than):
                reading = await self._wait(question, reading, arrived, wait, newer_than, demand)
            return reading
        except StoreUnavailable as error:
            return await self._without_store(question, arrived, demand, error)

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
                await self._begin_once(question, b"", force=True)
                return ""
            return (await self._submitter.computation(question, b"", force=True, job_id=job_id)).job_id
        except StoreUnavailable as error:
            raise store_away() from error

    # --- one look

    async def _question(self, resource: Resource, params: Any, principal: Principal, trusted: bool) -> Question:
        if not trusted:
            await access.check(resource, principal, params)
        return Question(resource, params, principal, resource.key(params, principal), trusted)

    async def _look(
        self,
        question: Question,
        arrived: float | None = None,
        *,
        near: bool = True,
        demand: Demand = ANYTHING,
        found: Found | None = None,
    ) -> Reading:
        """One look.  A value that was computed after its reader `arrived` is fresh to it, however short-lived it is."""
        for _ in range(_RACES):
            found = found or await self.find(question.key, near)
            near = False  # whoever looks again does so because something has changed
            entry, waited = found.entry, 0.0 if arrived is None else time.monotonic() - arrived
            if entry is not None and found.age < waited and not found.softened:
                return Reading(state="fresh", position=entry.position, entry=entry, age=found.age)
            reading = await self._judge(question, found, demand)
            if reading is not None:
                return reading
            found = None
        return Reading(state="pending", position=await self._cache.position(question.key))

    async def find(self, key: Key, near: bool = True) -> Found:
        """What is there, in this process or in the store.  Raises StoreUnavailable."""
        era = self._last_known.era
        found = await self._cache.lookup(key, near=near)
        if found.entry is not None and self._feed.confirmed(self._cache.invalidations_channel):
            self._last_known.keep(key, found.entry, found.age, era=era)
        return found

    async def _judge(self, question: Question, found: Found, demand: Demand) -> Reading | None:
        """The reading for what was found; None when somebody changed it meanwhile: look again."""
        entry, error = found.entry, _problem(found.failure)
        verdict = decide(
            age=found.age if entry is not None else None,
            fresh=entry.fresh if entry is not None else 0.0,
            compute_seconds=entry.compute_seconds if entry is not None else 0.0,
            policy=question.key.policy,
            failed=error is not None,
            luck=1.0 - random.random(),
            softened=found.softened,
            demand=demand,
        )
        if verdict is Verdict.LOAD:
            if demand.only_cached:
                raise NotCached("only-if-cached was asked for, and nothing that may be served is there")
            return await self._load(question, found)
        if verdict is Verdict.FAIL or entry is None:
            return Reading(state="failed", position=await self._cache.position(question.key), error=error)
        fresh = found.age < entry.fresh and not found.softened
        if verdict is Verdict.SERVE_AND_REFRESH:
            self._refresh_behind(question, found.nonce)
        return Reading(
            state="fresh" if fresh else "stale",
            position=entry.position,
            entry=entry,
            age=found.age,
            error=error if verdict is Verdict.SERVE_AFTER_ERROR else None,
        )

    async def _load(self, question: Question, found: Found) -> Reading | None:
        stand_in = _stand_in(found, question.key)
        try:
            if not question.resource.offload:
                return await self._load_here(question, found, stand_in)
            submitted = await self._submit_once(question, found.nonce)
        except (Unavailable, TooManyRequests) as error:
            return _after_refusal(stand_in, error)
        if submitted.what in ("hit", "failed"):
            return None
        return Reading(
            state="pending",
            position=submitted.position,
            job_id=submitted.job_id,
            unattended=not submitted.alive,
            via="computed" if submitted.what == "created" else "joined",
            stand_in=stand_in,
        )

    async def _load_here(
        self, question: Question, found: Found, stand_in: tuple[Entry, float] | None
    ) -> Reading | None:
        what = await self._begin_once(question, found.nonce)
        if what in ("hit", "failed"):
            return None
        position = await self._cache.position(question.key)
        via: Literal["computed", "joined"] = "computed" if what == "begun" else "joined"
        return Reading(state="pending", position=position, via=via, stand_in=stand_in)

    def _refresh_behind(self, question: Question, seen: bytes) -> None:
        digest_, now = question.key.digest, time.monotonic()
        if now - self._asked.get(digest_, -_ASK_AGAIN) < _ASK_AGAIN:
            return
        if len(self._asked) > _ASKED_MOST:
            self._asked.clear()
        self._asked[digest_] = now
        if question.resource.offload:
            self._loads.start(_flight(question), lambda: self._submitter.computation(question, seen))
        else:
            self._begins.start(_flight(question), lambda: self._begin_here(question, seen))

    # --- the one computation

    async def _submit_once(self, question: Question, seen: bytes) -> Submitted:
        return await self._loads.do(_flight(question), lambda: self._submitter.computation(question, seen))

    async def _begin_once(self, question: Question, seen: bytes, force: bool = False) -> str:
        # In a flight of its own: a reader that is cancelled must not leave the right to compute with nobody.
        flight = f"{_flight(question)} {force}"
        return await self._begins.do(flight, lambda: self._begin_here(question, seen, force))

    async def _begin_here(self, question: Question, seen: bytes, force: bool = False) -> str:
        """Begin to compute in this process, unless somebody does already; what came of it, as `Cache.begin` says.

        Raises StoreUnavailable, TooManyRequests, Unavailable when too much is being computed here.
        """
        key, token = question.key, fresh_token()
        if key.digest in self._computations:
            return "busy"
        if len(self._computations) + self._beginning >= _HERE_AT_ONCE:
            metrics.events["refused here"] += 1
            raise Unavailable(f"{_HERE_AT_ONCE} computations are running in this process", retry_after=1.0)
        asker = None if question.trusted else question.principal.user_id or ""
        self._beginning += 1
        try:
            begun = await self._cache.begin(
                key,
                seen=seen,
                token=token,
                lease=computing.LEASE,
                force=force,
                asker=asker or "",
                key_rate=0 if question.trusted else self._env.key_rate,
                key_bytes=self._env.key_bytes,
            )
        finally:
            self._beginning -= 1
        if begun.what == "quota":
            raise quota_spent(self._env)
        if begun.what == "begun":
            compute = partial(
                computing.compute_here,
                self._cache,
                question.resource,
                question.params,
                question.resource.asker(question.principal),
                key,
                begun=begun,
                token=token,
                seen=seen,
                force=force,
                asker=asker if begun.position.offset == 0 else None,
                limit=self._env.max_value,
                show_message=self._env.env == "development",
            )
            self._computations.start(token if key.digest in self._computations else key.digest, compute)
        return begun.what

    # --- waiting

    async def _wait(
        self,
        question: Question,
        first: Reading,
        arrived: float,
        wait: float,
        newer_than: Position | None,
        demand: Demand,
    ) -> Reading:
        key = question.key
        patience = key.policy.soft_timeout if first.stand_in is not None else None
        deadline = arrived + (wait if patience is None else min(wait, patience))
        channel, parse = self._cache.names.channel(key), partial(self._cache.parse, key.digest)
        look = partial(self._look, question, arrived, near=False, demand=demand)
        flight = key.digest if demand is ANYTHING else f"{key.digest} {demand}"
        async with Waiter(self._feed, channel, parse, deadline, newer_than) as waiter:
            if not waiter.listening:
                return first
            while True:
                # Shared with others that wait, but never one that began before this reader came: promise 2.
                latest = await self._looks.do(flight, look, since=arrived)
                if _satisfies(latest, newer_than):
                    return replace(latest, via=first.via if latest.via == "hit" else latest.via)
                first = first if first.job_id else replace(latest, via=first.via)
                if not await waiter.woken():
                    if patience is not None and latest.stand_in is not None:
                        return _standing_in(latest, latest.stand_in, patience)
                    return latest if latest.entry is not None else replace(first, unattended=latest.unattended)

    # --- without the store

    async def _without_store(
        self, question: Question, arrived: float, demand: Demand, error: StoreUnavailable
    ) -> Reading:
        """The last value known here, while the store is away; promise 2 holds for it too.

        While the feed's connection stands, no invalidation was missed, and none can succeed on a store that is silent.
        Without it others may reach the store again before we do, and invalidate: so it is tried once more, by an
        attempt that began after this reader came.
        """
        held = self._last_known.get(question.key)
        if held is None:
            raise store_away() from error
        if not self._feed.healthy:
            try:
                await self._probes.do("store", self._cache.store.ping, since=arrived)
                return await self._look(question, near=False, demand=demand)
            except StoreUnavailable:
                held = self._last_known.get(question.key)
        if held is None or self._cache.known_outdated(question.key):
            raise store_away() from error
        entry, age = held
        return Reading(
            state="stale",  # others may reach the store, and know better
            position=entry.position,
            entry=entry,
            age=age,
            error=store_away().problem(),
            via="last known",
        )

    def _invalidated(self, message: bytes) -> None:
        outdated = Outdated.from_json(message)
        if outdated is None:
            log.warning("foreign bytes on the channel of invalidations")
        else:
            self._last_known.invalidate(outdated)


def _flight(question: Question) -> str:
    """One for each asker: what a quota says to one is no answer to another.  The store joins them anyway."""
    return f"{question.key.digest} {'' if question.trusted else question.principal.user_id}"


def _stand_in(found: Found, key: Key) -> tuple[Entry, float] | None:
    """An old value that may be served when its computation fails or takes too long."""
    entry = found.entry
    if entry is None or found.age >= entry.fresh + key.policy.stale_if_error:
        return None
    return entry, found.age


def _after_refusal(stand_in: tuple[Entry, float] | None, error: MillpondError) -> Reading:
    """No computation was accepted: an old value within stale-if-error, else the refusal."""
    if stand_in is None:
        raise error
    entry, age = stand_in
    return Reading(state="stale", position=entry.position, entry=entry, age=age, error=error.problem())


def _standing_in(pending: Reading, stand_in: tuple[Entry, float], patience: float) -> Reading:
    entry, age = stand_in
    late = ComputationTimeout(f"its computation takes longer than {patience:g} s", retry_after=1.0).problem()
    return replace(pending, state="stale", position=entry.position, entry=entry, age=age, error=late, via="hit")


def _satisfies(reading: Reading, newer_than: Position | None) -> bool:
    """Whether a waiting reader need not wait any longer."""
    if reading.state == "failed":
        return True
    if reading.entry is None:
        return False
    return newer_than is None or not newer_than.covers(reading.position)


def _problem(raw: bytes | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    try:
        problem = json.loads(raw)
    except ValueError:
        return None
    return problem if isinstance(problem, dict) else None
