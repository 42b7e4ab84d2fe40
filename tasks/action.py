"""An attempt at an action: its record is in the database.

Invariant: each change of the record asks for the one it has read, so of two attempts at most one ends the job; with
`atomic=True` the function's own changes are part of that very transaction.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from django.db import transaction

from asgi_app import jobs, ledger, wiring
from asgi_app.computing import problem_bytes
from asgi_app.errors import MillpondError
from asgi_app.models import Job
from asgi_app.registry import Action, Principal, registry
from asgi_app.rows import in_database
from cache_layer.errors import StoreUnavailable
from tasks.attempt import Attempt
from tasks.persistence import insist_in_database

log = logging.getLogger(__name__)


class _NoLongerOurs(Exception):
    """Somebody else has the job: what the function did in the transaction is undone."""


class ActionAttempt(Attempt):
    """See `Attempt`."""

    what: Action
    _row: Job

    def claim(self) -> bool:
        found = insist_in_database(lambda: ledger.get(self.id))
        if found is not None:
            self.what, self.params = registry.of_job(found.fields())
        claimed = insist_in_database(lambda: ledger.claim(self.id, self.worker))
        if claimed is None:
            log.info("job %s: there is nothing to attempt", self.id)
            self._leave()
            return False
        self._row = claimed
        self.what.begins(claimed)
        self.begin(claimed.fence)
        with suppress(StoreUnavailable, TimeoutError):  # the next beat says it
            wiring.call(self._hold, 2.0)
            wiring.call(lambda node: node.queues.tell(self.id), 2.0)
        return True

    def refuse(self, error: MillpondError) -> None:
        claimed = insist_in_database(lambda: ledger.claim(self.id, self.worker))
        if claimed is not None:
            self._row = claimed
            self._end("failed", error)
        else:
            self._leave()

    def run(self) -> None:
        super().run()
        self.what.ended()

    def principal(self) -> Principal:
        return jobs.principal_of(self._row.fields())

    def failures(self) -> int:
        return self._row.failures

    def work(self) -> None:
        if self.what.atomic:
            self._work_in_a_transaction()
            return
        result = self.value()
        self._end("succeeded", result=result)

    def _work_in_a_transaction(self) -> None:
        try:
            with transaction.atomic(ledger.database()):
                result = self.value()
                self.may_finish()
                if not ledger.end(self._row, "succeeded", result=result):
                    raise _NoLongerOurs
        except _NoLongerOurs:
            log.warning("job %s: attempt %d was no longer its own: nothing is kept", self.id, self.fence)
            self._leave()
            return
        self._release(over=True)
        log.info("job %s: succeeded", self.id)

    def interrupted(self) -> None:
        self._again("interrupted")

    def cancelled(self) -> None:
        self._end("cancelled")

    def failed(self, error: MillpondError) -> None:
        self._end("failed", error, self.what.remains())

    def to_be_tried_again(self, error: MillpondError, due: float) -> None:
        self._again("failed", error, due, self.what.remains())

    async def beat(self, node: wiring.Node, report: bytes, signal: bytes) -> bool:
        answer = await node.records.beat(
            self.id, self.fence, worker=self.worker, holding=self.holding(), progress=report, signal=signal
        )
        if answer != "unknown":
            return answer == "on"
        with suppress(MillpondError):  # the store has lost it: the database knows whose it is
            row = await in_database(ledger.get, self.id)
            if row is None or row.status != "running" or row.fence != self.fence:
                return False
            await self._hold(node)
            if row.cancel_at is not None:
                await node.queues.ask_for_end(self.id)
        return True

    def _hold_on(self) -> None:
        """The database is away, and the end of the attempt waits: its worker's parent must not end it for that."""
        with suppress(StoreUnavailable, TimeoutError):
            wiring.call(self._hold, 2.0)

    async def _hold(self, node: wiring.Node) -> None:
        await node.queues.hold(self.worker, self.id, self.holding())

    def _end(self, status: ledger.Final, error: MillpondError | None = None, result: bytes = b"") -> None:
        self.may_finish()
        problem = problem_bytes(error) if error is not None else b""
        ours = insist_in_database(lambda: ledger.end(self._row, status, problem=problem, result=result), self._hold_on)
        if ours:
            self._release(over=True)
        else:
            self._leave()
        log.info("job %s: %s", self.id, status if ours else "was no longer this attempt's")

    def _again(
        self, outcome: ledger.Again, error: MillpondError | None = None, due: float = 0.0, result: bytes = b""
    ) -> None:
        self.may_finish()
        problem = problem_bytes(error) if error is not None else b""
        status = insist_in_database(
            lambda: ledger.again(self._row, outcome, due=due, problem=problem, result=result), self._hold_on
        )
        if status:
            self._release(over=status == "cancelled")
        else:
            self._leave()
        if status in ("queued", "retrying"):
            with suppress(StoreUnavailable, TimeoutError):
                wiring.call(lambda node: node.submitter.put_on_queue(self.ticket, due=due, in_front=due == 0), 5.0)
        log.info("job %s: %s", self.id, status or "was no longer this attempt's")

    def _leave(self) -> None:
        """The job is not this attempt's: its place, and its other attempt, are left as they are, unless it is over."""
        row = insist_in_database(lambda: ledger.get(self.id))
        if row is None or row.status in ledger.TERMINAL:
            self._release(over=True)
            return
        with suppress(StoreUnavailable, TimeoutError):
            wiring.call(
                lambda node: node.queues.let_go(self.id, worker=self.worker, pid=os.getpid(), fence=self.fence), 5.0
            )

    def _release(self, *, over: bool) -> None:
        async def release(node: wiring.Node) -> None:
            going_on = await node.queues.release(self.ticket, worker=self.worker, over=over)
            if going_on:
                await node.submitter.ring(going_on)

        with suppress(StoreUnavailable, TimeoutError):
            wiring.call(release, 5.0)
