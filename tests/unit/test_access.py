"""Which origins may use a cookie."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from asgi_app import access
from asgi_app.access import origin_allowed, own_origin


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of two names and an address, with one foreign page that may use it."""
    allowed = SimpleNamespace(
        allowed_hosts=("pond.example.org", "localhost", "[::1]", ".wild.example.org", "*"),
        allowed_origins=("https://page.example.org:8443",),
    )
    monkeypatch.setattr(access, "env", lambda: allowed)


def scope(origin: str | None = None, *, host: str | None = "pond.example.org", scheme: str = "https") -> dict[str, Any]:
    headers = [(b"host", host.encode("latin-1"))] if host is not None else []
    headers += [(b"origin", origin.encode("latin-1"))] if origin is not None else []
    return {"type": "http", "scheme": scheme, "headers": headers}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://pond.example.org", True),
        ("https://page.example.org:8443", True),
        ("HTTPS://Pond.Example.ORG", True),
        (None, True),
        ("", True),
        ("http://pond.example.org", False),
        ("https://pond.example.org:8443", False),
        ("https://page.example.org", False),
        ("https://page.example.org:84433", False),
        ("http://page.example.org:8443", False),
        ("https://pond.example.org.evil.org", False),
        ("https://evilpond.example.org", False),
        ("https://evil.pond.example.org", False),
        ("https://pond.example.org@evil.org", False),
        ("https://pond.example.org/", False),
        ("https://evil.org/https://pond.example.org", False),
        ("https://pond.example.org https://evil.org", False),
        ("pond.example.org", False),
        ("null", False),
        ("*", False),
        ("https://pond.example.org.", False),
        ("https://pónd.example.org", False),
    ],
)
def test_an_origin_is_allowed_only_as_a_whole(origin: str | None, allowed: bool) -> None:
    """Scheme, host and port must all be the page's own or a named one's; no Origin is nothing to refuse."""
    assert origin_allowed(scope(origin)) is allowed


@pytest.mark.parametrize(
    ("host", "scheme", "own"),
    [
        ("pond.example.org", "https", "https://pond.example.org"),
        ("pond.example.org", "wss", "https://pond.example.org"),
        ("localhost:8000", "http", "http://localhost:8000"),
        ("localhost:8000", "ws", "http://localhost:8000"),
        ("LocalHost:8000", "http", "http://localhost:8000"),
        ("[::1]:8000", "http", "http://[::1]:8000"),
        ("[::1]", "http", "http://[::1]"),
        ("evil.org", "https", ""),
        ("evil.org:8000", "https", ""),
        ("a.wild.example.org", "https", ""),
        ("pond.example.org.evil.org", "https", ""),
        ("[::2]:8000", "http", ""),
        ("", "http", ""),
        (None, "http", ""),
    ],
)
def test_the_own_origin_is_that_of_an_allowed_host(host: str | None, scheme: str, own: str) -> None:
    """A Host header that names somebody else, as after DNS rebinding, makes no page of the service's own."""
    assert own_origin(scope(host=host, scheme=scheme)) == own


@pytest.mark.parametrize("host", ["evil.org", "evil.org:443", "", None])
def test_a_page_is_not_its_own_by_naming_itself_twice(host: str | None) -> None:
    """An Origin that equals a Host which is not ours is refused."""
    assert not origin_allowed(scope(f"https://{host}", host=host))


def test_the_first_of_two_origins_counts() -> None:
    """A header that was added behind another one allows nothing."""
    twice = scope("https://evil.org")
    twice["headers"].append((b"origin", b"https://pond.example.org"))
    assert not origin_allowed(twice)
