"""Handing work to the workers: computations are joined or created, actions are written down and put on their queue.

Invariant: whoever got a job id from here got one whose record is kept, in the store or in the database; saying the same
id twice makes one job.  A broker or a store that is away keeps nobody waiting for longer than a second.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from asgi_app import backlog, ledger
from asgi_app.declaring.parameters import canonical_json
from asgi_app.doorbell import Doorbell
from asgi_app.env import Env
from asgi_app.errors import MillpondError, TooManyRequests, Unavailable
from asgi_app.inline import Inline
from asgi_app.jobs import SERVICE, dump_principal, new_job_id
from asgi_app.ledger import Order
from asgi_app.registry import Action, Principal, Resource
from asgi_app.rows import away, in_database
from asgi_app.writing import Writing
from cache_layer.background import Background
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key, digest
from cache_layer.queues import Queues, Ticket
from cache_layer.records import Records, Submitted

#: Seconds a client should wait before it asks again when nobody knows how fast the queue is; and the most it is told.
_RETRY_AFTER, _LONGEST_RETRY = 2.0, 300.0
#: Seconds until the database is told which actions are on their queues: many at once.
_TOLD_WITHIN = 0.2


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

    def __init__(self, records: Records, queues: Queues, doorbell: Doorbell, env: Env) -> None:
        self._records = records
        self._queues = queues
        self._doorbell = doorbell
        self._env = env
        self._background = Background()
        self._writing = Writing()
        #: Actions that are on their queues, of which the database has not heard.
        self._rung: list[str] = []

    async def stop(self) -> None:
        """End what runs behind; may be called twice."""
        await self._writing.stop()
        await self._background.close()

    # --- computations

    async def computation(
        self, question: Question, seen: bytes, *, force: bool = False, job_id: str | None = None
    ) -> Submitted:
        """Join the live computation of the question's key, or create it.

        `seen` and `force` as in `Records.submit`.  Raises StoreUnavailable, Unavailable (the queue is full),
        TooManyRequests.
        """
        resource, key = question.resource, question.key
        assert isinstance(resource, Resource)
        job_id = job_id or new_id()
        submitted = await self._records.submit(
            key,
            job_id=job_id,
            bell=self._doorbell.bell(job_id, queue=resource.queue, priority=resource.priority),
            params=canonical_json(question.params),
            principal=dump_principal(resource.asker(question.principal)),
            seen=seen,
            force=force,
            priority=resource.priority,
            lane=lane_of(question.principal, question.trusted),
            asker=question.principal.user_id or "",
            key_rate=0 if question.trusted else self._env.key_rate,
            key_bytes=self._env.key_bytes,
            expires=resource.expires,
            abandonable=resource.on_abandon == "cancel" and not (force and question.trusted),
        )
        if submitted.what in ("full", "crowded"):
            raise self._refusal(submitted.what, submitted.wait)
        if submitted.what == "quota":
            raise quota_spent(self._env)
        if submitted.ring:
            self._background.start(self.ring(resource.queue, submitted.job_id, resource.priority))
        return submitted

    # --- actions

    async def action(
        self,
        action: Action,
        params: Any,
        principal: Principal,
        *,
        job_id: str | None = None,
        idempotency_key: str | None = None,
        trusted: bool = False,
        retry_of: str | None = None,
        due: datetime | None = None,
    ) -> str:
        """Write an action down and put it on its queue; the id of its job.  May `principal` run it?  That the caller
        has asked.

        `trusted`: the service itself or code of the user runs it; then its job is nobody's to look at but the staff's.
        The same `job_id` twice is one job, and so is the same `idempotency_key` of one principal; with other parameters
        it raises IdempotencyMismatch.  `due`: not to be begun before.  Raises Unavailable when the queue is full or the
        database away, TooManyRequests.
        """
        order = self.order(
            action,
            params,
            principal,
            job_id=job_id,
            idempotency_key=idempotency_key,
            trusted=trusted,
            retry_of=retry_of,
            due=due,
        )
        if idempotency_key is not None and (known := await in_database(ledger.find, order)) is not None:
            return str(known.id)  # asked for again: that it waits already is no reason to refuse it
        await self._admit(order)
        written, created = await self._writing.create(order)
        if created:
            putting = self.put_on_queue(_ticket(order), due=_seconds_until(due))
            if self._records.store.suspect:
                self._background.start(putting)
            else:
                await putting
        return written

    def action_here(
        self,
        action: Action,
        params: Any,
        principal: Principal,
        loop: asyncio.AbstractEventLoop,
        *,
        due: datetime | None = None,
    ) -> str:
        """As `action`, trusted, for synchronous code: in its transaction, and rung for after the commit.

        A rolled-back transaction runs nothing; after a commit nothing can make it forgotten.  `loop` is that of this
        Submitter.  Raises DatabaseError, and Unavailable when the queue is full, or nobody says in time whether it is.
        """
        order = self.order(action, params, principal, trusted=True, due=due)
        try:
            asyncio.run_coroutine_threadsafe(self._admit(order), loop).result(2.0)
        except TimeoutError as error:
            raise away() from error
        row, created = ledger.create(order)

        def ring() -> None:
            asyncio.run_coroutine_threadsafe(self.put_on_queue(ticket, due=_seconds_until(due)), loop).result(2.0)

        if created:
            ticket = _ticket(order)
            transaction.on_commit(ring, using=ledger.database(), robust=True)
        return str(row.id)

    def order(
        self,
        action: Action,
        params: Any,
        principal: Principal,
        *,
        job_id: str | None = None,
        idempotency_key: str | None = None,
        trusted: bool = False,
        retry_of: str | None = None,
        due: datetime | None = None,
    ) -> Order:
        """What is written down for an action."""
        owner = lane_of(principal, trusted)
        return Order(
            job_id=job_id or new_id(),
            name=action.name,
            params=canonical_json(params).decode(),
            queue=action.queue,
            priority=action.priority,
            owner=owner,
            principal=dump_principal(principal),
            idempotency=None if idempotency_key is None else digest(owner, action.name, idempotency_key),
            expires=action.expires,
            retry_of=retry_of,
            due=due,
            new=job_id is None and idempotency_key is None,
        )

    async def put_on_queue(self, ticket: Ticket, *, due: float = 0.0, in_front: bool = False) -> bool:
        """Let an action that is written down wait for its turn, and ring; whether it does.  It raises nothing: what
        cannot be done now the relay does later."""
        bell = self._doorbell.bell(ticket.job_id, queue=ticket.queue, priority=ticket.priority)
        try:
            ring = await self._queues.enqueue(ticket, bell, due=due, in_front=in_front)
        except StoreUnavailable:
            return False
        if ring:
            self._background.start(self.ring(ticket.queue, ticket.job_id, ticket.priority))
        if not self._rung:
            self._background.start(self._tell_database())
        self._rung.append(ticket.job_id)
        return True

    async def ring(self, queue: str, job_id: str = "", priority: int = 5, *, times: int = 1) -> bool:
        """Ring for a queue; whether the broker has said that it will be heard.

        It raises nothing: a ring that is lost is rung again by a reaper.
        """
        for _ in range(times):
            # Celery takes a second message of the same id for the first one delivered again.
            bell = self._doorbell.bell(job_id or new_id(), queue=queue, priority=priority)
            try:
                if bell.list:
                    await self._records.store.command("LPUSH", bell.list, bell.message)
                else:
                    await self._doorbell.ring(bell)
            except (Unavailable, StoreUnavailable):
                return False
        return True

    async def _tell_database(self) -> None:
        since = time.monotonic()
        await asyncio.sleep(_TOLD_WITHIN)
        told, self._rung = self._rung, []
        with suppress(MillpondError):  # the relay puts them on their queues once more, which changes nothing
            await in_database(backlog.rung, told, ago=time.monotonic() - since)

    async def _admit(self, order: Order) -> None:
        """Raises Unavailable or TooManyRequests when too much waits already."""
        if self._records.store.suspect:
            await self._admit_by_database(order)
            return
        try:
            admission = await self._queues.admit(order.queue, order.owner)
        except StoreUnavailable:
            await self._admit_by_database(order)
            return
        if admission.what != "yes":
            raise self._refusal(admission.what, admission.wait)

    async def _admit_by_database(self, order: Order) -> None:
        waiting, own = await in_database(backlog.waiting, order.queue, order.owner)
        if waiting >= self._env.queue_limit:
            raise self._refusal("full", None)
        if 0 < self._queues.limits.of_lane(order.owner) <= own:
            raise self._refusal("crowded", None)

    def _refusal(self, what: str, wait: float | None) -> MillpondError:
        after = min(_LONGEST_RETRY, wait or _RETRY_AFTER)
        if what == "full":
            return Unavailable(f"the queue is full: {self._env.queue_limit} jobs are waiting", retry_after=after)
        return TooManyRequests(
            f"{self._env.max_waiting_per_principal} of your jobs are waiting (MILLPOND_MAX_WAITING_PER_PRINCIPAL)",
            retry_after=after,
        )


def _ticket(order: Order) -> Ticket:
    return Ticket(job_id=order.job_id, kind="action", queue=order.queue, priority=order.priority, lane=order.owner)


def lane_of(principal: Principal, trusted: bool) -> str:
    """Whose turn a job waits for: a user's, the public's (""), or the service's own."""
    return SERVICE if trusted else principal.user_id or ""


def _seconds_until(due: datetime | None) -> float:
    return 0.0 if due is None else max(0.0, (due - timezone.now()).total_seconds())


def quota_spent(env: Env) -> TooManyRequests:
    """What a principal is told that has brought too many or too large new questions."""
    return TooManyRequests(
        f"more than {env.key_rate} new questions (MILLPOND_KEY_RATE), or answers to such of more than "
        f"{env.key_bytes:,} bytes (MILLPOND_KEY_BYTES), in a minute",
        retry_after=60.0,
    )


def new_id() -> str:
    """An id for a job that begins now."""
    return new_job_id(time.time_ns() // 1_000_000)
