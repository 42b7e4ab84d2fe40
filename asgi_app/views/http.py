"""What all API views share: who asks, JSON in, JSON and problems out.

Invariant: every answer of the API that is an error is application/problem+json with a stable `type`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.views.decorators.csrf import csrf_exempt

from asgi_app import access
from asgi_app.env import env
from asgi_app.errors import (
    BadParameters,
    BodyTooLarge,
    Denied,
    MethodNotAllowed,
    MillpondError,
    Unauthenticated,
    store_away,
)
from asgi_app.problems import problem
from asgi_app.registry import Action, Principal, Resource
from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)

View = Callable[..., Coroutine[Any, Any, HttpResponse]]
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def api(*methods: str) -> Callable[[View], View]:
    """Make a view of the API: it is called with `request` and the `principal`, and may raise MillpondError."""

    def decorate(view: View) -> View:
        @wraps(view)
        async def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            try:
                if request.method not in methods:
                    return wrong_method(methods)
                _check_csrf(request)
                principal = await access.authenticate(request.scope)  # type: ignore[attr-defined]
                if principal.is_anonymous and not env().anonymous:
                    raise Unauthenticated("this service is not open to the public: log in or send a token")
                return await view(request, principal, **kwargs)
            except MillpondError as error:
                return problem(error)
            except RequestDataTooBig:
                return problem(BodyTooLarge(f"the limit is {env().max_body} bytes (MILLPOND_MAX_BODY)"))
            except StoreUnavailable:
                return problem(store_away())
            except Exception:
                log.exception("%s %s", request.method, request.path)
                return problem(MillpondError())

        wrapped.methods = methods  # type: ignore[attr-defined]  # for the test of the API's description
        return csrf_exempt(wrapped)

    return decorate


def reply(data: Any, status: int = 200, **headers: str) -> HttpResponse:
    """A JSON answer that no cache keeps; `headers` with underscores for dashes."""
    response = HttpResponse(msgspec.json.encode(data), status=status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    for name, value in headers.items():
        response[name.replace("_", "-")] = value
    return response


def body_object(request: HttpRequest) -> dict[str, Any]:
    """The JSON object in the body; nothing at all is an empty one.  Raises BadParameters."""
    raw = request.body
    if not raw.strip():
        return {}
    kind = request.content_type
    if kind != "application/json":
        raise BadParameters([{"name": "body", "reason": f"send it as application/json, not {kind or 'nothing'}"}])
    try:
        found = json.loads(raw, object_pairs_hook=_without_twins, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadParameters([{"name": "body", "reason": f"is no JSON: {error}"}]) from error
    if not isinstance(found, dict):
        raise BadParameters([{"name": "body", "reason": "must be a JSON object"}])
    return found


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each of whose members is given once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twins = sorted({name for name in names if names.count(name) > 1})
        raise BadParameters([{"name": name, "reason": "is given twice"} for name in twins])
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def wrong_method(methods: tuple[str, ...]) -> HttpResponse:
    """405, with what is allowed."""
    response = problem(MethodNotAllowed(f"allowed: {', '.join(methods)}"))
    response["Allow"] = ", ".join(methods)
    return response


class _Csrf(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _check_csrf(request: HttpRequest) -> None:
    """A browser's cookie must come with its CSRF token; a bearer token is no browser's doing."""
    if request.method in _SAFE or access.bearer_token(request.scope) is not None:  # type: ignore[attr-defined]
        return
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return
    check = _Csrf(lambda _: HttpResponse())
    check.process_request(request)
    reason = check.process_view(request, lambda _: HttpResponse(), (), {})
    if reason is not None:
        raise Denied(f"CSRF: {reason}")


def visible_rule(rule: Any, principal: Principal) -> bool | None:
    """Whether a declared access rule lets `principal` in whatever the parameters; None when they decide."""
    if rule == "public":
        return env().anonymous or not principal.is_anonymous
    if isinstance(rule, str):
        return not principal.is_anonymous and (rule == "login" or rule in principal.permissions)
    return None


async def may_see(what: Resource | Action, principal: Principal) -> bool:
    """Whether a list shows `what` to `principal`; where its parameters decide, with their defaults."""
    known = visible_rule(what.access, principal)
    if known is not None:
        return known
    try:
        await access.check(what, principal, what.parse({}, text=False))
    except MillpondError:
        return False
    except Exception:  # the author's own function: it must not take the whole list along
        log.exception("access of %s", what.name)
        return False
    return True
