"""Which page a request comes from, and what follows from it: answers a page may read, cookies that count.

Invariant: a cookie is an identity only on a request of a page whose origin is allowed, by scheme, host and port.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_app import access

#: Seconds a browser remembers the answer to a preflight.
_REMEMBERED = 7200

Headers = list[tuple[bytes, bytes]]


def readable(scope: Mapping[str, Any]) -> Headers:
    """Headers of an answer: they let a page of an allowed origin read it."""
    origin = _header(scope, b"origin")
    if not origin or not access.origin_allowed(scope):
        return [(b"vary", b"Origin")]
    return [
        (b"vary", b"Origin"),
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
    ]


def preflight(scope: Mapping[str, Any], methods: tuple[str, ...]) -> Headers:
    """Headers of the answer to OPTIONS, with which a browser asks before it sends JSON to another origin."""
    return [
        *readable(scope),
        (b"access-control-allow-methods", ", ".join(methods).encode()),
        (b"access-control-allow-headers", b"content-type, authorization"),
        (b"access-control-max-age", b"%d" % _REMEMBERED),
    ]


def trusted(scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request, without its cookies unless they may say who asks.

    An EventSource sends no Origin to its page's own; the browser itself says then that it is the same one, in a header
    which no page can set.
    """
    if _header(scope, b"origin"):
        counts = access.origin_allowed(scope)
    else:
        counts = _header(scope, b"sec-fetch-site") == b"same-origin"
    if counts:
        return scope
    return {**scope, "headers": [header for header in scope["headers"] if header[0] != b"cookie"]}


def _header(scope: Mapping[str, Any], name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")
