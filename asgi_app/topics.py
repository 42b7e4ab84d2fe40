"""The text of a topic -> something that can be watched.

Invariant: a Source exists only for a principal who may see it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from asgi_app import access, jobs, wiring
from asgi_app.errors import NotFound
from asgi_app.registry import Principal, Resource, registry
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key
from cache_layer.outdated import Outdated
from cache_layer.position import Position
from cache_layer.publication import Publication, parse
from cache_layer.records import job_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a topic, and the position it is true at."""

    state: Literal["fresh", "stale", "pending", "failed"]
    position: Position
    #: Compact JSON, None when there is no value.
    payload: bytes | None
    #: Seconds since the value was computed.
    age: float
    #: Seconds until a watched value should be read again; 0 when it is not fresh.
    fresh_for: float
    #: The computation on its way, when it is known here.
    job: str | None
    #: Problem of the last computation (RFC 9457).
    error: Mapping[str, Any] | None


class Source(Protocol):
    """A topic as one principal sees it."""

    #: Equal keys have equal values for every holder.
    key: str
    #: Channel of the feed.
    channel: str
    #: Canonical text.
    topic: str
    #: Keep it fresh while somebody is subscribed.
    watched: bool

    async def allowed(self) -> None:
        """May the principal still see it?  Raises what `open_topic` raises if not."""

    def outdated_by(self, outdated: Outdated) -> bool:
        """Whether an invalidation is about it."""

    def parse(self, message: bytes) -> Publication | None:
        """Read a message of the channel; None when it is not ours."""

    async def read(self) -> Snapshot:
        """The state now.  Never waits for a computation, but starts or joins one when there is no fresh value.

        Raises StoreUnavailable within two seconds, and MillpondError when access is lost.
        """


async def open_topic(text: str, principal: Principal) -> Source:
    """Raises UnknownResource, NotFound, Denied, Unauthenticated, BadParameters, StoreUnavailable."""
    if text.startswith("job:"):
        return await _open_job(text, principal)
    resource, params = registry.split_topic(text)
    await _check(resource, principal, params)
    return ValueSource(resource, params, principal)


async def _check(resource: Resource, principal: Principal, params: Any) -> None:
    """A rule that is a coroutine may ask the database; others cannot, and cost no thread."""
    if inspect.iscoroutinefunction(resource.access):
        await access.with_database(lambda: access.check(resource, principal, params))
    else:
        await access.check(resource, principal, params)


class ValueSource:
    """The topic of a resource with its parameters."""

    def __init__(self, resource: Resource, params: Any, principal: Principal) -> None:
        key: Key = resource.key(params, principal)
        self._resource, self._params, self._principal = resource, params, principal
        self.key = key.digest
        self.channel = wiring.node().cache.names.channel(key)
        self.topic = key.topic
        self._tags = key.tags
        self.watched = resource.refresh == "watched"

    async def allowed(self) -> None:
        await _check(self._resource, self._principal, self._params)

    def outdated_by(self, outdated: Outdated) -> bool:
        return outdated.covers(self.key, self._tags)

    def parse(self, message: bytes) -> Publication | None:
        return wiring.node().cache.parse(self.key, message)

    async def read(self) -> Snapshot:
        # From the store: it is read because something may have changed there.
        reading = await wiring.node().reader.read(self._resource, self._params, self._principal, near=False)
        if reading.via == "last known":
            raise StoreUnavailable("the store is away")
        return Snapshot(
            state=reading.state,
            position=reading.position,
            payload=reading.entry.payload if reading.entry is not None else None,
            age=reading.age,
            fresh_for=reading.fresh_for,
            job=reading.job_id,
            error=reading.error,
        )


class JobSource:
    """The topic of a job: the job object at every change."""

    watched = False

    def __init__(self, job_id: str, principal: Principal) -> None:
        self._id, self._principal = job_id, principal
        self.key = self.topic = f"job:{job_id}"
        self.channel = wiring.node().cache.names.job_channel(job_id)

    async def allowed(self) -> None:
        await _visible_job(self._id, self._principal)

    def outdated_by(self, outdated: Outdated) -> bool:
        return False

    def parse(self, message: bytes) -> Publication | None:
        return parse(message)

    async def read(self) -> Snapshot:
        job = jobs.public(await _visible_job(self._id, self._principal))
        return Snapshot(
            state="fresh",
            position=Position(job_epoch(self._id), job["version"]),
            payload=json.dumps(job, separators=(",", ":")).encode(),
            age=0.0,
            fresh_for=0.0,
            job=self._id,
            error=None,
        )


async def _open_job(text: str, principal: Principal) -> Source:
    job_id = text.removeprefix("job:")
    if not jobs.is_job_id(job_id):
        raise NotFound("there is no such job")
    await access.with_database(lambda: _visible_job(job_id, principal))
    return JobSource(job_id, principal)


async def _visible_job(job_id: str, principal: Principal) -> jobs.Fields:
    return await jobs.check_visible(await wiring.node().desk.find(job_id), principal)


async def refresh_topic(text: str, principal: Principal) -> str:
    """Compute the value of a topic anew; needs the scope `run`.  The job's id, "" for one computed in this process.

    Raises what `open_topic` raises, Unavailable and TooManyRequests.
    """
    access.require_scope(principal, "run")
    if text.startswith("job:"):
        raise NotFound("a job cannot be refreshed")
    resource, params = registry.split_topic(text)
    return await wiring.node().reader.refresh(resource, params, principal)
