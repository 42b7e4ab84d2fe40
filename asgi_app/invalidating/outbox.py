"""The outbox: what a transaction leaves to be done outside of the database, committed with it.

Invariant: a row is there if and only if its transaction was committed, and goes only after what it says was done: at
least once.  Rows that nobody removed are carried out by the relay (`tasks/relay.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connections
from django.db.models.functions import Now

from asgi_app.models import Outbox
from cache_layer.outdated import EVERYTHING, Outdated

log = logging.getLogger(__name__)

_KIND = "invalidate"
#: Seconds after which a database without the table is looked at again: it may have been migrated.
_LOOK_AGAIN = 60.0
#: Aliases of databases that have the table; alias -> when one that has not is looked at again, monotonic.
_has_table: set[str] = set()
_look_again: dict[str, float] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An invalidation that was written down."""

    id: UUID
    outdated: Outdated


def present(alias: str) -> bool:
    """Whether the database has the table.  Where it has none everything works without, which is said once."""
    if alias in _has_table:
        return True
    if time.monotonic() < _look_again.get(alias, 0.0):
        return False
    connection, table = connections[alias], Outbox._meta.db_table
    with connection.cursor() as cursor:
        found = table in connection.introspection.table_names(cursor)
    if found:
        _has_table.add(alias)
    elif alias not in _look_again:
        log.warning("database '%s' has no %s: nobody finishes the invalidations of a process that dies", alias, table)
    _look_again[alias] = time.monotonic() + _LOOK_AGAIN
    return found


def write(alias: str, parts: Iterable[Outdated]) -> list[UUID]:
    """Write down invalidations in the current transaction, in one statement; the ids of their rows, none without table.

    Raises DatabaseError, after which the transaction cannot be committed.
    """
    if not present(alias):
        return []
    rows = [Outbox(kind=_KIND, payload=outdated.to_json().decode()) for outdated in parts]
    # Not `save()`: receivers of signals for all models need not hear of it.
    Outbox.objects.using(alias).bulk_create(rows)
    return [row.id for row in rows]


def remove(alias: str, ids: Sequence[UUID]) -> None:
    """Forget what was done; once more is harmless."""
    if ids:
        # One statement; `delete()` would put a transaction around it.
        Outbox.objects.using(alias).filter(pk__in=ids)._raw_delete(alias)


def keep(alias: str, outdated: Outdated) -> None:
    """Write down an invalidation that belongs to no transaction, so that it outlives this process; as far as possible.

    It raises nothing: the caller has an error to tell already.
    """
    try:
        write(alias, [outdated])
    except Exception:
        log.exception("an invalidation is kept in the memory of this process only: %s", outdated.to_json().decode())


def due(alias: str, *, older_than: float, most: int) -> list[Row]:
    """The oldest rows that have been there for `older_than` seconds, by the clock of the database."""
    if not present(alias):
        return []
    old = Outbox.objects.using(alias).filter(kind=_KIND, created_at__lte=Now() - timedelta(seconds=older_than))
    return [Row(id=row.id, outdated=_read(row)) for row in old.order_by("created_at")[:most]]


def _read(row: Outbox) -> Outdated:
    outdated = Outdated.from_json(row.payload)
    if outdated is None:
        log.error("row %s of the outbox cannot be read: all values are outdated instead", row.id)
        return EVERYTHING
    return outdated
