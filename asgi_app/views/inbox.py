"""`/inbox`: the notifications of whoever is signed in; without scripts a list with forms, with them a live one.

Invariant: it shows and changes the signed-in user's own inbox only, and no cache keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from asgi_app import access, notices
from asgi_app.errors import BadParameters, MillpondError
from asgi_app.registry import Principal
from asgi_app.rows import in_database
from asgi_app.views.http import wrong_method
from asgi_app.views.notifications import asked_of, page
from asgi_app.views.pages import CONTENT_SECURITY_POLICY

_METHODS = ("GET", "HEAD", "POST")


async def inbox(request: HttpRequest) -> HttpResponse:
    """GET: the newest first, older ones with `cursor`.  POST: `id` or `up_to` was read; then back to the list."""
    if request.method not in _METHODS:
        return wrong_method(_METHODS)
    user = await request.auser()
    context: dict[str, Any] = {"username": user.get_username(), "user_id": "" if user.is_anonymous else str(user.pk)}
    if user.is_anonymous:
        return _shown(request, context)
    principal = await access.principal_of(context["user_id"])
    try:
        if request.method == "POST":
            await _read(request, principal)
            return HttpResponseRedirect(request.path)
        context |= await _list(request, principal)
    except BadParameters as error:
        return _shown(request, context | {"problem": error.detail}, error.status)
    except MillpondError as error:
        return _shown(request, context | {"problem": error.detail}, error.status)
    return _shown(request, context)


async def _list(request: HttpRequest, principal: Principal) -> dict[str, Any]:
    found = await in_database(page, notices.reader(principal), asked_of(request))
    items = [{**item, "href": link_of(item["data"])} for item in found.items]
    top = found.position.rpartition("-")[2]
    return {"items": items, "following": found.following, "unread": found.unread, "top": top}


async def _read(request: HttpRequest, principal: Principal) -> None:
    """Raises BadParameters."""
    try:
        up_to, one = request.POST.get("up_to"), request.POST.get("id")
        body = {"up_to": int(up_to)} if up_to is not None else {"ids": [int(one or "")]}
    except ValueError:
        raise BadParameters([{"name": "id", "reason": "the id of a notification"}]) from None
    await notices.mark_read_by(principal, body)


def link_of(data: Any) -> str:
    """Where a notification leads, on this very service; "" where it does not."""
    if not isinstance(data, Mapping):
        return ""
    for name in ("url", "result_url"):
        found = data.get(name)
        if isinstance(found, str) and found.startswith("/") and not found.startswith(("//", "/\\")):
            return found if not urlsplit(found).netloc else ""
    return "/jobs" if data.get("job") else ""


def _shown(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    response = render(request, "inbox.html", context, status=status)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "no-store"
    return response
