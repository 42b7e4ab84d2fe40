"""The records of actions, in the database: every write to them.

A row is written in the transaction of whoever asks for the action; while its `rung_at` is empty it is its own entry of
the outbox (`tasks/relay.py` sees that it gets to its queue).  Everything here is synchronous, on the caller's
connection; what relay, reaper and listings look for is in `backlog.py`.
Invariant: a terminal status never changes, and every change asks for what it has read: of two that change a waiting row
at once one does, and an attempt whose number is no longer the row's changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db import IntegrityError, InterfaceError, OperationalError, router, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from asgi_app import webhooks
from asgi_app.errors import IdempotencyMismatch
from asgi_app.models import Job
from asgi_app.noticing import completion
from cache_layer.cache import HISTORY
from cache_layer.queues import Ticket
from cache_layer.records import DEAD, MAX_CRASHES

log = logging.getLogger(__name__)

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "dead", "expired"})
WAITING = ("queued", "retrying")
_UNCANCELLED = Q(cancel_at=None)
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
    #: Its id was made for it, and it has no Idempotency-Key: nobody has asked for it before.
    new: bool = False


def create(order: Order) -> tuple[Job, bool]:
    """Write an action down in the caller's transaction; whether it is new.

    The same id, or the same `idempotency`, twice is one row.  Raises IdempotencyMismatch for other parameters.
    """
    alias = database()
    known = None if order.new else find(order)
    if known is not None:
        return known, False
    row = _row(order)
    try:
        with transaction.atomic(alias):  # a refused row must not cost the caller's transaction
            Job.objects.using(alias).bulk_create([row])
    except IntegrityError:
        known = find(order)
        if known is None:
            raise
        return known, False
    return row, True


def create_all(orders: Sequence[Order]) -> list[tuple[str, bool] | Exception]:
    """As `create`, of several that have nothing to do with each other: id and whether it is new, or why it is not.

    Raises OperationalError or InterfaceError when the database is away.
    """
    new = [order for order in orders if order.new]
    written = len(new) > 1 and _created_together(new)
    return [(order.job_id, True) if written and order.new else _created(order) for order in orders]


def _created_together(new: Sequence[Order]) -> bool:
    """One transaction; False: one of them is refused, so that none is written."""
    alias = database()
    try:
        with transaction.atomic(alias):
            Job.objects.using(alias).bulk_create([_row(order) for order in new])
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        return False
    return True


def _created(order: Order) -> tuple[str, bool] | Exception:
    try:
        row, created = create(order)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        return error
    return str(row.pk), created


def _row(order: Order) -> Job:
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
    return row


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
    if row is None or row.status not in WAITING:
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
            completion.note_action(ended)
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
    return row.expires_at is not None and _rows(WAITING).filter(pk=row.pk, expires_at__lt=Now()).exists()


def _or_now(row: Job) -> Any:
    return row.rung_at or Now()


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
