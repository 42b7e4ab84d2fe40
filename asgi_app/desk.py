"""What one may do with a job, wherever its record is: find it, list, cancel, run it again, forget it.

Computations have their records in the store, actions in the database; here they are one.
Invariant: whoever calls these has asked `jobs.check_visible`; only `page` asks for itself, job by job.
"""

from __future__ import annotations

import time
from contextlib import suppress

from asgi_app import backlog, jobs, ledger
from asgi_app.access import is_staff
from asgi_app.errors import Conflict, MillpondError, store_away
from asgi_app.jobs import TERMINAL, Fields
from asgi_app.models import REPORTS, Job
from asgi_app.reading import Reader
from asgi_app.registry import Principal, registry
from asgi_app.rows import in_database
from asgi_app.submitting import Submitter
from cache_layer.errors import StoreUnavailable
from cache_layer.queues import Queues
from cache_layer.records import Records

#: Jobs of one page, and records that are looked through for it at the most.
PAGE, _LOOKED_THROUGH = 50, 1000
_BATCH = 200

#: Empty: all of them.
Statuses = frozenset[str]


class Desk:
    """For one event loop."""

    def __init__(self, records: Records, queues: Queues, submitter: Submitter, reader: Reader) -> None:
        self._records = records
        self._queues = queues
        self._submitter = submitter
        self._reader = reader

    async def find(self, job_id: str) -> Fields | None:
        """The fields of a job, with its place in the queue and how long it may still take; None when there is none.

        Raises StoreUnavailable (for a computation), Unavailable (for an action, when the database is away).
        """
        row: Job | None
        if self._records.store.suspect and (row := await in_database(ledger.get, job_id)) is not None:
            return row.fields()  # an action is known without the store, and nobody waits for that
        try:
            stored = await self._records.get(job_id)
        except StoreUnavailable:
            row = await in_database(ledger.get, job_id)
            if row is None:
                raise
            return row.fields()
        if stored is not None and "id" in stored:
            return await self._placed(stored)
        row = await in_database(ledger.get, job_id)
        return None if row is None else await self._placed(_with_progress(row, stored or {}))

    async def want(self, fields: Fields) -> None:
        """Somebody looks at a computation: it is not given up for a while."""
        if fields["kind"] == "computation" and fields["status"] not in TERMINAL:
            with suppress(StoreUnavailable):
                await self._records.want(fields["id"])

    async def cancel(self, fields: Fields, principal: Principal) -> bool:
        """Ask for the end of a job; whether it was over already.

        A computation that others have asked for as well goes on for them, unless it is one of the staff who asks.
        Raises StoreUnavailable, Unavailable.
        """
        if fields["kind"] == "computation":
            by = "" if is_staff(principal) else principal.user_id or ""
            status, _ = await self._records.cancel(fields["id"], by=by, channel=fields.get("channel", ""))
            return status in TERMINAL
        job_id = fields["id"]
        status = await in_database(ledger.cancel, job_id)
        with suppress(StoreUnavailable):  # a reaper tells its worker later, or drops its place
            if status == "running":
                await self._queues.ask_for_end(job_id)
            elif status not in TERMINAL:
                row = await in_database(ledger.get, job_id)
                if row is not None:
                    await self._queues.release(ledger.ticket(row), over=True)
        return status in TERMINAL

    async def retry(self, fields: Fields) -> str:
        """Run a job again that is dead, failed, cancelled or expired: the id of the new one, on behalf of the same
        user.

        Raises Conflict for any other, and as `Submitter.action` and `Reader.refresh`.
        """
        if fields["status"] not in TERMINAL or fields["status"] == "succeeded":
            raise Conflict(f"the job is {fields['status']}: only one that did not succeed can be run again")
        principal = jobs.principal_of(fields)
        if fields["kind"] == "computation":
            resource, params, _ = jobs.key_of(fields)
            return await self._reader.refresh(resource, params, principal, trusted=True)
        action, params = registry.of_job(fields)
        trusted = fields["owner"] == jobs.SERVICE
        return await self._submitter.action(action, params, principal, trusted=trusted, retry_of=fields["id"])

    async def discard(self, fields: Fields) -> None:
        """Forget a job that is over.  Raises Conflict while it is not."""
        if fields["status"] not in TERMINAL:
            raise Conflict(f"the job is {fields['status']}: cancel it first")
        if fields["kind"] == "computation":
            await self._records.discard(fields["id"])
        else:
            await in_database(ledger.discard, fields["id"])

    async def page(
        self,
        principal: Principal,
        *,
        before: str = "",
        statuses: Statuses = frozenset(),
        name: str = "",
        most: int = PAGE,
    ) -> tuple[list[Fields], str | None, bool]:
        """Jobs the principal may see, newest first, from the job `before` on; where the next page begins; and whether
        only actions are among them, because the store cannot be asked for computations.

        A page may have fewer jobs than `most`, and a next one nevertheless.  Raises StoreUnavailable, Unavailable.
        """
        owner = None if is_staff(principal) else principal.user_id or ""
        rows = await in_database(backlog.page, before, most + 1, owner=owner, statuses=statuses, name=name)
        try:
            stored, reached = await self._computations(principal, before, statuses, name, most + 1)
            partial = False
        except StoreUnavailable as error:
            if not rows:
                raise store_away() from error
            stored, reached, partial = [], "", True
        if len(rows) > most:
            reached = max(reached, str(rows[-1].id))
        actions = [fields for row in rows if await jobs.visible(fields := row.fields(), principal)]
        found = sorted([*actions, *stored], key=lambda fields: fields["id"], reverse=True)
        if reached:  # there may be more between that one and the next that was found
            found = [fields for fields in found if fields["id"] >= reached]
        shown = found[:most]
        following = shown[-1]["id"] if len(found) > most else reached or None
        return [await self._placed(fields) for fields in shown], following, partial

    async def _computations(
        self, principal: Principal, before: str, statuses: Statuses, name: str, most: int
    ) -> tuple[list[Fields], str]:
        """Those that match; and the id of the last that was looked at, "" when there are no older ones."""
        found: list[Fields] = []
        for _ in range(_LOOKED_THROUGH // _BATCH):
            batch, before = await self._records.page(before, _BATCH)
            for fields in batch:
                if "id" not in fields or (name and fields["name"] != name):
                    continue
                if statuses and fields["status"] not in statuses:
                    continue
                if await jobs.visible(fields, principal):
                    found.append(fields)
                    if len(found) == most:
                        return found, ""
            if not before:
                break
        return found, before

    async def _placed(self, fields: Fields) -> Fields:
        """With its place in the queue while it waits, and the seconds it may still take while it runs."""
        more: dict[str, str] = {}
        with suppress(StoreUnavailable, MillpondError):
            if fields["status"] == "queued":
                position = await self._queues.position(fields["queue"], fields["id"])
                more["position"] = "" if position is None else str(position)
            elif fields["status"] == "running":
                mean = await self._queues.usual_seconds(fields["name"])
                eta = seconds_left(fields, mean, time.time())
                more["eta"] = "" if eta is None else str(eta)
        return {**fields, **more}


def seconds_left(fields: Fields, usual: float | None, now: float) -> float | None:
    """How long a running job may still take: from its progress, and the more so the further it is; else as its like."""
    elapsed = max(0.0, now - int(fields["started_at"]) / 1000)
    done = jobs.share_done(fields)
    by_history = None if usual is None else max(0.0, usual - elapsed)
    if done is None or done <= 0:
        return by_history
    by_progress = elapsed * (1 - done) / done
    return by_progress if by_history is None else done * by_progress + (1 - done) * by_history


def _with_progress(row: Job, stored: Fields) -> Fields:
    """The row, and what the store knows of the progress of its newest attempt."""
    fields = row.fields()
    if row.status != "running" or stored.get("fence") != str(row.fence):
        return fields
    reports = min(int(stored.get("reports", 0)), REPORTS - 1)
    return {**fields, "progress": stored["progress"], "version": str(int(fields["version"]) + reports)}
