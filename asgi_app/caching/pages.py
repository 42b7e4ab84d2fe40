"""Whole pages of Django from the cache: `@cached_page(60)` on a view.

    request -> key: address, who it is for, what the view varies by -> Reader: fresh | stale, refreshed behind | load
    load: the view runs once in the cluster, for all who ask the same meanwhile
    a response that may not be stored goes to its own reader; for a while the others run the view for themselves

Invariant: nobody is shown a page that was made for somebody else; a page is for everybody only where it is declared so
and its view did not look at who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from asgi_app.caching.page_making import View
from asgi_app.caching.page_reading import Pages, Tags, Vary
from asgi_app.declaring import options
from asgi_app.registry import DeclarationError
from cache_layer.freshness import Policy

#: Seconds a page that may not be stored is known as such at least, so that those who wait for it need not (Varnish's
#: hit-for-miss).
_KNOWN = 1.0


def cached_page(
    fresh: float,
    *,
    stale: float = 300,
    stale_if_error: float = 3600,
    tags: Tags = (),
    vary: Vary = "user",
    public: bool = False,
    time_limit: float = 60,
    error_ttl: float = 5,
) -> Callable[[View], Callable[..., Coroutine[Any, Any, HttpResponseBase]]]:
    """Keep the pages of a view, async or not; times are in seconds and mean what they mean for a resource.

    Each user has their own pages, and nobody between us and the browser keeps them; who is not logged in shares one.
    `vary` may be a function (request) -> str instead; a view that looks at the user nevertheless has a page for each.
    `public=True`: one page for everybody, made without anybody's cookies or `Authorization` header; those are shown
    to the view only when it runs for one reader alone.  What the response says
    by `Vary` belongs to the key, and on private pages also the session and the CSRF token, if the view reads them.
    GET and HEAD are answered from the cache; a successful POST, PUT, PATCH or DELETE by the same view outdates all
    pages of its path, after its transaction.  `tags` are names, or a function (request) -> names.

    Not stored, and served to its own reader alone: a response that is streamed, sets a cookie, changes the session,
    shows messages, says `no-store` or `Vary: *`, has another status than 200, 203, 301, 308, 404 and 410 (`Http404`
    counts as 404); and of a public page one that says `private`, holds a CSRF token, or whose view has looked at user
    or session.  `no-cache` and `must-revalidate` are never served stale.  A `Cache-Control` of the view is sent as it
    is.

    The view runs apart from the request's task, on database connections of its own, and may be run without a reader.
    Raises DeclarationError for wrong options.
    """
    reasons = [
        *options.number_reasons(fresh=fresh, stale=stale, stale_if_error=stale_if_error, error_ttl=error_ttl),
        *options.number_reasons(time_limit=time_limit),
        *([] if callable(tags) else options.tags_reasons(tags)),
        *options.flag_reasons("public", public),
    ]
    if vary != "user" and not callable(vary):
        reasons.append(f"vary must be 'user' or a function (request) -> str, not {vary!r}")
    if public is True and vary != "user":
        reasons.append(
            "a public page is everybody's: the header it depends on is said by the response's Vary, not by vary="
        )
    policy = Policy(fresh=fresh, stale=stale, stale_if_error=stale_if_error, error_ttl=max(_KNOWN, error_ttl))

    def decorate(view: View) -> Callable[..., Coroutine[Any, Any, HttpResponseBase]]:
        name = f"{view.__module__}.{getattr(view, '__qualname__', type(view).__name__)}"
        if reasons:
            raise DeclarationError(f"cached_page of {name}: {'; '.join(reasons)}")
        pages = Pages(view, name, policy, tags=tags, vary=vary, public=public, time_limit=time_limit)

        @wraps(view)
        async def cached(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return await pages.answer(request, args, kwargs)

        return cached

    return decorate
