"""The records of actions, in the database: every write to them.

A row is written in the transaction of whoever asks for the action; while its `rung_at` is empty it is its own entry of
the outbox (`tasks/relay.py` sees that it gets to its queue).  Everything here is synchronous, on the caller's
connection. Invariant: a terminal status never changes, and every change asks for what it has read: of two that change
a waiting row at once one does, and an attempt whose number is no longer the row's changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db import IntegrityError, router, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from asgi_app import webhooks
from asgi_app.errors import IdempotencyMismatch
from asgi_app.jobs import SERVICE
from asgi_app.models import Job
from cache_layer.cache import HISTORY
from cache_layer.queues import Ticket
from cache_layer.records import DEAD, MAX_CRASHES

log = logging.getLogger(__name__)

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "dead", "expired"})
_WAITING = ("queued", "retrying")
#: Seconds that the database may take to hear of something.
_MARGIN = 1.0
_UNCANCELLED = Q(cancel_at=None)
#: Seconds for which a run by the clock is kept that went well: it may be one a second.
_ROUTINE = 3600.0
#: Outcomes of an attempt that leave the job alive.
Again = Literal["failed", "interrupted", "died"]
Final = Literal["succeeded", "failed", "cancelled", "dead", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An action that somebody asks for."""

    job_id: str
    name: str
    #: JSON object.
    params: str
    queue: str
    priority: int
    owner: str
    #: JSON.
    principal: str
    #: Digest of owner, action and Idempotency-Key; None without one.
    idempotency: str | None = None
    #: Seconds within which it must have begun.
    expires: float | None = None
    retry_of: str | None = None
    #: Not to be begun before (a task of Django's that is deferred).
    due: datetime | None = None


def create(order: Order) -> tuple[Job, bool]:
    """Write an action down in the caller's transaction; whether it is new.

    The same id, or the same `idempotency`, twice is one row.  Raises IdempotencyMismatch for other parameters.
    """
    alias = database()
    known = find(order)
    if known is not None:
        return known, False
    row = Job(
        id=UUID(order.job_id),
        name=order.name,
        params=order.params,
        queue=order.queue,
        priority=order.priority,
        status="queued",
        owner=order.owner,
        principal=order.principal,
        idempotency=order.idempotency,
        retry_of=UUID(order.retry_of) if order.retry_of else None,
        due_at=order.due,
    )
    if order.expires is not None:
        row.expires_at = Now() + timedelta(seconds=order.expires)
    try:
        with transaction.atomic(alias):  # a refused row must not cost the caller's transaction
            Job.objects.using(alias).bulk_create([row])
    except IntegrityError:
        known = find(order)
        if known is None:
            raise
        return known, False
    return row, True


def find(order: Order) -> Job | None:
    """What was written down for this very order before.  Raises IdempotencyMismatch as `create`."""
    rows = Job.objects.using(database())
    if order.idempotency is not None:
        known = rows.filter(idempotency=order.idempotency).first()
        if known is not None and json.loads(known.params) != json.loads(order.params):
            raise IdempotencyMismatch(f"the job {known.id} was asked for with this key and other parameters")
        if known is not None:
            return known
    return rows.filter(pk=order.job_id).first()


def get(job_id: str) -> Job | None:
    """The row of an action."""
    return Job.objects.using(database()).filter(pk=job_id).first()


def ticket(row: Job) -> Ticket:
    """What the row needs to wait for its turn."""
    return Ticket(job_id=str(row.id), kind="action", queue=row.queue, priority=row.priority, lane=row.owner)


# --- the life of a job


def claim(job_id: str, worker: str) -> Job | None:
    """Make the next attempt at a job that waits; None when there is nothing to attempt.

    What has waited longer than it may is expired by this.
    """
    row = get(job_id)
    if row is None or row.status not in _WAITING:
        return None
    if _late(row):
        end(row, "expired")
        return None
    changed = _move(
        row, status="running", fence=row.fence + 1, started_at=Now(), worker=worker, due_at=None, rung_at=_or_now(row)
    )
    return get(job_id) if changed else None


def end(row: Job, status: Final, *, problem: bytes = b"", result: bytes = b"", outcome: str = "") -> bool:
    """End the job as this attempt left it; False when it was no longer so, and nothing was written.

    Whoever wants to hear of it is noted in the same transaction.
    """
    ran = row.status == "running"
    changes: dict[str, Any] = {"status": status, "finished_at": Now(), "due_at": None, "rung_at": _or_now(row)}
    if ran:
        changes["history"] = _history(row, outcome or status, problem)
    if status == "dead":
        changes["crashes"] = F("crashes") + 1
    if problem or status == "succeeded":
        changes["error"] = problem.decode()
    if result:
        changes["result"] = result.decode()
    with transaction.atomic(database()):
        if not _move(row, **changes):
            return False
        ended = get(str(row.id))
        if ended is not None:
            webhooks.note_completion(ended)
    return True


def again(row: Job, outcome: Again, *, due: float = 0.0, problem: bytes = b"", result: bytes = b"") -> str:
    """Let the job wait for another attempt, in `due` seconds; one whose end was asked for ends instead.

    The status now, "" when it was no longer this attempt's.
    """
    counted = {"failed": "failures", "interrupted": "interruptions", "died": "crashes"}[outcome]
    changes: dict[str, Any] = {
        "status": "retrying" if outcome == "failed" else "queued",
        counted: F(counted) + 1,
        "due_at": Now() + timedelta(seconds=due) if due > 0 else None,
        "rung_at": None,
        "worker": "",
        "history": _history(row, outcome, problem),
    }
    if problem:
        changes["error"] = problem.decode()
    if result:
        changes["result"] = result.decode()
    if _move(row, _UNCANCELLED, **changes):
        return str(changes["status"])
    return "cancelled" if end(row, "cancelled", problem=problem, result=result, outcome=outcome) else ""


def died(row: Job, *, due: float) -> str:
    """The process or worker of the newest attempt died: another attempt, or after the third time the end.

    The status now, "" when the row was no longer so.
    """
    if row.crashes + 1 >= MAX_CRASHES:
        return "dead" if end(row, "dead", problem=DEAD, outcome="died") else ""
    return again(row, "died", due=due)


def cancel(job_id: str) -> str:
    """Ask for the end of a job: at once while it waits.  The status it had, "" when there is none."""
    while True:
        row = get(job_id)
        if row is None:
            return ""
        if row.status in TERMINAL or row.cancel_at is not None:
            return row.status
        done = _move(row, cancel_at=Now()) if row.status == "running" else end(row, "cancelled")
        if done:
            return row.status


def expire(rows: Iterable[Job]) -> list[Job]:
    """End those that have waited too long; which these were."""
    return [row for row in rows if end(row, "expired")]


def discard(job_id: str) -> bool:
    """Forget a job that is over."""
    return bool(Job.objects.using(database()).filter(pk=job_id, status__in=TERMINAL).delete()[0])


# --- what the relay and the reaper look for


def rung(job_ids: Sequence[str], *, ago: float = 0.0) -> None:
    """These were put on their queues, at most `ago` seconds ago.

    Not those that were claimed since: such a one has left its queue, and may wait for somebody to put it there again.
    """
    if job_ids:
        rows = Job.objects.using(database()).filter(pk__in=job_ids, rung_at=None)
        earlier = Now() - timedelta(seconds=ago + _MARGIN)
        rows.filter(Q(started_at=None) | Q(started_at__lt=earlier)).update(rung_at=Now())


def unrung(*, older_than: float, most: int) -> list[tuple[Job, float]]:
    """Jobs that nobody has put on their queue `older_than` seconds after they were written, with the seconds until they
    are due."""
    old = Now() - timedelta(seconds=older_than)
    rows = _rows(_WAITING).filter(rung_at=None, created_at__lte=old).annotate(clock=Now()).order_by("pk")[:most]
    return [(row, _left(row.due_at, row.clock)) for row in rows]


def seconds_until_due(row: Job) -> float:
    """How long a job that waits has to wait still before it is put on its queue."""
    if row.due_at is None:
        return 0.0
    clock = Job.objects.using(database()).filter(pk=row.pk).values_list(Now(), flat=True).first()
    return 0.0 if clock is None else _left(row.due_at, clock)


def forget_rings() -> int:
    """All that wait have to be put on their queues again: the store has lost them.  How many."""
    return _rows(_WAITING).exclude(rung_at=None).update(rung_at=None)


def said_to_wait(after: str, *, older_than: float, most: int) -> list[str]:
    """Ids after `after` ("": from the first on) of jobs that were put on their queues, `older_than` seconds ago."""
    rows = _rows(_WAITING).filter(rung_at__lt=Now() - timedelta(seconds=older_than))
    return [
        str(pk)
        for pk in (rows.filter(pk__gt=after) if after else rows).order_by("pk").values_list("pk", flat=True)[:most]
    ]


def not_on_queue(job_ids: Sequence[str]) -> int:
    """These stand on no queue: somebody has to put them there; how many."""
    return _rows(_WAITING).filter(pk__in=job_ids).update(rung_at=None)


def overdue(*, most: int) -> list[Job]:
    """Jobs that have waited longer than they may."""
    return list(_rows(_WAITING).filter(expires_at__lt=Now()).order_by("pk")[:most])


def running(*, most: int) -> list[Job]:
    """Jobs that run, the oldest first."""
    return list(_rows(("running",)).order_by("pk")[:most])


def purge(*, older_than: float, most: int, routine: Sequence[str] = ()) -> int:
    """Delete jobs that ended `older_than` seconds ago; how many.

    Runs of the actions named in `routine` that the service asked for, and that went well, go after an hour.
    """
    past = Q(finished_at__lt=Now() - timedelta(seconds=older_than))
    well = Q(owner=SERVICE, name__in=routine, status="succeeded")
    past |= well & Q(finished_at__lt=Now() - timedelta(seconds=_ROUTINE))
    old = Job.objects.using(database()).filter(past)
    ids = list(old.order_by("finished_at").values_list("pk", flat=True)[:most])
    return Job.objects.using(database()).filter(pk__in=ids).delete()[0] if ids else 0


def page(before: str, most: int, *, owner: str | None, statuses: Collection[str], name: str) -> list[Job]:
    """Jobs older than `before` ("": all), newest first; of one owner (None: of all), in `statuses` (none: in any)."""
    rows = Job.objects.using(database()).order_by("-pk")
    wanted: Mapping[str, Any] = {
        **({"pk__lt": before} if before else {}),
        **({"owner": owner} if owner is not None else {}),
        **({"status__in": sorted(statuses)} if statuses else {}),
        **({"name": name} if name else {}),
    }
    return list(rows.filter(Q(**wanted))[:most])


def waiting(queue: str, owner: str) -> tuple[int, int]:
    """How many jobs wait on a queue, and how many of one owner, as far as the database knows."""
    rows = _rows(_WAITING)
    return rows.filter(queue=queue).count(), rows.filter(owner=owner).count()


def database() -> str:
    """Alias of the database that has the jobs."""
    return router.db_for_write(Job)


def _rows(statuses: Sequence[str]) -> QuerySet[Job]:
    return Job.objects.using(database()).filter(status__in=statuses)


def _move(row: Job, /, *more: Q, **changes: Any) -> bool:
    """Change a row if it still is as it was read (one that runs: if the same attempt does) and `more` is true of it."""
    same = Job.objects.using(database()).filter(*more, pk=row.pk, status=row.status, fence=row.fence)
    if row.status != "running":
        same = same.filter(transitions=row.transitions)
    return bool(same.update(transitions=F("transitions") + 1, **changes))


def _late(row: Job) -> bool:
    return row.expires_at is not None and _rows(_WAITING).filter(pk=row.pk, expires_at__lt=Now()).exists()


def _or_now(row: Job) -> Any:
    return row.rung_at or Now()


def _left(due: datetime | None, clock: datetime) -> float:
    return 0.0 if due is None else max(0.0, (due - clock).total_seconds())


def _history(row: Job, outcome: str, problem: bytes) -> str:
    """With the newest attempt.  Its end is by this machine's clock: a text cannot hold the database's."""
    from django.utils import timezone

    told = json.loads(problem).get("detail") if problem else None
    started = None if row.started_at is None else round(row.started_at.timestamp() * 1000)
    attempt = {
        "attempt": row.fence,
        "started_at": started,
        "ended_at": round(timezone.now().timestamp() * 1000),
        "worker": row.worker,
        "outcome": outcome,
        "detail": told,
    }
    return json.dumps([*json.loads(row.history), attempt][-HISTORY:])
