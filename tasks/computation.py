"""An attempt at a computation: its record is in the store, and its value is stored by the same step that ends it.

Invariant: what is stored was computed under the lease and the tag versions that were captured at the claim.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import time

from asgi_app import jobs, wiring
from asgi_app.computing import SUPERSEDED, problem_bytes
from asgi_app.errors import MillpondError, store_away
from asgi_app.noticing import alerts
from asgi_app.registry import Principal, Resource
from cache_layer.cache import Committed
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key
from cache_layer.queues import Ticket
from cache_layer.records import Claim, Ended, Ending
from tasks.attempt import Attempt
from tasks.persistence import insist

log = logging.getLogger(__name__)


class ComputationAttempt(Attempt):
    """See `Attempt`."""

    what: Resource

    def __init__(self, ticket: Ticket) -> None:
        super().__init__(ticket)
        self._fields: jobs.Fields = {}
        self._key: Key
        self._claim = Claim(what="gone", fence=0)
        #: Says that a claim is this one's, when its answer was lost and it is made once more.
        self._token = secrets.token_hex(8)

    def claim(self) -> bool:
        found = insist(lambda node: node.records.get(self.id))
        if found is None:
            log.info("job %s: its record is gone", self.id)
            insist(lambda node: give_up(node, self.ticket, self.worker))
            return False
        self._fields = found
        self.what, self.params, self._key = jobs.key_of(found)
        self._claim = insist(lambda node: self._claimed(node, self._key, self.within()))
        if self._claim.what != "claimed":
            log.info("job %s: %s", self.id, self._claim.what)
            return False
        self.begin(self._claim.fence)
        return True

    async def _claimed(self, node: wiring.Node, key: Key | None, within: float) -> Claim:
        lease = self._fields["lease"]
        claim = await node.records.claim(
            self.ticket, key, lease, worker=self.worker, pid=os.getpid(), within=within, token=self._token
        )
        if claim.going_on:
            await node.submitter.ring(claim.going_on)
        return claim

    def refuse(self, error: MillpondError) -> None:
        claim = insist(lambda node: self._claimed(node, None, 60.0))
        if claim.what == "claimed":
            self.fence = claim.fence
            self._end("failed", error)

    def principal(self) -> Principal:
        return jobs.principal_of(self._fields)

    def failures(self) -> int:
        return int(self._fields["failures"])

    def work(self) -> None:
        versions = self._captured()  # under which the value may be stored: known before the function reads anything
        started = time.monotonic()
        payload = self.value()
        self.may_finish()
        seconds = time.monotonic() - started
        committed = insist(lambda node: self._commit(node, payload, versions, seconds))
        if committed.what == "superseded" and committed.ring < 0:
            self._end("failed", SUPERSEDED)
        log.info("job %s: %s", self.id, committed.what)
        if committed.what == "stored" and self.what.alert_when is not None:
            alerts.look(self.what, self.params, self._key, payload, committed.position)

    def _captured(self) -> tuple[bytes, ...]:
        try:
            return wiring.call(lambda node: node.tag_versions(self._key, self._claim), 10.0)
        except StoreUnavailable as error:
            raise store_away() from error

    async def _commit(
        self, node: wiring.Node, payload: bytes, versions: tuple[bytes, ...], seconds: float
    ) -> Committed:
        committed = await node.cache.commit(
            self._key,
            payload,
            holder=self.id,
            tag_versions=versions,
            compute_seconds=seconds,
            computed_at=time.time(),
            luck=random.random(),
            job_id=self.id,
            fence=self.fence,
            worker=self.worker,
        )
        if committed.ring > 0:
            await node.submitter.ring(self.ticket.queue)
        if committed.going_on:
            await node.submitter.ring(committed.going_on)
        return committed

    def interrupted(self) -> None:
        self._end("interrupted")

    def cancelled(self) -> None:
        self._end("cancelled")

    def failed(self, error: MillpondError) -> None:
        self._end("failed", error)

    def to_be_tried_again(self, error: MillpondError, due: float) -> None:
        self._end("retrying", error, due)

    async def beat(self, node: wiring.Node, report: bytes, signal: bytes) -> bool:
        answer = await node.records.beat(
            self.id,
            self.fence,
            worker=self.worker,
            holding=self.holding(),
            progress=report,
            key=self._key,
            signal=signal,
        )
        return answer == "on"

    def _end(self, how: Ending, error: MillpondError | None = None, due: float = 0.0) -> None:
        self.may_finish()
        problem = problem_bytes(error) if error is not None else b""
        ended = insist(lambda node: end_computation(node, self.ticket, self.fence, how, self.worker, problem, due))
        log.info("job %s: %s", self.id, ended.status or "was no longer this attempt's")


async def end_computation(
    node: wiring.Node, ticket: Ticket, fence: int, how: Ending, worker: str, problem: bytes = b"", due: float = 0.0
) -> Ended:
    """End an attempt at a computation, and ring for what may go on.  Raises StoreUnavailable."""
    ended = await node.records.end(ticket.job_id, fence, how, worker=worker, problem=problem, due=due)
    if ended.ring:
        await node.submitter.ring(ticket.queue)
    if ended.going_on:
        await node.submitter.ring(ended.going_on)
    return ended


async def give_up(node: wiring.Node, ticket: Ticket, worker: str) -> None:
    """What was taken is not to be run: nobody holds it, others of its lane may run.  Raises StoreUnavailable."""
    going_on = await node.queues.release(ticket, worker=worker, over=False)
    if going_on:
        await node.submitter.ring(going_on)
