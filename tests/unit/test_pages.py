"""A page is declared with options that make sense, and its record says all of its response."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse

from asgi_app.caching.page_reading import _asker
from asgi_app.caching.page_request import Looked
from asgi_app.caching.pages import cached_page
from asgi_app.caching.stored_page import page_of, read, varies_by, why_not, within_bounds
from asgi_app.registry import DeclarationError


async def view(request: object) -> HttpResponse:
    return HttpResponse()


@pytest.mark.parametrize(
    "options",
    [
        {"fresh": -1},
        {"fresh": 1, "stale": "long"},
        {"fresh": 1, "time_limit": 0},
        {"fresh": 1, "tags": "sales"},
        {"fresh": 1, "tags": ("",)},
        {"fresh": 1, "vary": "session"},
        {"fresh": 1, "vary": None},
        {"fresh": 1, "public": "yes"},
        {"fresh": 1, "public": True, "vary": lambda request: "a"},
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    """When the view is decorated, by name."""
    with pytest.raises(DeclarationError, match=r"cached_page of tests\.unit\.test_pages\.view: .+"):
        cached_page(**options)(view)


def test_the_view_stays_known() -> None:
    """By its name, its doc and what other decorators have hung on it."""
    view.csrf_exempt = True  # type: ignore[attr-defined]
    page: Any = cached_page(1)(view)
    assert (page.__name__, page.csrf_exempt) == ("view", True)


@pytest.mark.parametrize("body", ["text with\nlines and ü", "", b"\xff\x00"])
def test_a_response_comes_back(body: str | bytes) -> None:
    """Body, status and headers; not what belongs to one delivery."""
    import msgspec

    sent = HttpResponse(body, status=203, content_type="text/plain; charset=utf-8", headers={"X-A": "ü", "Age": "5"})
    page = read(msgspec.json.encode(page_of(sent)))
    made = page.response()  # type: ignore[union-attr]
    assert (made.content, made.status_code) == (sent.content, 203)
    assert dict(made.items()) == {"Content-Type": "text/plain; charset=utf-8", "X-A": sent["X-A"]}


def test_no_more_than_some_things_split_a_page() -> None:
    """A view that varies by everything has no pages; what it says is not remembered."""
    response = HttpResponse(headers={"Vary": ", ".join(f"X-{n}" for n in range(9))})
    varied = varies_by(response, Looked())
    assert len(varied) == 9
    assert why_not(response, Looked(), varied, public=True) == "it varies by more than 8 things"
    assert within_bounds(frozenset({"x-1"}), varied) == {"x-1"}
    assert within_bounds(frozenset({"x-1"}), frozenset({"*"})) == {"x-1"}
    assert within_bounds(frozenset({"x-1"}), frozenset({"accept"})) == {"x-1", "accept"}


def test_a_quota_is_nobody_s_invention() -> None:
    """Credentials nobody has checked, and what a `vary` function makes of a request, give no quota of their own."""
    said = ("yes", "Basic 1")
    ann, public = ("user", "auth.User", "1"), ("public", "", "")
    assert _asker((*ann, *said)) == _asker((*ann, "no", ""))
    assert _asker((*ann, *said)) != _asker(("user", "auth.User", "2", *said))
    shared = {_asker(owner).user_id for owner in ((), (*public, *said), (*public, "no", ""), ("text", "a"))}
    assert len(shared) == 1
    assert _asker((*ann, *said)).user_id not in shared
