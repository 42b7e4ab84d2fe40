"""What waits and runs of the actions in the database: what relay, reaper and listings look for.

Everything here is synchronous, on the caller's connection.
Invariant: nothing here changes the status of a job; only whether it is said to stand on its queue, and old rows of jobs
that are over, which go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from asgi_app.jobs import SERVICE
from asgi_app.ledger import WAITING, database
from asgi_app.models import Job

#: Seconds for which a run by the clock is kept that went well: it may be one a second.
_ROUTINE = 3600.0
#: Seconds that the database may take to hear of something.
_MARGIN = 1.0


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
    rows = _rows(WAITING).filter(rung_at=None, created_at__lte=old).annotate(clock=Now()).order_by("pk")[:most]
    return [(row, _left(row.due_at, row.clock)) for row in rows]


def seconds_until_due(row: Job) -> float:
    """How long a job that waits has to wait still before it is put on its queue."""
    if row.due_at is None:
        return 0.0
    clock = Job.objects.using(database()).filter(pk=row.pk).values_list(Now(), flat=True).first()
    return 0.0 if clock is None else _left(row.due_at, clock)


def forget_rings() -> int:
    """All that wait have to be put on their queues again: the store has lost them.  How many."""
    return _rows(WAITING).exclude(rung_at=None).update(rung_at=None)


def said_to_wait(after: str, *, older_than: float, most: int) -> list[str]:
    """Ids after `after` ("": from the first on) of jobs that were put on their queues, `older_than` seconds ago."""
    rows = _rows(WAITING).filter(rung_at__lt=Now() - timedelta(seconds=older_than))
    return [
        str(pk)
        for pk in (rows.filter(pk__gt=after) if after else rows).order_by("pk").values_list("pk", flat=True)[:most]
    ]


def not_on_queue(job_ids: Sequence[str]) -> int:
    """These stand on no queue: somebody has to put them there; how many."""
    return _rows(WAITING).filter(pk__in=job_ids).update(rung_at=None)


def overdue(*, most: int) -> list[Job]:
    """Jobs that have waited longer than they may."""
    return list(_rows(WAITING).filter(expires_at__lt=Now()).order_by("pk")[:most])


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
    rows = _rows(WAITING)
    return rows.filter(queue=queue).count(), rows.filter(owner=owner).count()


def _rows(statuses: Sequence[str]) -> QuerySet[Job]:
    return Job.objects.using(database()).filter(status__in=statuses)


def _left(due: datetime | None, clock: datetime) -> float:
    return 0.0 if due is None else max(0.0, (due - clock).total_seconds())
