"""What HTTP says to caches and caches say in HTTP (RFC 9111, 5861, 9211): directives of requests, headers of answers.

Invariants: a directive that is not understood is ignored, and so is one that wants a computation whatever is there
(`no-cache`, `no-store`, `max-age=0`, `Pragma`): any client could keep the workers busy with it.  No answer says it is
fresh for longer than it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from django.http import HttpResponse, HttpResponseNotModified

from asgi_app.reading import Reading
from cache_layer.freshness import ANYTHING, Demand, Policy

#: Seconds beyond which a number means "for ever" (RFC 9111, section 1.2.2).
_EVER = 2.0**31
#: One directive: text without a comma, save in quotes.
_DIRECTIVE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', re.DOTALL)
#: What describes a body and is not sent without one.
_OF_BODIES = ("Content-Encoding", "Content-Language", "Content-Length", "Content-Range", "Content-Type")

Scope = Literal["public", "private"]


def demand(headers: Mapping[str, str]) -> Demand:
    """Read the request directives of Cache-Control (RFC 9111, section 5.2.1); of one given twice the first counts."""
    text = headers.get("Cache-Control", "")
    if not text:
        return ANYTHING
    said = directives(text)
    max_stale = _seconds(said.get("max-stale"))
    found = Demand(
        max_age=_seconds(said.get("max-age")) or None,
        min_fresh=_seconds(said.get("min-fresh")) or 0.0,
        max_stale=math.inf if said.get("max-stale") == "" else max_stale or 0.0,
        only_cached=said.get("only-if-cached") == "",
    )
    return ANYTHING if found == ANYTHING else found


def directives(text: str) -> dict[str, str]:
    """The directives of a Cache-Control header, names in lower case, with their arguments; "" for none."""
    found: dict[str, str] = {}
    for part in _DIRECTIVE.findall(text):
        name, equals, argument = part.strip().partition("=")
        # `max-age=` has an argument that is none, unlike `max-stale`
        found.setdefault(name.lower(), _unquoted(argument) or "?" if equals else "")
    return found


def cache_control(scope: Scope, reading: Reading, policy: Policy) -> str:
    """Freshness and the windows of RFC 5861, as a response says them beside its Age."""
    entry = reading.entry
    assert entry is not None
    fresh = int(entry.fresh)
    if reading.state == "stale":  # it may have been declared so before its time
        fresh = min(fresh, age(reading))
    windows = f"stale-while-revalidate={int(policy.stale)}, stale-if-error={int(policy.stale_if_error)}"
    return f"{scope}, max-age={fresh}, {windows}"


def age(reading: Reading) -> int:
    """Whole seconds since the value was computed."""
    return int(reading.age)


def cache_status(reading: Reading) -> str:
    """How a value came about (RFC 9211)."""
    entry = reading.entry
    assert entry is not None
    if reading.state == "fresh" and reading.via == "computed":
        return "millpond; fwd=miss; stored"
    if reading.state == "fresh" and reading.via == "joined":
        return "millpond; fwd=miss; collapsed"
    left = math.floor(entry.fresh - reading.age)
    if reading.state == "fresh":
        return hit(left)
    detail = "stale-while-revalidate" if reading.error is None else "stale-if-error"
    return f"millpond; hit; ttl={min(0, left)}; detail={detail}"


def hit(left: int) -> str:
    """Of a value that was there and is fresh for so many whole seconds."""
    return f"millpond; hit; ttl={left}"


class NotModified(HttpResponseNotModified):
    """304 for a response, with all its headers that do not describe the body."""

    @classmethod
    def of(cls, response: HttpResponse) -> NotModified:
        made = cls()
        for name, value in response.items():
            if name not in _OF_BODIES:
                made[name] = value
        return made

    def has_header(self, header: Any) -> bool:
        # Django's CommonMiddleware adds a length where there is none.  That of a 304 would have to be the length of
        # the body it stands for (RFC 9110, section 8.6), and not 0.
        return str(header).lower() == "content-length" or super().has_header(header)


def _seconds(argument: str | None) -> float | None:
    if not argument or not argument.isascii() or not argument.isdigit():
        return None
    return min(_EVER, float(argument))


def _unquoted(argument: str) -> str:
    if len(argument) >= 2 and argument[0] == argument[-1] == '"':
        return re.sub(r"\\(.)", r"\1", argument[1:-1])
    return argument
