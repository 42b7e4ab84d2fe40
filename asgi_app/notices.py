"""The inbox: what somebody shall be told, here or not, kept until it was read and for a while after.

    with transaction.atomic():
        order.ship()
        notify(order.customer, "Your order is on its way", level="success", data={"order": order.pk})

Invariant: a notification is there if and only if the transaction it was written in was committed; the numbers of an
inbox grow by one in the order of the commits, so that a reader who knows the newest one knows whether it lacks any.
What users call stands in `notifying.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from asgi_app.errors import BadParameters, Denied, Unauthenticated
from asgi_app.noticing import entries, telling
from asgi_app.noticing.tables import Inbox, Notification, in_seconds, key_of
from asgi_app.registry import Principal
from asgi_app.rows import in_database
from cache_layer.keys import digest

Level = Literal["debug", "info", "success", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "success", "warning", "error")
#: Characters of a title, a body and a collapse key; bytes of the data as JSON; ids that are marked as read at once.
LONGEST_TITLE, LONGEST_BODY, LONGEST_COLLAPSE, MOST_DATA, MOST_IDS = 200, 10_000, 200, 16_384, 1000
#: Seconds after which a notification may expire.
_LONGEST_LIFE = 366 * 86_400
_LARGEST = 2**53


async def mark_read(principal: Principal, ids: Sequence[int] | None = None, up_to: int | None = None) -> dict[str, int]:
    """Mark notifications of the principal's as read, and tell its connections: {"unread": how many are left}.

    Raises Unauthenticated, Denied, BadParameters, Unavailable.
    """
    user_id = reader(principal)
    _check_read(ids, up_to)
    return {"unread": await in_database(read_now, user_id, ids, up_to)}


async def mark_read_by(principal: Principal, body: Any) -> dict[str, int]:
    """`mark_read` with the body of a request: `{"ids": [1, 2]}` or `{"up_to": 2}`.  Raises what that raises."""
    user_id = reader(principal)
    if not isinstance(body, dict):
        raise BadParameters([{"name": "data", "reason": 'an object such as {"ids": [1]} or {"up_to": 1}'}])
    if unknown := sorted(str(name) for name in body.keys() - {"ids", "up_to"}):
        raise BadParameters([{"name": name, "reason": "unknown; allowed are ids, up_to"} for name in unknown])
    if len(body) != 1:
        raise BadParameters([{"name": "ids", "reason": "give either ids or up_to"}])
    if any(value is None for value in body.values()):
        raise BadParameters([{"name": name, "reason": "must not be null"} for name in body])
    ids, up_to = body.get("ids"), _whole(body.get("up_to"))
    ids = [_whole(number) for number in ids] if isinstance(ids, list) else ids
    _check_read(ids, up_to)
    return {"unread": await in_database(read_now, user_id, ids, up_to)}


def _whole(number: Any) -> Any:
    """JSON knows one kind of number: 7.0 is a whole one."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def reader(principal: Principal) -> str:
    """The id of who may read the inbox of that id.  Raises Unauthenticated, Denied."""
    if principal.is_anonymous or not principal.user_id:
        raise Unauthenticated("an inbox is somebody's: log in or send a token")
    if "read" not in principal.scopes:
        raise Denied("this needs the scope read")
    if not entries.usable(principal.user_id):
        raise Denied("nobody of this id has an inbox")
    return principal.user_id


def user_id_of(user_or_id: Any) -> str:
    """The id of a user, a principal, or the id itself.  Raises ValueError for nobody."""
    found = user_or_id
    if isinstance(found, Principal):
        found = found.user_id
    elif not isinstance(found, str | int) and hasattr(found, "pk"):
        found = found.pk
    if isinstance(found, bool) or found is None:
        raise ValueError(f"nobody to notify: {user_or_id!r:.100}")
    found = str(found)
    if not entries.usable(found):
        raise ValueError(f"{found!r:.100} is no id of a user")
    return found


# --- writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A notification that was checked."""

    title: str
    body: str
    level: str
    data: str
    collapse: str
    expires: float | None
    #: Its reader has seen what it tells.
    read: bool = False


def draft(title: Any, body: Any, level: Any, data: Any, collapse: Any, expires: Any, *, read: bool = False) -> Draft:
    """A notification, checked; `read`: its reader has seen what it tells.  Raises ValueError with every reason."""
    text, problems = _json(data)
    for name, value, least, most in (("title", title, 1, LONGEST_TITLE), ("body", body, 0, LONGEST_BODY)):
        if not isinstance(value, str) or not least <= len(value) <= most or not _storable(value):
            problems.append(f"{name} must be {least} to {most} characters, without NUL")
    if level not in LEVELS:
        problems.append(f"level must be one of {', '.join(LEVELS)}, not {level!r:.50}")
    key_fits = collapse is None or (isinstance(collapse, str) and 0 < len(collapse) <= LONGEST_COLLAPSE)
    if not key_fits or not _storable(collapse or ""):
        problems.append(f"collapse must be 1 to {LONGEST_COLLAPSE} characters, or None")
    lasts = expires is None or (isinstance(expires, int | float) and 0 < expires <= _LONGEST_LIFE)
    if not lasts or isinstance(expires, bool):
        problems.append(f"expires must be more than 0 and at most {_LONGEST_LIFE} seconds, or None")
    if problems:
        raise ValueError(f"this cannot be notified: {'; '.join(problems)}")
    key = "" if collapse is None else collapse_key(collapse)
    return Draft(title=title, body=body, level=level, data=text, collapse=key, expires=expires, read=read)


def collapse_key(text: str) -> str:
    """By what notifications with the same collapse key are found."""
    return digest("collapse", text)


def _json(data: Any) -> tuple[str, list[str]]:
    if data is None:
        return "", []
    try:
        text = msgspec.json.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        return "", [f"data cannot be written as JSON: {error}"]
    return text.decode(), [] if len(text) <= MOST_DATA else [f"data must be at most {MOST_DATA} bytes of JSON"]


def _storable(text: str) -> bool:
    """PostgreSQL keeps no NUL, and no database what UTF-8 cannot say."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def put(user_ids: Sequence[str], draft: Draft) -> list[int]:
    """Write the same into several inboxes, in the caller's transaction; the numbers it has there."""
    alias = entries.database()
    numbers: dict[str, int] = {}
    with transaction.atomic(alias):
        for user_id in sorted(set(user_ids), key=key_of):
            numbers[user_id] = _append(user_id, draft, alias)
    return [numbers[user_id] for user_id in user_ids]


def _append(user_id: str, draft: Draft, alias: str) -> int:
    inbox = _next(user_id, alias)
    rows = Notification.objects.using(alias).filter(inbox=inbox)
    replaced = None
    if draft.collapse:
        same = rows.filter(collapse=draft.collapse, replaced=False)
        replaced = same.order_by("-number").values_list("number", flat=True).first()
        same.update(replaced=True)
    made = Notification(
        inbox=inbox,
        number=inbox.last,
        title=draft.title,
        body=draft.body,
        level=draft.level,
        data=draft.data,
        collapse=draft.collapse,
        replaces=replaced,
    )
    made.expires_at = None if draft.expires is None else in_seconds(draft.expires)
    made.read_at = Now() if draft.read else None
    made.save(using=alias, force_insert=True)
    telling.tell_after_commit(user_id, inbox.epoch, rows.get(number=inbox.last))
    return inbox.last


def _next(user_id: str, alias: str) -> Inbox:
    """The inbox, with its next number, which nobody else is given: its row is locked until the commit."""
    rows = Inbox.objects.using(alias).filter(pk=key_of(user_id))
    if not rows.update(last=F("last") + 1):
        entries.open_inbox(user_id, alias)
        rows.update(last=F("last") + 1)
    return rows.get()


# --- reading


def _check_read(ids: Any, up_to: Any) -> None:
    if (ids is None) == (up_to is None):
        raise BadParameters([{"name": "ids", "reason": "give either ids or up_to"}])
    if ids is not None and not (
        isinstance(ids, list | tuple) and len(ids) <= MOST_IDS and all(_is_number(one, 1) for one in ids)
    ):
        raise BadParameters([{"name": "ids", "reason": f"at most {MOST_IDS} ids of notifications"}])
    if up_to is not None and not _is_number(up_to, 0):
        raise BadParameters([{"name": "up_to", "reason": "the id of a notification"}])


def _is_number(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST


def read_now(user_id: str, ids: Sequence[int] | None, up_to: int | None) -> int:
    """Mark as read what is not yet; how many are left unread."""
    alias, key = entries.database(), key_of(user_id)
    with transaction.atomic(alias):
        rows = Notification.objects.using(alias).filter(inbox_id=key, read_at=None)
        rows = rows.filter(number__in=ids) if ids is not None else rows.filter(number__lte=up_to)
        changed = rows.update(read_at=Now())
        left = entries.unread(key)
        if changed:
            what = {"ids": list(ids)} if ids is not None else {"up_to": up_to}
            telling.tell_read_after_commit(user_id, msgspec.json.encode({**what, "unread": left}))
    return left
