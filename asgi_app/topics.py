"""The text of a topic -> something that can be watched.

Invariant: a Source exists only for a principal who may see it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from asgi_app import access, jobs, wiring
from asgi_app.errors import NotFound
from asgi_app.inbox_topic import PREFIX as INBOX
from asgi_app.inbox_topic import open_inbox
from asgi_app.log_source import open_log
from asgi_app.noticing import completion
from asgi_app.registry import LogRules, Principal, Resource, registry
from cache_layer.errors import StoreUnavailable
from cache_layer.history import LogPage
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
    #: Seconds its computation took, 0 where that is not known.
    cost: float = 0.0


class Topic(Protocol):
    """A topic as one principal sees it."""

    #: Equal keys have equal values for every holder.
    key: str
    #: Channel of the feed.
    channel: str
    #: Canonical text.
    topic: str

    async def allowed(self) -> None:
        """May the principal still see it?  Raises what `open_topic` raises if not."""

    def outdated_by(self, outdated: Outdated) -> bool:
        """Whether an invalidation is about it."""

    def parse(self, message: bytes) -> Publication | None:
        """Read a message of the channel; None when it is not ours."""


class Values(Topic, Protocol):
    """A topic of which the latest value wins."""

    kind: Literal["value"]
    #: Keep it fresh while somebody is subscribed.
    watched: bool

    async def read(self) -> Snapshot:
        """The state now.  Never waits for a computation, but starts or joins one when there is no fresh value.

        Raises StoreUnavailable within two seconds, and MillpondError when access is lost.
        """


class Log(Topic, Protocol):
    """A topic of which everything is told, in order."""

    kind: Literal["log"]
    #: What may be asked of it, and how much the store keeps.
    rules: LogRules
    #: Seconds between looks at its position, least and most: what was published may have been lost on its way.
    looks: tuple[float, float]

    async def read_log(self, after: int | None, limit: int, before: int | None = None) -> LogPage:
        """Between two offsets, both exclusive: the oldest `limit` after `after`, or without it the newest `limit`.

        Raises StoreUnavailable within two seconds.
        """


Source = Values | Log


async def open_topic(text: str, principal: Principal, *, trusted: bool = False) -> Source:
    """`trusted`: somebody who may do so has allowed it; what the topic itself says of access does not count.

    Raises UnknownResource, NotFound, Denied, Unauthenticated, BadParameters, StoreUnavailable.
    """
    if text.startswith("job:"):
        return await _open_job(text, principal, trusted)
    if text.startswith(INBOX):
        return await open_inbox(text, principal)
    if registry.log(text) is not None:
        return await open_log(text, principal, trusted=trusted)
    resource, params = registry.split_topic(text)
    if not trusted:
        await access.check_outside(resource, principal, params)
    return ValueSource(resource, params, principal, trusted)


class ValueSource:
    """The topic of a resource with its parameters."""

    kind: Literal["value"] = "value"

    def __init__(self, resource: Resource, params: Any, principal: Principal, trusted: bool = False) -> None:
        key: Key = resource.key(params, principal)
        self._resource, self._params, self._principal, self._trusted = resource, params, principal, trusted
        self.key = key.digest
        self.channel = wiring.node().cache.names.channel(key)
        self.topic = key.topic
        self._tags = key.tags
        self.watched = resource.refresh == "watched"

    async def allowed(self) -> None:
        if not self._trusted:
            await access.check_outside(self._resource, self._principal, self._params)

    def outdated_by(self, outdated: Outdated) -> bool:
        return outdated.covers(self.key, self._tags)

    def parse(self, message: bytes) -> Publication | None:
        return wiring.node().cache.parse(self.key, message)

    async def read(self) -> Snapshot:
        # From the store: it is read because something may have changed there.
        reading = await wiring.node().reader.read(
            self._resource, self._params, self._principal, near=False, trusted=self._trusted
        )
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
            cost=reading.entry.compute_seconds if reading.entry is not None else 0.0,
        )


class JobSource:
    """The topic of a job: the job object at every change."""

    kind: Literal["value"] = "value"
    watched = False

    def __init__(self, job_id: str, principal: Principal, trusted: bool = False) -> None:
        self._id, self._principal, self._trusted = job_id, principal, trusted
        self.key = self.topic = f"job:{job_id}"
        self.channel = wiring.node().cache.names.job_channel(job_id)

    async def allowed(self) -> None:
        await _visible_job(self._id, self._principal, self._trusted)

    def outdated_by(self, outdated: Outdated) -> bool:
        return False

    def parse(self, message: bytes) -> Publication | None:
        return parse(message)

    async def read(self) -> Snapshot:
        job = jobs.public(await _visible_job(self._id, self._principal, self._trusted))
        return Snapshot(
            state="fresh",
            position=Position(job_epoch(self._id), job["version"]),
            payload=json.dumps(job, separators=(",", ":")).encode(),
            age=0.0,
            fresh_for=0.0,
            job=self._id,
            error=None,
        )


async def _open_job(text: str, principal: Principal, trusted: bool) -> Values:
    job_id = text.removeprefix("job:")
    if not jobs.is_job_id(job_id):
        raise NotFound("there is no such job")
    await access.with_database(lambda: _visible_job(job_id, principal, trusted))
    return JobSource(job_id, principal, trusted)


async def _visible_job(job_id: str, principal: Principal, trusted: bool) -> jobs.Fields:
    fields = await wiring.node().desk.find(job_id)
    if trusted and fields is not None:
        return fields
    return await jobs.check_visible(fields, principal)


async def refresh_topic(text: str, principal: Principal) -> str:
    """Compute the value of a topic anew; needs the scope `run`.  The job's id, "" for one computed in this process.

    Raises what `open_topic` raises, Unavailable and TooManyRequests.
    """
    access.require_scope(principal, "run")
    if text.startswith("job:") or registry.log(text) is not None:
        raise NotFound("only the topic of a resource can be refreshed")
    resource, params = registry.split_topic(text)
    job_id = await wiring.node().reader.refresh(resource, params, principal)
    if job_id and (fields := await wiring.node().records.get(job_id)) is not None:
        await completion.asked(fields, principal)
    return job_id
