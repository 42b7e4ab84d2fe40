"""The end of a job lands in the inbox of whoever asked for it: unread, unless they saw it end.

Invariant: one entry for each end, none lost.  That of an action is written in the transaction that ends it.  Who asks
for a computation, and is told to come back, is written down before; the schedulers look how it went, as often as it
takes (`tasks/noticing.py`).  Only whether it was seen is asked of the store, and not waited for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import Error, transaction
from django.db.models.functions import Now

from asgi_app import jobs, notices
from asgi_app.errors import MillpondError, shortened
from asgi_app.jobs import SERVICE, TERMINAL, Fields
from asgi_app.models import Job
from asgi_app.noticing import entries
from asgi_app.noticing.tables import Asked, Notification, in_seconds, key_of
from asgi_app.registry import Principal
from asgi_app.rows import in_database
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import digest

if TYPE_CHECKING:
    from asgi_app.wiring import Node

log = logging.getLogger(__name__)

#: Seconds the end of a job waits to learn whether it was seen.
_PATIENCE = 0.5
#: Seconds after which a computation that goes on is looked at again, and how many are looked at together.
_AGAIN, _BATCH = 1.0, 500
#: Seconds after which it is remembered no more that somebody asked.
_REMEMBERED = 2 * 86_400

#: Status -> how it is said, and the level.
_SAID: Mapping[str, tuple[str, notices.Level]] = {
    "succeeded": ("{} is done", "success"),
    "failed": ("{} has failed", "error"),
    "dead": ("{} has failed: its workers died", "error"),
    "cancelled": ("{} was cancelled", "info"),
    "expired": ("{} was not begun in time", "warning"),
    #: The store has lost it.
    "lost": ("Nobody knows how {} ended", "error"),
}


# --- actions


def note_action(row: Job) -> None:
    """Write down that an action has ended, in the caller's transaction.  Raises DatabaseError."""
    if row.owner in ("", SERVICE) or not entries.usable(row.owner):
        return
    seen = _seen(row.owner, [f"job:{row.id}"])
    notices.put([row.owner], _told(jobs.public(row.fields()), seen))


def _seen(user_id: str, topics: Sequence[str]) -> bool:
    """Whether the user follows one of the topics; False where the store does not say so at once."""
    from asgi_app import wiring  # which holds what writes to the ledger, which tells of it here

    if wiring.on_loop():
        return False

    async def ask(node: Node) -> bool:
        return not node.store.suspect and await node.watching.follows(user_id, topics)

    try:
        return wiring.call(ask, _PATIENCE)
    except (StoreUnavailable, MillpondError, FutureTimeout, RuntimeError):
        return False


def _told(job: Mapping[str, Any], seen: bool) -> notices.Draft:
    """What is said of the end of a job."""
    said, level = _SAID[job["status"]]
    error = job.get("error") or {}
    return notices.draft(
        shortened(said.format(shortened(job["name"], 150)), notices.LONGEST_TITLE),
        shortened(str(error.get("detail", "")), 1000).replace("\0", ""),
        level,
        {name: job[name] for name in ("status", "name", "result_url")} | {"job": job["id"]},
        _collapse(job["id"]),
        None,
        read=seen,
    )


def _collapse(job_id: str) -> str:
    return f"job:{job_id}"


# --- computations


async def asked(fields: Fields, principal: Principal) -> None:
    """Somebody was told to come back for a job (202): they will hear of its end.

    Raises nothing: what cannot be written down now is no reason to refuse the answer.
    """
    user_id = principal.user_id
    if fields["kind"] != "computation" or principal.is_anonymous or not entries.usable(user_id):
        return
    assert user_id is not None
    try:
        await in_database(write_asked, fields, user_id)
    except (MillpondError, Error) as error:
        log.warning("job %s: who asked for it was not written down: %s", fields["id"], error)


def write_asked(fields: Fields, user_id: str) -> None:
    """Write down who asked; once more is harmless."""
    job_id = fields["id"]
    row = Asked(
        key=digest("asked", job_id, user_id),
        job=UUID(job_id),
        principal=user_id,
        name=fields["name"],
        topic=json.dumps({"topic": fields["topic"], "key": fields["lease"].rpartition(":")[2]}),
        due_at=in_seconds(_AGAIN),
    )
    Asked.objects.using(entries.database()).bulk_create([row], ignore_conflicts=True)


def due(most: int = _BATCH) -> list[Asked]:
    """Who waits to hear of a computation, and may by now; they are looked at again later."""
    rows = Asked.objects.using(entries.database())
    found = list(rows.filter(due_at__lte=Now()).order_by("due_at")[:most])
    if found:
        rows.filter(pk__in=[row.pk for row in found], due_at__lte=Now()).update(due_at=in_seconds(_AGAIN))
    return found


async def look_after(node: Node) -> int:
    """Tell those whose computations have ended; how many.  Raises StoreUnavailable, Unavailable."""
    told = 0
    rows = await in_database(due)
    for row in rows:
        fields = await node.records.get(str(row.job))
        if fields is not None and fields.get("status") not in TERMINAL:
            continue
        about = json.loads(row.topic)
        if fields is not None and "id" in fields:
            job = jobs.public(fields)
        else:
            job = {"id": str(row.job), "status": "lost", "name": row.name, "result_url": None}
        seen = await node.watching.follows(row.principal, [f"job:{row.job}", about["key"]])
        told += await in_database(_tell, row, _told(job, seen))
    return told


def _tell(row: Asked, draft: notices.Draft) -> bool:
    alias = entries.database()
    with transaction.atomic(alias):
        rows = Asked.objects.using(alias).filter(pk=row.pk, due_at__isnull=False)
        if not rows.update(due_at=None):
            return False
        notices.put([row.principal], draft)
    return True


# --- seen later


async def seen(job_id: str, principal: Principal) -> None:
    """Somebody looked at a job that is over: what the inbox says of it is read.  Raises nothing."""
    if principal.is_anonymous or not entries.usable(principal.user_id):
        return
    try:
        await in_database(_read, job_id, principal.user_id)
    except (MillpondError, Error) as error:
        log.info("job %s: was not marked as seen: %s", job_id, error)


def _read(job_id: str, user_id: str) -> None:
    rows = Notification.objects.using(entries.database()).filter(inbox_id=key_of(user_id), read_at=None)
    numbers = list(rows.filter(collapse=notices.collapse_key(_collapse(job_id))).values_list("number", flat=True))
    if numbers:
        notices.read_now(user_id, numbers, None)


def forget() -> int:
    """Forget who asked long ago; how many."""
    rows = Asked.objects.using(entries.database())
    old: Iterable[Any] = rows.filter(created_at__lt=in_seconds(-_REMEMBERED)).values_list("pk", flat=True)[:_BATCH]
    return rows.filter(pk__in=list(old)).delete()[0]
