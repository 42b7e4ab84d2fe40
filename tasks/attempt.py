"""One try of one job, from its claim to its end: what computations and actions have in common.

Invariant: however the declared function ends, the attempt comes to an end of its own or is found by its worker's
parent; outside of the function nothing of the user's runs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import time
from abc import ABC, abstractmethod
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

from django.db import connections

from asgi_app import wiring
from asgi_app.computing import encode_value, guarded
from asgi_app.env import env
from asgi_app.errors import ComputationFailed, ComputationTimeout, MillpondError, failure_of
from asgi_app.registry import Action, Principal, Resource
from cache_layer.errors import StoreUnavailable
from cache_layer.queues import Held, Ticket
from cache_layer.records import held
from tasks import retry
from tasks.clock import store_time
from tasks.identity import worker_name
from tasks.limits import TimeLimitReached, time_limit
from tasks.loop import result_of
from tasks.persistence import PERSISTENCE, insist
from tasks.progress import JobCancelled, ProgressReport
from tasks.verdict import GRACE

log = logging.getLogger(__name__)

#: Attempts whose functions run in this process: (job, number of the attempt).
under_way: set[tuple[str, int]] = set()
#: Attempts this process has gone on from while the store was away: there it still is at them.
_still_held: list[Attempt] = []
#: Seconds between two questions whether the attempt goes on.
BEAT = 1.0
#: Seconds a successful run takes at least to be of interest to those who want to know how long such runs take.
_NOTEWORTHY = 0.2
#: With this code billiard's handler ends a pool process that was sent SIGTERM.
_TERMINATED = -(256 - signal.SIGTERM)


class Attempt(ABC):
    """Of a job that was taken; `claim`, then `run`."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.id = ticket.job_id
        self.worker = worker_name()
        self.fence = 0
        self.what: Resource | Action
        self.params: Any = None
        self._deadline = 0
        self._running: asyncio.Task[Any] | None = None
        self._report = ProgressReport(self._tell)

    @abstractmethod
    def claim(self) -> bool:
        """Take the job; False when there is nothing to do.  Raises MillpondError when it cannot be run here."""

    @abstractmethod
    def refuse(self, error: MillpondError) -> None:
        """End a job that cannot be run with the code of this worker."""

    @abstractmethod
    def principal(self) -> Principal:
        """On whose behalf it runs."""

    @abstractmethod
    def failures(self) -> int:
        """How many attempts before this one have raised."""

    @abstractmethod
    def work(self) -> None:
        """Run the function and finish the job with what it returns.  Raises what the function raises."""

    @abstractmethod
    def interrupted(self) -> None:
        """The process was told to go: the job waits again, and it is no fault of the function."""

    @abstractmethod
    def cancelled(self) -> None:
        """It ended because it was asked to, or because the job is no longer this attempt's."""

    @abstractmethod
    def failed(self, error: MillpondError) -> None:
        """It raised for the last time."""

    @abstractmethod
    def to_be_tried_again(self, error: MillpondError, due: float) -> None:
        """It raised, and is due again in so many seconds."""

    @abstractmethod
    async def beat(self, node: wiring.Node, report: bytes, signal: bytes) -> bool:
        """Ask whether the attempt goes on, and tell its progress.  Raises StoreUnavailable."""

    # --- running

    def run(self) -> None:
        """Run the function and finish the job, whatever happens in between."""
        log.info("job %s: %s attempt %d", self.id, self.what.name, self.fence)
        beating = wiring.submit(self._keep_beating)
        under_way.add((self.id, self.fence))
        try:
            self.work()
        except JobCancelled:
            self.cancelled()
        except TimeLimitReached as late:
            self._fail(late, ComputationTimeout(f"{self.what.name} took longer than {self.what.time_limit:g} s"))
        except MemoryError as error:
            # Celery would let it end the whole worker (billiard #451).
            self._fail(
                error, ComputationFailed("the computation ran out of memory", extra={"exception": "MemoryError"})
            )
        except (Exception, SystemExit, GeneratorExit) as error:
            if isinstance(error, SystemExit) and error.code == _TERMINATED:
                self.interrupted()
                raise
            if not isinstance(error, MillpondError):
                log.warning("job %s: %s raised", self.id, self.what.name, exc_info=True)
            self._fail(error, failure_of(error, show_message=env().env == "development"))
        finally:
            under_way.discard((self.id, self.fence))
            beating.cancel()

    def value(self) -> bytes:
        """Run the function: what it returns, as JSON.  Raises what it raises, and NotJson or ValueTooLarge."""
        started = time.monotonic()
        payload = encode_value(self._call(), limit=env().max_value)
        took = time.monotonic() - started
        if took > _NOTEWORTHY:
            wiring.submit(lambda node: _note(node, self.what.name, took))
        return payload

    def holding(self) -> Held:
        """What its worker holds of it."""
        return held(self.ticket, pid=os.getpid(), fence=self.fence, deadline=self._deadline)

    def within(self) -> float:
        """Seconds after the claim by which the attempt must have ended: its time limit, and time to end by itself."""
        return self.what.time_limit + GRACE

    def begin(self, fence: int) -> None:
        """The job is this attempt's, from now on."""
        self.fence = fence
        self._deadline = round((store_time() + self.within()) * 1000)

    def may_finish(self) -> None:
        """The function has ended: to write what came of it may take a while longer, when a part is away."""
        self._deadline += round(2000 * PERSISTENCE)

    def let_go(self) -> None:
        """This process goes on without having ended the attempt: a reaper does.  It raises nothing.

        While the store is away it is said later, see `let_go_of_the_rest`.
        """
        with suppress(Exception):
            wiring.call(self._lose, 5.0)
            return
        _still_held.append(self)

    async def _lose(self, node: wiring.Node) -> None:
        await node.queues.lose(self.worker, self.id, self.holding())

    def _call(self) -> Any:
        _close_old_connections()  # a function that needs none keeps none from others
        try:
            return self._call_async() if self.what.is_async else self.call_here()
        finally:
            _close_old_connections()

    def call_here(self) -> Any:
        """Call the plain function, within its time limit."""
        with time_limit(self.what.time_limit):
            return self.what.call(self.params, progress=self._report, principal=self.principal())

    def _call_async(self) -> Any:
        async def body(node: wiring.Node) -> Any:
            self._running = asyncio.current_task()
            return await guarded(self.what.call(self.params, progress=self._report, principal=self.principal()))

        future = wiring.submit(body)
        try:
            return result_of(future, self.what.time_limit)
        except FutureTimeout:
            if future.done():
                raise
            raise TimeLimitReached from None
        except BaseException:
            if self._report.cancelled:
                raise JobCancelled from None
            raise
        finally:
            future.cancel()

    def _fail(self, raised: BaseException, error: MillpondError) -> None:
        earlier = self.failures()
        if earlier < self.what.retries and retry.worth_retrying(self.what, raised, error):
            due = max(retry.pause(earlier + 1, random.random()), retry.asked_pause(raised, time.time()))
            self.to_be_tried_again(error, due)
        else:
            self.failed(error)
        log.info("job %s: attempt %d failed: %s", self.id, self.fence, error.detail)

    # --- telling

    def _tell(self, report: bytes) -> None:
        """Send a progress report, and learn whether to go on.  On the loop itself it is sent behind."""
        signal_ = json.dumps({"job": self.id, **json.loads(report)}, separators=(",", ":")).encode()
        future = wiring.submit(lambda node: self._beat(node, report, signal_))
        if not wiring.on_loop():
            with suppress(FutureTimeout):
                future.result(2.0)

    async def _beat(self, node: wiring.Node, report: bytes = b"", signal_: bytes = b"") -> None:
        with suppress(StoreUnavailable):
            if not await self.beat(node, report, signal_):
                self._report.cancelled = True
                if self._running is not None:
                    self._running.cancel()  # a coroutine ends where it waits

    async def _keep_beating(self, node: wiring.Node) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self._beat(node)
            except Exception:
                log.exception("job %s: nobody said whether attempt %d goes on", self.id, self.fence)


def let_go_of_the_rest() -> None:
    """Before this process takes a job it is at no other: at the end of that one's time it would be ended by force.

    Raises StoreUnavailable, Unavailable or TimeoutError.
    """
    while _still_held:
        insist(_still_held[-1]._lose)
        _still_held.pop()


async def _note(node: wiring.Node, name: str, took: float) -> None:
    with suppress(StoreUnavailable):
        await node.queues.note_seconds(name, took)


def _close_old_connections() -> None:
    """As Django's own, which would close one in the middle of a transaction, too: that of `atomic=True`."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
