"""Reading inboxes: where they stand, what came after a position, what is shown, and what is unread.

Synchronous, on the caller's connection.  Invariant: what is read after a position has no hole; where the inbox has
forgotten something, what is left begins later, and the reader sees that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import connections, router
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from asgi_app.noticing.tables import LONGEST_USER, Inbox, Notification, key_of, moment
from cache_layer.history import LogPage
from cache_layer.publication import Logged


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an inbox stands."""

    key: str
    epoch: str
    #: Number of the newest notification, 0 before the first.
    top: int


def database() -> str:
    """Alias of the database that has the inboxes."""
    return router.db_for_write(Notification)


def usable(user_id: object) -> bool:
    """Whether somebody of this id can have an inbox."""
    return isinstance(user_id, str) and 0 < len(user_id) <= LONGEST_USER and "\0" not in user_id


def standing(user_ids: Iterable[str]) -> dict[str, Standing]:
    """Where the inboxes of these stand; who has none yet is given one."""
    alias = database()
    ids = {key_of(user_id): user_id for user_id in user_ids}
    rows = Inbox.objects.using(alias).filter(pk__in=ids).values_list("key", "epoch", "last")
    found = {ids[key]: Standing(key=key, epoch=epoch, top=top) for key, epoch, top in rows}
    for user_id in ids.values():
        if user_id not in found:
            new = open_inbox(user_id, alias)
            found[user_id] = Standing(key=new.key, epoch=new.epoch, top=new.last)
    return found


def open_inbox(user_id: str, alias: str) -> Inbox:
    """The inbox of a principal, made when there is none; in a transaction it is locked from now on.

    In one statement: of two that make it at once, the other waits, and both would wait for each other if the lock were
    taken later (MariaDB).
    """
    key, rows = key_of(user_id), Inbox.objects.using(alias)
    new = Inbox(key=key, principal=user_id, user_id=_user(user_id, alias))
    named = connections[alias].features.supports_update_conflicts_with_target
    target = ["key"] if named else None
    rows.bulk_create([new], update_conflicts=True, update_fields=["principal"], unique_fields=target)
    return rows.get(pk=key)


def _user(user_id: str, alias: str) -> Any:
    """The primary key of the user here with this very id, None for an id that is none of ours."""
    model = get_user_model()
    try:
        found = model._default_manager.using(alias).filter(pk=user_id).values_list("pk", flat=True).first()
    except (ValueError, TypeError, OverflowError, ValidationError):
        return None
    return found if str(found) == user_id else None  # " 1" and "１" find user 1, and are other people's ids


def page(where: Standing, *, after: int | None, before: int | None, limit: int) -> LogPage:
    """What the log of an inbox has between two numbers, both exclusive: the oldest `limit` after `after`, or without it
    the newest `limit`; oldest first."""
    rows = Notification.objects.using(database()).filter(inbox_id=where.key)
    if after is not None:
        rows = rows.filter(number__gt=after)
    if before is not None:
        rows = rows.filter(number__lt=before)
    ordered = rows.order_by("-number" if after is None else "number")[: max(0, limit)]
    found = [logged(row) for row in ordered]
    if after is None:
        found.reverse()
    top = max([where.top, *(one.offset for one in found)])
    return LogPage(epoch=where.epoch, top=top, publications=tuple(found))


def logged(row: Notification) -> Logged:
    """A notification as its subscribers are told it; the tags name the one it takes the place of."""
    tags = b"" if row.replaces is None else b'{"replaces":"%d"}' % row.replaces
    return Logged(row.number, msgspec.json.encode(public(row)), b"", tags)


def public(row: Notification) -> Mapping[str, Any]:
    """A notification of the API."""
    return {
        "id": row.number,
        "title": row.title,
        "body": row.body,
        "level": row.level,
        "data": json.loads(row.data) if row.data else None,
        "created_at": moment(row.created_at),
        "read_at": moment(row.read_at),
    }


def shown(key: str) -> QuerySet[Notification]:
    """The notifications of an inbox that are neither replaced nor expired."""
    rows = Notification.objects.using(database()).filter(inbox_id=key, replaced=False)
    return rows.filter(Q(expires_at=None) | Q(expires_at__gt=Now()))


def unread(key: str) -> int:
    """How many of them have not been read."""
    return shown(key).filter(read_at=None).count()
