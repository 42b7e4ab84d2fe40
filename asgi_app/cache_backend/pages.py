"""Responses as plain values, so that Django's page cache needs no pickle.

Invariant: what comes back says the same to a browser: status, reason, headers, cookies and content.  Its class is
`HttpResponse` whatever it was, and what templates or tests hung on it is gone, as after pickling.
"""

from __future__ import annotations

from http.cookies import Morsel, SimpleCookie
from typing import Any

from django.http import HttpResponse


def plain(response: HttpResponse) -> list[Any]:
    """A response that is whole (a template response: rendered)."""
    headers = [[name, value] for name, value in response.items()]
    cookies = [
        [name, morsel.value, morsel.coded_value, {key: value for key, value in morsel.items() if value != ""}]
        for name, morsel in response.cookies.items()
    ]
    return [response.content, response.status_code, response.reason_phrase, headers, cookies, response.charset]


def response(stored: list[Any]) -> HttpResponse:
    """What `plain` was given."""
    content, status, reason, headers, cookies, charset = stored
    made = HttpResponse(content, status=status, reason=reason, charset=charset)
    del made.headers["Content-Type"]  # Django's default; a 304 has none
    for name, value in headers:
        made.headers[name] = value
    made.cookies = SimpleCookie()
    for name, value, coded, attributes in cookies:
        morsel: Morsel[str] = Morsel()
        morsel.set(name, value, coded)
        morsel.update(attributes)
        # set past SimpleCookie's own encoding: it is encoded already
        dict.__setitem__(made.cookies, name, morsel)
    return made
