"""What the API says of itself: the OpenAPI document, and a page to try it.

Invariant: nobody reads of a resource or an action that `may_see` does not show them.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags
from django.views.decorators.csrf import csrf_exempt

from asgi_app import __version__
from asgi_app.env import env
from asgi_app.http_caching import NotModified
from asgi_app.openapi import document
from asgi_app.registry import Principal, registry
from asgi_app.views.http import api, may_see, wrong_method
from asgi_app.views.pages import CONTENT_SECURITY_POLICY

#: Documents that are kept: one for each set of what principals may see, and those are few.
_KEPT = 32
_READING = ("GET", "HEAD")


@api(*_READING)
async def describe(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`GET /api/v1/openapi.json`: the document of what the principal may see; 304 for who has it."""
    resources = [each.name for each in registry.resources.values() if await may_see(each, principal)]
    actions = [each.name for each in registry.actions.values() if await may_see(each, principal)]
    body, tag = _document(frozenset(resources), frozenset(actions))
    response = HttpResponse(body, content_type="application/json")
    response["ETag"] = tag
    response["Cache-Control"] = "private, no-cache"
    patch_vary_headers(response, ["Authorization", "Cookie"])
    known = parse_etags(request.headers.get("If-None-Match", ""))
    if known == ["*"] or tag in (each.removeprefix("W/") for each in known):
        return NotModified.of(response)
    return response


@csrf_exempt
async def docs(request: HttpRequest) -> HttpResponse:
    """`GET /api/v1/docs`: the page; it reads the document with the rights of whoever looks at it."""
    if request.method not in _READING:
        return wrong_method(_READING)
    user = await request.auser()
    response = render(request, "docs.html", {"username": user.get_username()})
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "private, no-cache"
    return response


@lru_cache(maxsize=_KEPT)
def _document(resources: frozenset[str], actions: frozenset[str]) -> tuple[bytes, str]:
    """The document's bytes and their tag.  Declarations never change while a process runs."""
    described = document(
        [registry.resource(name) for name in resources],
        [registry.action(name) for name in actions],
        version=__version__,
        anonymous=env().anonymous,
        session_cookie=settings.SESSION_COOKIE_NAME,
        csrf_header=settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-"),
    )
    body = msgspec.json.encode(described)
    return body, f'"{blake2b(body, digest_size=8).hexdigest()}"'
