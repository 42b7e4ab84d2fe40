"""A page as it is stored, and which responses may be (RFC 9111, section 3).

Invariant: a response that is one reader's own (it sets a cookie, hands out a token, shows a message) is never stored,
and one that looked at who asks is never stored for everybody.
"""

from __future__ import annotations

import re

import msgspec
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from asgi_app.caching.page_request import CSRF, SESSION, USER, Looked
from asgi_app.http_caching import directives

#: What a cache may keep of a GET; others that RFC 9110, section 15.1 names are seldom made on purpose.
_STATUSES = frozenset({200, 203, 301, 308, 404, 410})
#: A response that says one of these is not served stale (RFC 9111, section 4.2.4).
_STRICT = frozenset({"no-cache", "must-revalidate", "proxy-revalidate", "s-maxage"})
#: Things one view's pages may vary by; each multiplies their number.
_MOST_DIMENSIONS = 8
_DROPPED = frozenset({"age", "connection", "content-length", "date", "keep-alive", "set-cookie", "transfer-encoding"})


class Page(msgspec.Struct, tag="page", omit_defaults=True):
    """A response."""

    status: int
    headers: list[tuple[str, str]]
    #: The body: as text where it is UTF-8, which compresses better.
    text: str = ""
    data: bytes = b""
    #: Not to be served stale.
    strict: bool = False

    def response(self) -> HttpResponse:
        """The response, with a body and without what belongs to one delivery."""
        made = HttpResponse(self.data or self.text.encode(), status=self.status)
        del made["Content-Type"]  # Django's default
        for name, value in self.headers:
            made[name] = value
        return made


class Varied(msgspec.Struct, tag="varied"):
    """There is no one page under this key: it varies by these."""

    dimensions: list[str]


_decoder: msgspec.json.Decoder[Page | Varied] = msgspec.json.Decoder(Page | Varied)


def read(payload: bytes) -> Page | Varied:
    """What `page_of` or `Varied` was encoded to."""
    return _decoder.decode(payload)


def page_of(response: HttpResponse) -> Page:
    """What is kept of a response for which `why_not` had nothing to say."""
    headers = [(name, value) for name, value in response.items() if name.lower() not in _DROPPED]
    strict = not _STRICT.isdisjoint(directives(response.get("Cache-Control", "")))
    page = Page(status=response.status_code, headers=headers, strict=strict)
    try:
        page.text = response.content.decode()
    except UnicodeDecodeError:
        page.data = response.content
    return page


def readable(cache_control: str) -> str:
    """A Cache-Control without a max-age that is no number, which Django could not lower."""
    said = [(part, *part.partition("=")) for part in re.split(r"\s*,\s*", cache_control)]
    return ", ".join(
        part
        for part, name, _, argument in said
        if name.lower() != "max-age" or (argument.isascii() and argument.isdigit())
    )


def why_not(response: HttpResponseBase, looked: Looked, dimensions: frozenset[str], *, public: bool) -> str:
    """Why a response is not stored, as the end of a sentence; "" when it may be."""
    said = directives(response.get("Cache-Control", ""))
    reasons = {
        "it is streamed": response.streaming,
        f"its status is {response.status_code}": response.status_code not in _STATUSES,
        "it sets a cookie": bool(response.cookies) or response.has_header("Set-Cookie"),
        "it says no-store": "no-store" in said,
        "it says Vary: *": "*" in dimensions,
        f"it varies by more than {_MOST_DIMENSIONS} things": len(dimensions) > _MOST_DIMENSIONS,
        "it changes the session": looked.session_changed,
        "it shows messages": looked.messages,
        "it hands out a CSRF token to who has none": looked.token and not looked.has_token,
    }
    if public:
        reasons |= {
            "it says private, and is declared public": "private" in said,
            "it reads the user, and is declared public": looked.user,
            "it reads the session, and is declared public": looked.session,
            "it holds a CSRF token, and is declared public": looked.token,
            "it varies by who asks, and is declared public": not _WHO.isdisjoint(dimensions),
        }
    return next((reason for reason, holds in reasons.items() if holds), "")


def within_bounds(before: frozenset[str], more: frozenset[str]) -> frozenset[str]:
    """What is known of the things a page varies by, and more; as before when that is none of any use."""
    found = before | more
    return before if "*" in more or len(found) > _MOST_DIMENSIONS else found


#: Headers that say who asks.
_WHO = frozenset({"authorization", "cookie"})


def varies_by(response: HttpResponseBase, looked: Looked) -> frozenset[str]:
    """What a response depends on beside what every key holds: headers in lower case, and `SESSION`, `CSRF`, `USER`."""
    named = {name for name in re.split(r"\s*,\s*", response.get("Vary", "").strip().lower()) if name}
    looks = {SESSION: looked.session, CSRF: looked.token, USER: looked.user}
    return frozenset(named | {name for name, done in looks.items() if done})
