"""The one Celery task: claim -> run -> finish.

Invariant (promise 4): an attempt that did not get the claim does nothing, and one that lost it writes nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import time
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

from django.db import close_old_connections

from asgi_app import jobs, wiring
from asgi_app.computing import SUPERSEDED, encode_value, guarded, problem_bytes
from asgi_app.env import env
from asgi_app.errors import ComputationFailed, ComputationTimeout, MillpondError, Unavailable, failure_of, store_away
from asgi_app.registry import Action, Principal, Resource, registry
from cache_layer.cache import Committed
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key
from cache_layer.records import LEASE, Claim
from tasks import retry
from tasks.app import app
from tasks.heartbeat import process_name
from tasks.limits import TimeLimitReached, time_limit
from tasks.progress import JobCancelled, ProgressReport
from tasks.reaper import see_after
from tasks.submit import TASK

log = logging.getLogger(__name__)

#: Seconds a finished attempt goes on trying to write its result while the store is away; Celery's hard limit leaves it
#: this time.
_PERSISTENCE = 30.0
#: With this code billiard's handler ends a pool process that was sent SIGTERM.
_TERMINATED = -(256 - signal.SIGTERM)


@app.task(name=TASK, ignore_result=True)
def run_job(job_id: str) -> None:
    """Run the job of this id, if it is still to be run."""
    fields = _insist(lambda node: node.records.get(job_id))
    if fields is None:
        log.info("job %s: its record is gone", job_id)
        return
    try:
        attempt = _prepare(job_id, fields)
    except MillpondError as error:
        _refuse(job_id, fields, error)
        return
    claim = attempt.claim()
    if claim.what != "claimed":
        log.info("job %s: %s", job_id, claim.what)
        if claim.what == "silent":
            _insist(lambda node: see_after(node, job_id))
        return
    attempt.run()


class Attempt:
    """One try of one job, from its claim to its end."""

    def __init__(
        self, job_id: str, fields: Mapping[str, str], what: Resource | Action, params: Any, key: Key | None
    ) -> None:
        self._id = job_id
        self._fields = fields
        self._what = what
        self._params = params
        self._key = key
        self._claim = Claim(what="gone", fence=0, tag_versions=())
        self._tag_versions: tuple[bytes, ...] = ()
        self._report = ProgressReport(self._tell)

    def claim(self) -> Claim:
        """Take the job."""
        self._claim = _insist(lambda node: node.records.claim(self._id, self._key, worker=process_name()))
        return self._claim

    def run(self) -> None:
        """Run the function and finish the job, whatever happens in between."""
        log.info("job %s: %s attempt %d", self._id, self._what.name, self._claim.fence)
        beating = wiring.submit(self._keep_beating)
        started = time.monotonic()
        try:
            self._tag_versions = self._captured()
            payload = encode_value(self._call(), limit=env().max_value)
        except JobCancelled:
            self._end("cancelled")
        except TimeLimitReached:
            self._fail(ComputationTimeout(f"{self._what.name} took longer than {self._what.time_limit:g} s"))
        except MemoryError:
            # Celery would let it end the whole worker (billiard #451).
            self._fail(ComputationFailed("the computation ran out of memory", extra={"exception": "MemoryError"}))
        except (Exception, SystemExit, GeneratorExit) as error:
            if isinstance(error, SystemExit) and error.code == _TERMINATED:
                self._end("retrying")  # the process was told to go: no fault of the function
                raise
            if not isinstance(error, MillpondError):
                log.warning("job %s: %s raised", self._id, self._what.name, exc_info=True)
            self._fail(failure_of(error, show_message=env().env == "development"))
        else:
            self._finish(payload, time.monotonic() - started)
        finally:
            beating.cancel()

    # --- running

    def _captured(self) -> tuple[bytes, ...]:
        """Under which versions the value may be stored: known before the function reads anything."""
        key = self._key
        if key is None:
            return ()
        try:
            return wiring.call(lambda node: node.tag_versions(key, self._claim), 10.0)
        except StoreUnavailable as error:
            raise store_away() from error

    def _call(self) -> Any:
        principal = jobs.principal_of(self._fields)
        if self._what.is_async:
            return self._call_async(principal)
        close_old_connections()
        try:
            with time_limit(self._what.time_limit):
                return self._what.call(self._params, progress=self._report, principal=principal)
        finally:
            close_old_connections()

    def _call_async(self, principal: Principal) -> Any:
        async def body() -> Any:
            return await guarded(self._what.call(self._params, progress=self._report, principal=principal))

        future = wiring.submit(lambda node: body())
        try:
            return future.result(self._what.time_limit)
        except FutureTimeout:
            if future.done():
                raise
            raise TimeLimitReached from None
        finally:
            future.cancel()

    def _tell(self, report: bytes) -> None:
        """Send a progress report, and learn whether to go on.  On the loop itself it is sent behind."""
        signal = json.dumps({"job": self._id, **json.loads(report)}, separators=(",", ":")).encode()
        future = wiring.submit(lambda node: self._beat(node, report, signal))
        if not wiring.on_loop():
            with suppress(FutureTimeout):
                future.result(2.0)

    async def _beat(self, node: wiring.Node, report: bytes = b"", signal: bytes = b"") -> None:
        with suppress(StoreUnavailable):
            answer = await node.records.beat(self._id, self._claim.fence, progress=report, key=self._key, signal=signal)
            if answer != "on":
                self._report.cancelled = True

    async def _keep_beating(self, node: wiring.Node) -> None:
        while True:
            await asyncio.sleep(LEASE / 4)
            await self._beat(node)

    # --- finishing

    def _finish(self, payload: bytes, seconds: float) -> None:
        if self._key is None:
            self._end("succeeded")
            return
        committed = _insist(lambda node: self._commit(node, payload, seconds))
        if committed.what == "superseded" and committed.ring < 0:
            self._fail(SUPERSEDED)
        elif committed.ring > 0:
            _insist(lambda node: node.doorbell.ring(self._id, self._fields))
        log.info("job %s: %s", self._id, committed.what)

    async def _commit(self, node: wiring.Node, payload: bytes, seconds: float) -> Committed:
        assert self._key is not None
        return await node.cache.commit(
            self._key,
            payload,
            holder=self._id,
            tag_versions=self._tag_versions,
            compute_seconds=seconds,
            computed_at=time.time(),
            luck=random.random(),
            job_id=self._id,
            fence=self._claim.fence,
        )

    def _fail(self, error: MillpondError) -> None:
        earlier = self._claim.fence - 1 - int(self._fields["reruns"]) - int(self._fields["crashes"])
        if earlier < self._what.retries and retry.worth_retrying(error):
            self._end("retrying", error, due=retry.pause(earlier + 1, random.random()))
        else:
            self._end("failed", error)

    def _end(self, status: Any, error: MillpondError | None = None, due: float = 0.0) -> None:
        async def end(node: wiring.Node) -> None:
            message = b""
            if status == "retrying":
                bell = node.doorbell.bell(
                    self._id,
                    queue=self._what.queue,
                    priority=self._what.priority,
                    time_limit=self._what.time_limit,
                    countdown=due,
                )
                message = bell.message
            _, ring = await node.records.end(
                self._id,
                self._claim.fence,
                status,
                fields=self._fields,
                problem=problem_bytes(error) if error is not None else b"",
                due=due,
                message=message,
            )
            if ring:
                await node.doorbell.ring(self._id, {**self._fields, "message": message.decode()})

        _insist(end)
        log.info("job %s: %s%s", self._id, status, f": {error.detail}" if error is not None else "")


def _prepare(job_id: str, fields: Mapping[str, str]) -> Attempt:
    """Raises MillpondError when the declaration is gone, or no longer takes these parameters."""
    if fields["kind"] == "action":
        action = registry.action(fields["name"])
        return Attempt(job_id, fields, action, action.parse(json.loads(fields["params"]), text=False), None)
    resource, params, key = jobs.key_of(fields)
    return Attempt(job_id, fields, resource, params, key)


def _refuse(job_id: str, fields: Mapping[str, str], error: MillpondError) -> None:
    """End a job that cannot be run with the code of this worker."""

    async def refuse(node: wiring.Node) -> None:
        claim = await node.records.claim(job_id, None, worker="refused")
        if claim.what == "claimed":
            await node.records.end(job_id, claim.fence, "failed", fields=fields, problem=problem_bytes(error))

    _insist(refuse)
    log.warning("job %s: %s cannot be run here: %s", job_id, fields.get("name"), error.detail)


def _insist(work: Any) -> Any:
    """Run store work, again and again while the store is away, for at most `_PERSISTENCE` seconds."""
    deadline = time.monotonic() + _PERSISTENCE
    pause = 0.1
    while True:
        try:
            return wiring.call(work, 10.0)
        except (StoreUnavailable, Unavailable):
            if time.monotonic() > deadline:
                raise
            time.sleep(pause)
            pause = min(2.0, pause * 2)
