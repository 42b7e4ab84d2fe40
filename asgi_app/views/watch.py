"""Who watches what, for the staff: as JSON, and as a page that is a table without scripts too."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from asgi_app import access, watching, wiring
from asgi_app.errors import Denied, Unauthenticated
from asgi_app.registry import Principal
from asgi_app.views.http import api, reply
from asgi_app.views.pages import CONTENT_SECURITY_POLICY
from cache_layer.errors import StoreUnavailable

#: By what the topics may be sorted, with how the column is headed.
_COLUMNS = {
    "topic": "Topic",
    "watchers": "Watchers",
    "told": "Told a minute",
    "computed": "Computed a minute",
    "seconds": "Takes",
    "state": "State",
}
_NOTHING: dict[str, Any] = {"processes": [], "topics": [], "omitted": 0, "slow": []}
_LONGEST = 200


@api("GET", "HEAD")
async def detail(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`GET /api/v1/watch`: topics with their watchers, web processes, slow readers; for the staff."""
    if not access.is_staff(principal):
        raise Unauthenticated("this is for the staff") if principal.is_anonymous else Denied("this is for the staff")
    return reply(await watching.overview(wiring.node()))


async def page(request: HttpRequest) -> HttpResponse:
    """`/watch`: the same for a person; `?q=` and `?sort=` for who has no scripts."""
    user = await request.auser()
    if not user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    if not getattr(user, "is_staff", False):
        raise PermissionDenied
    try:
        found, away = await watching.overview(wiring.node()), False
    except StoreUnavailable:
        found, away = _NOTHING, True
    asked, sort = request.GET.get("q", "")[:_LONGEST], request.GET.get("sort", "watchers")
    sort = sort if sort in _COLUMNS else "watchers"
    rows = [row for row in found["topics"] if asked.lower() in f"{row['topic']} {row['kind']}".lower()]
    rows.sort(key=lambda row: _place(row, sort))
    context = {
        **found,
        "processes": [_shown(process) for process in found["processes"]],
        "topics": rows,
        "all": len(found["topics"]),
        "q": asked,
        "sort": sort,
        "columns": _COLUMNS,
        "away": away,
        "username": user.get_username(),
        "staff": True,
    }
    response = render(request, "watch.html", context, status=503 if away else 200)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "private, no-store"
    return response


def _shown(process: dict[str, Any]) -> dict[str, Any]:
    state = "draining" if process["draining"] else "live" if process["feed"] else "deaf"
    total, lag = sum(process["connections"].values()), round(process["lag"] * 1000)
    return {**process, "total": total, "milliseconds": lag, "state": state}


def _place(row: dict[str, Any], sort: str) -> tuple[Any, ...]:
    """Texts from a on, numbers from the largest down, what is not known last."""
    value = row[sort]
    first = (value == "", value) if isinstance(value, str) else (value is None, -(value or 0.0))
    return *first, row["topic"]
