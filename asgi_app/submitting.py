"""Handing work to the workers: computations are joined or created, actions are put on their queue.

Invariant: whoever got a job id from here got one whose record is in the store; saying the same id twice makes one job.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from asgi_app.doorbell import Doorbell
from asgi_app.env import Env
from asgi_app.errors import IdempotencyMismatch, TooManyRequests, Unavailable, store_away
from asgi_app.inline import Inline
from asgi_app.jobs import SERVICE, dump_principal, new_job_id
from asgi_app.registry import Action, Principal, Resource
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key, digest
from cache_layer.records import Bell, Records, Submitted

#: Seconds a client should wait before it asks again when the queue is full.
_RETRY_AFTER = 2.0
#: Milliseconds an Idempotency-Key is remembered.
_REMEMBERED = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Question:
    """A resource with its parameters, as one principal asks for it."""

    resource: Resource | Inline
    params: Any
    principal: Principal
    key: Key
    #: Asked by the service itself or by code of the user: no quota.
    trusted: bool


class Submitter:
    """Submits to one store and its doorbell."""

    def __init__(self, records: Records, doorbell: Doorbell, env: Env) -> None:
        self._records = records
        self._doorbell = doorbell
        self._env = env

    async def computation(
        self, question: Question, seen: bytes, *, force: bool = False, job_id: str | None = None
    ) -> Submitted:
        """Join the live computation of the question's key, or create it.

        `seen` and `force` as in `Records.submit`.  Raises StoreUnavailable, Unavailable (the queue is full, the broker
        away), TooManyRequests.
        """
        resource, key = question.resource, question.key
        assert isinstance(resource, Resource)
        job_id = job_id or _new_id()
        asker = resource.asker(question.principal)
        submitted = await self._records.submit(
            key,
            job_id=job_id,
            bell=self._bell(job_id, resource),
            fields=_fields(job_id, "computation", resource, question.params, asker, topic=key.topic),
            seen=seen,
            force=force,
            asker=question.principal.user_id or "",
            key_rate=0 if question.trusted else self._env.key_rate,
            key_bytes=self._env.key_bytes,
        )
        return await self._accepted(submitted)

    async def action(
        self,
        action: Action,
        params: Any,
        principal: Principal,
        *,
        job_id: str | None = None,
        idempotency_key: str | None = None,
        trusted: bool = False,
    ) -> str:
        """Put an action on its queue; the id of its job.  May `principal` run it?  That the caller has asked.

        `trusted`: the service itself or code of the user runs it; then its job is nobody's to look at but the staff's.

        The same `job_id` twice is one job, and so is the same `idempotency_key` of one principal within a day; with
        other parameters it raises IdempotencyMismatch.  Raises Unavailable when the queue is full or the store away.
        """
        job_id = job_id or _new_id()
        try:
            if idempotency_key is not None:
                job_id = await self._first_id(action, params, principal, idempotency_key, job_id)
            owner = SERVICE if trusted else principal.user_id or ""
            fields = _fields(job_id, "action", action, params, principal, owner=owner)
            submitted = await self._records.enqueue(job_id, bell=self._bell(job_id, action), fields=fields)
            return (await self._accepted(submitted)).job_id
        except StoreUnavailable as error:
            raise store_away() from error

    async def _first_id(self, action: Action, params: Any, principal: Principal, key: str, job_id: str) -> str:
        """The job id that was first given for an Idempotency-Key."""
        asked = digest(json.dumps(action.dump(params), sort_keys=True))
        name = self._records.names.idempotency(digest(principal.user_id or "", action.name, key))
        first = await self._records.store.command("SET", name, f"{job_id} {asked}", "NX", "GET", "PX", _REMEMBERED)
        if first is None:
            return job_id
        known_id, known_asked = first.decode().split(" ")
        if known_asked != asked:
            raise IdempotencyMismatch(f"the job {known_id} was asked for with this key and other parameters")
        return str(known_id)

    async def _accepted(self, submitted: Submitted) -> Submitted:
        if submitted.what == "full":
            raise Unavailable(f"the queue is full: {self._env.queue_limit} jobs are waiting", retry_after=_RETRY_AFTER)
        if submitted.what == "quota":
            raise quota_spent(self._env)
        if submitted.ring:
            fields = await self._records.get(submitted.job_id)
            if fields is not None:
                await self._doorbell.ring(submitted.job_id, fields)
        return submitted

    def _bell(self, job_id: str, what: Resource | Action) -> Bell:
        return self._doorbell.bell(job_id, queue=what.queue, priority=what.priority, time_limit=what.time_limit)


def quota_spent(env: Env) -> TooManyRequests:
    """What a principal is told that has brought too many or too large new questions."""
    return TooManyRequests(
        f"more than {env.key_rate} new questions (MILLPOND_KEY_RATE), or answers to such of more than "
        f"{env.key_bytes:,} bytes (MILLPOND_KEY_BYTES), in a minute",
        retry_after=60.0,
    )


def _fields(
    job_id: str,
    kind: str,
    what: Resource | Action,
    params: Any,
    principal: Principal,
    *,
    owner: str = "",
    topic: str = "",
) -> dict[str, str | bytes | int]:
    return {
        "id": job_id,
        "kind": kind,
        "name": what.name,
        "params": json.dumps(what.dump(params)),
        "queue": what.queue,
        "priority": what.priority,
        "owner": owner,
        "principal": dump_principal(principal),
        "topic": topic,
    }


def _new_id() -> str:
    return new_job_id(time.time_ns() // 1_000_000)
