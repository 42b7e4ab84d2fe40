"""Who asks, with what rights, and which origins may use a cookie."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.test import AsyncRequestFactory

from asgi_app import access, tokens
from asgi_app.access import Identity, bearer_token, origin_allowed, own_origin
from asgi_app.errors import Unauthenticated, Unavailable
from asgi_app.registry import Principal
from asgi_app.views import connection


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of two names and an address, with one foreign page that may use it."""
    allowed = SimpleNamespace(
        allowed_hosts=("pond.example.org", "localhost", "[::1]", ".wild.example.org"),
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
        ("a.wild.example.org", "https", "https://a.wild.example.org"),
        ("wild.example.org:8443", "https", "https://wild.example.org:8443"),
        ("evilwild.example.org", "https", ""),
        ("a.wild.example.org.evil.org", "https", ""),
        ("pond.example.org.evil.org", "https", ""),
        ("[::2]:8000", "http", ""),
        ("", "http", ""),
        (None, "http", ""),
    ],
)
def test_the_own_origin_is_that_of_an_allowed_host(host: str | None, scheme: str, own: str) -> None:
    """A Host header that names somebody else, as after DNS rebinding, makes no page of the service's own."""
    assert own_origin(scope(host=host, scheme=scheme)) == own


def test_where_any_host_is_allowed_each_is_its_own_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """`*`, as in a development behind changing names; what is no host at all stays none."""
    monkeypatch.setattr(access, "env", lambda: SimpleNamespace(allowed_hosts=("*",), allowed_origins=()))
    assert origin_allowed(scope("https://any.example.net:8443", host="any.example.net:8443"))
    assert not origin_allowed(scope("https://other.example.net", host="any.example.net"))
    assert [own_origin(scope(host=host)) for host in ("", None, "a b", "x/y", "@")] == [""] * 5


@pytest.mark.parametrize("host", ["evil.org", "evil.org:443", "", None])
def test_a_page_is_not_its_own_by_naming_itself_twice(host: str | None) -> None:
    """An Origin that equals a Host which is not ours is refused."""
    assert not origin_allowed(scope(f"https://{host}", host=host))


def test_the_first_of_two_origins_counts() -> None:
    """A header that was added behind another one allows nothing."""
    twice = scope("https://evil.org")
    twice["headers"].append((b"origin", b"https://pond.example.org"))
    assert not origin_allowed(twice)


class Users:
    """The user model of a database with two users.  Like a primary key of numbers it reads " 1" and "１" as 1."""

    active = SimpleNamespace(pk=1, is_active=True, is_staff=True, get_username=lambda: "ada")
    deactivated = SimpleNamespace(pk=2, is_active=False, is_staff=True, get_username=lambda: "gone")

    def __init__(self) -> None:
        self._default_manager = self

    def filter(self, *, pk: str) -> Users:
        self.found = {1: self.active, 2: self.deactivated}.get(int(pk))
        return self

    async def afirst(self) -> Any:
        return self.found


@pytest.mark.parametrize(
    ("sub", "username"), [("1", "ada"), (" 1", " 1"), ("１", "１"), ("01", "01"), ("+1", "+1"), ("3", "3"), ("x", "x")]
)
async def test_a_sub_is_one_of_our_users_only_as_it_is_written(
    sub: str, username: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else mints tokens names users of their own; theirs have no rights here."""
    monkeypatch.setattr(access, "get_user_model", Users)
    principal = await access.principal_of(sub)
    assert (principal.user_id, principal.username) == (sub, username)
    assert ("run" in principal.scopes) is (username == "ada")


async def test_a_deactivated_user_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that outlives its user's right to log in opens nothing."""
    monkeypatch.setattr(access, "get_user_model", Users)
    with pytest.raises(Unauthenticated):
        await access.principal_of("2")


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer mp_x", "mp_x"), ("bearer  mp_x ", "mp_x"), ("Bearer ", ""), ("Basic Zm9v", None), ("Bearermp_x", None)],
)
def test_a_bearer_token_is_what_stands_behind_the_word(header: str, token: str | None) -> None:
    """Any other Authorization is none."""
    assert bearer_token({"headers": [(b"authorization", header.encode())]}) == token


def minted(response: Any) -> tokens.Claims:
    return tokens.verify_connection(json.loads(response.content)["token"])


@pytest.mark.parametrize(("left", "life"), [(None, 600), (3600.0, 600), (60.0, 60)])
async def test_a_connection_token_is_no_more_than_what_it_was_asked_with(
    left: float | None, life: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scopes of an API token go into it, and its end is the end of both."""
    asker = Principal(
        user_id="1", username="ada", scopes=frozenset({"read"}), is_anonymous=False, permissions=frozenset({"a.b"})
    )

    async def identify(scope: Any) -> Identity:
        return Identity(principal=asker, expires_at=None if left is None else time.time() + left, token="t")

    monkeypatch.setattr(access, "identify", identify)
    request = AsyncRequestFactory().post("/api/v1/connection/token", headers={"authorization": "Bearer mp_x"})
    claims = minted(await connection.token(request))
    assert (claims.sub, claims.scopes) == ("1", asker.scopes)
    assert claims.expires_in(time.time()) == pytest.approx(life, abs=2)


@pytest.mark.parametrize(("authorization", "status"), [("", 403), ("Basic Zm9v", 403), ("Bearer mp_x", 200)])
async def test_only_a_bearer_token_stands_for_the_csrf_token(
    authorization: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers add other kinds of Authorization by themselves, and the cookie would count behind them."""

    async def identify(scope: Any) -> Identity:
        return Identity(
            principal=Principal(
                user_id="1", username="ada", scopes=frozenset(), is_anonymous=False, permissions=frozenset()
            )
        )

    monkeypatch.setattr(access, "identify", identify)
    headers = {"cookie": "sessionid=x"} | ({"authorization": authorization} if authorization else {})
    request = AsyncRequestFactory().post("/api/v1/connection/token", headers=headers)
    assert (await connection.token(request)).status_code == status


async def test_a_query_that_hangs_holds_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it may give up at once, and when too many hang nobody is queued behind them."""
    monkeypatch.setattr(access, "close_old_connections", lambda: None)
    answer = threading.Event()

    async def query() -> str:
        await sync_to_async(answer.wait)(5)
        return "found"

    monkeypatch.setattr(access, "_UNANSWERED", 1)
    waiting = asyncio.create_task(access.with_database(query))
    await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await access.with_database(query)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not answer.is_set()
    answer.set()
    while access._behind:
        await asyncio.sleep(0.01)
    assert await access.with_database(query) == "found"


async def test_a_token_that_cannot_be_looked_up_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away: that says nothing about the token."""

    async def away(digest: str) -> Identity:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(access, "_token_identity", away)
    await access.confirm(Identity(principal=Principal.public()))
    with pytest.raises(Unavailable):
        await access.confirm(Identity(principal=Principal.public(), token="t"))
