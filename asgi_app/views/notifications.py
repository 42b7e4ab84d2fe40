"""The inbox over HTTP: what is there, what came since a position, and what was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse

from asgi_app import notices
from asgi_app.errors import BadParameters
from asgi_app.noticing import entries
from asgi_app.noticing.tables import Notification
from asgi_app.registry import Principal
from asgi_app.rows import in_database
from asgi_app.views.http import api, body_object, reply

_MOST = 200
_LARGEST = 2**53
#: What the `next` of a page that goes back in time begins with.
_BEFORE = "before-"


@api("GET", "HEAD")
async def listing(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`GET /api/v1/notifications?after=&cursor=&limit=`: the newest first; with `after` all since then, oldest first.

    `Millpond-Position` is where the inbox stands: what `after` takes later, and a subscription to the inbox.
    """
    asked = asked_of(request)
    found = await in_database(page, notices.reader(principal), asked)
    body = {"items": found.items, "next": found.following, "unread": found.unread}
    return reply(body, Millpond_Position=found.position)


@api("POST")
async def read(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`POST /api/v1/notifications/read`: `{"ids": [...]}` or `{"up_to": id}`; how many are left unread."""
    notices.reader(principal)
    return reply(await notices.mark_read_by(principal, body_object(request)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which part of an inbox."""

    limit: int = 50
    #: All since this one, the oldest first; None: the newest first.
    after: int | None = None
    #: The newest before this one.
    before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of an inbox, as users see it."""

    items: list[Any]
    following: str | None
    unread: int
    position: str


def page(user_id: str, asked: Asked) -> Page:
    """Read it, in this thread."""
    where = entries.standing([user_id])[user_id]
    if asked.after is not None:
        rows = Notification.objects.using(entries.database()).filter(inbox_id=where.key, number__gt=asked.after)
        rows = rows.order_by("number")
    else:
        rows = entries.shown(where.key).order_by("-number")
        rows = rows if asked.before is None else rows.filter(number__lt=asked.before)
    found = list(rows[: asked.limit + 1])
    shown, more = found[: asked.limit], len(found) > asked.limit
    last = shown[-1].number if shown else 0
    return Page(
        items=[entries.public(row) for row in shown],
        following=(str(last) if asked.after is not None else f"{_BEFORE}{last}") if more else None,
        unread=entries.unread(where.key),
        position=f"{where.epoch}-{max([where.top, *(row.number for row in shown)])}",
    )


def asked_of(request: HttpRequest) -> Asked:
    """What a request asks for.  Raises BadParameters."""
    given, names = request.GET, ("after", "cursor", "limit")
    bad = [{"name": name, "reason": f"unknown; allowed are {', '.join(names)}"} for name in given if name not in names]
    bad += [{"name": name, "reason": "is given twice"} for name in given if len(given.getlist(name)) > 1]
    limit = _number(given.get("limit") or "50")
    if limit is None or not 1 <= limit <= _MOST:
        bad.append({"name": "limit", "reason": f"a whole number, 1 to {_MOST}"})
    name = "cursor" if given.get("cursor") else "after"
    text = given.get(name, "")
    number = _number(text.removeprefix(_BEFORE)) if text else None
    if text and number is None:
        bad.append({"name": name, "reason": "the id of a notification, or the `next` of a page"})
    if bad:
        raise BadParameters(bad)
    back = text.startswith(_BEFORE)
    return Asked(limit=limit or 0, after=None if back else number, before=number if back else None)


def _number(text: str) -> int | None:
    fits = text.isascii() and text.isdigit() and len(text) <= 16
    return int(text) if fits and int(text) <= _LARGEST else None
