"""What the front before Django answers is, byte for byte and header for header, what the view would have answered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta, structs

from asgi_app import access
from asgi_app.access import create_token
from asgi_app.hot import Hot
from asgi_app.models import ApiToken
from asgi_app.registry import Principal, Registry, registry, resource
from asgi_app.wiring import Node
from cache_layer.cache import Found
from cache_layer.keys import Key
from tests.support.declared_keys import key_of
from tests.support.paged import a_node
from tests.support.processes import fill
from tests.support.store import StoreServer
from tests.support.watcher import eventually

BASE = "/api/v1/resources/"
Messages = list[dict[str, Any]]


@pytest.fixture
def declared() -> Any:
    """One resource of each kind of access."""
    with registry.isolated() as made:

        @resource("t.open", fresh=600)
        def everybody(n: Annotated[int, Meta(ge=0, le=9)] = 1, text: str = "é") -> int:
            return n

        @resource("t.members", fresh=600, access="login")
        def members() -> int:
            return 1

        @resource("t.allowed", fresh=600, access="auth.view_user")
        def allowed() -> int:
            return 1

        @resource("t.judged", fresh=600, access=lambda principal, params: True)
        def judged() -> int:
            return 1

        @resource("t.own", fresh=600, access="login", vary="user")
        def own(*, principal: Principal) -> str:
            return principal.username

        @resource("t.tagged", fresh=600, tags=lambda params: ("a",))
        def tagged() -> int:
            return 1

        yield made


@pytest.fixture
async def node(store_server: StoreServer) -> AsyncIterator[Node]:
    async with a_node() as made:
        assert made.near is not None
        await eventually(lambda: made.near and made.near.open, "copies are given out")
        yield made


def scope_of(
    path: str,
    query: bytes = b"",
    method: str = "GET",
    scheme: str = "http",
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers) or [(b"host", b"localhost")],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 5000),
    }


def stays() -> Any:
    """The `receive` of a client that sends no body and does not leave."""
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        found = next(asked, None)
        if found is None:
            await asyncio.sleep(60)
        assert found is not None
        return found

    return receive


async def of_view(scope: dict[str, Any]) -> Messages:
    """What Django answers."""
    from asgi_app.asgi import _pages

    said: Messages = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await _pages(dict(scope), stays(), send)
    return said


async def of_front(front: Hot, scope: dict[str, Any]) -> Messages | None:
    """What the front answers, None where it leaves it to Django."""
    said: Messages = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    answered = await front.answer(dict(scope), stays(), send) is None
    assert answered == bool(said)
    return said if answered else None


async def agree(front: Hot, scope: dict[str, Any]) -> bool:
    """Whether the front answers; if so, as the view, which is asked before and after: seconds may go by."""
    before = await of_view(scope)
    answer = await of_front(front, scope)
    if answer is None:
        return False
    after = await of_view(scope)
    assert ageless(answer)[:2] in (ageless(before)[:2], ageless(after)[:2])
    # A copy's age is reckoned by the clock here, that of what is looked up by the store's: milliseconds apart.
    assert ageless(before)[2] - 1 <= ageless(answer)[2] <= ageless(after)[2] + 1
    return True


def ageless(answer: Messages) -> tuple[Messages, bytes, float]:
    """An answer without what each second changes; what it says of how it came about but for that; and its age."""
    start, *rest = answer
    said = [(name.lower(), value) for name, value in start["headers"]]
    names = [name for name, _ in said]
    age, status = dict(said).get(b"age", b"0"), dict(said).get(b"cache-status", b"")
    kept = [(name, b"" if name in (b"age", b"cache-status") else value) for name, value in start["headers"]]
    assert names.count(b"age") <= 1
    return [{**start, "headers": kept}, *rest], re.sub(rb"ttl=-?\d+", b"ttl=", status), float(age)


async def value(node: Node, name: str, principal: Principal | None = None, **params: Any) -> None:
    key = key_of(name, principal, **params)
    await node.store.command("DEL", node.cache.names.lease(key))  # somebody may have asked for a younger one
    await fill(node.cache, key, b'{"a":"\xc3\xa9"}')


HOSTS = st.sampled_from([b"localhost", b"localhost:8000", b"LOCALHOST", b"evil.example", b"", b"localhost/x", b"[::1]"])
ETAGS = st.sampled_from([b"*", b'"x"', b'W/"x"', b"", b'"a", "b"', b"nonsense", b"@", b'W/@, "b"'])
COOKIES = [
    b"a=b",
    b"sessionid=nobody",
    b";",
    b"sessionid=" + b"a" * 32,
    b"csrftoken=x; sessionid=" + b"b" * 32 + b"; c=d",
    b"csrftoken=" + b"Ab1" * 10 + b"xy; sessionid=" + b"b" * 32,
    b"csrftoken=" + b"a" * 64,
    b"csrftoken=" + b"a" * 33,
    b"csrftoken=" + b"a" * 32 + b"; csrftoken=x",
    b"csrftoken=",
    b"sessionid=x; sessionid=" + b"a" * 32,
    b"sessionid=" + b"a" * 32 + b"; sessionid=x",
    b'sessionid="' + b"a" * 32 + b'"',
    b"sessionidx=1",
    b"messages=x",
]
HEADERS = st.lists(
    st.one_of(
        st.tuples(st.just(b"host"), HOSTS),
        st.tuples(st.just(b"if-none-match"), ETAGS),
        st.tuples(
            st.just(b"cache-control"),
            st.sampled_from(
                [b"no-cache", b"max-age=0", b"max-age=1", b"only-if-cached", b"min-fresh=9999", b"x", b'="']
            ),
        ),
        st.tuples(
            st.just(b"accept"), st.sampled_from([b"*/*", b"application/json", b"text/event-stream", b"text/html"])
        ),
        st.tuples(st.just(b"prefer"), st.sampled_from([b"wait=1", b"respond-async", b"x"])),
        st.tuples(st.just(b"cookie"), st.sampled_from(COOKIES)),
        st.tuples(st.just(b"authorization"), st.sampled_from([b"Bearer x", b"Basic eDp5", b"", b"Bearer TOKEN"])),
        st.tuples(st.just(b"origin"), st.sampled_from([b"http://localhost", b"http://evil.example", b"null"])),
        st.tuples(st.just(b"content-length"), st.just(b"0")),
        st.tuples(
            st.sampled_from([b"x-forwarded-host", b"x-forwarded-proto", b"x-http-method-override", b"range"]), HOSTS
        ),
        st.tuples(st.sampled_from([b"user-agent", b"accept-encoding", b"x-own"]), st.binary(max_size=8)),
    ),
    max_size=5,
)
PATHS = st.one_of(
    st.sampled_from([f"{BASE}t.{name}" for name in ("open", "members", "allowed", "judged", "own", "tagged")]),
    st.sampled_from(
        ["/", BASE, f"{BASE}t.open/", f"{BASE}t.none", f"{BASE}T.open", "/api/v1/resources", f"{BASE}t.open/refresh"]
    ),
)
QUERIES = st.sampled_from(
    [
        b"",
        b"n=1",
        b"n=2",
        b"n=10",
        b"n=1&n=1",
        b"x=1",
        b"n=%31",
        b"text=%C3%A9",
        b"text=e%CC%81",
        b"n=1&",
        b"\xff=1",
        b"n",
    ]
)


@pytest.mark.django_db(transaction=True)
async def test_front_and_view_agree(node: Node, declared: Registry) -> None:
    """Over every kind of path, query, method and header; and not by answering nothing."""
    user = await sync_to_async(User.objects.create_user)("ann")
    await user.user_permissions.aadd(await Permission.objects.aget(codename="view_user"))
    token = (await sync_to_async(create_token)("ann", None, ("read",))).encode()
    ann = await access.authenticate(scope_of("/", headers=[(b"authorization", b"Bearer " + token)]))
    for name in ("open", "members", "allowed", "judged", "tagged"):
        await value(node, f"t.{name}")
    await value(node, "t.open", n=2)
    await value(node, "t.own", ann)
    front, loop = Hot(), asyncio.get_running_loop()
    answered: set[str] = set()

    async def one(path: str, query: bytes, method: str, scheme: str, headers: list[tuple[bytes, bytes]]) -> None:
        sent = [(name, said.replace(b"TOKEN", token)) for name, said in headers]
        if not any(name == b"host" for name, _ in sent) and len(sent) % 4:
            sent.append((b"host", b"localhost"))
        if await agree(front, scope_of(path, query, method, scheme, sent)):
            answered.add(path)

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        PATHS,
        QUERIES,
        st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"]),
        st.sampled_from(["http", "https"]),
        HEADERS,
    )
    def many(path: str, query: bytes, method: str, scheme: str, headers: list[tuple[bytes, bytes]]) -> None:
        asyncio.run_coroutine_threadsafe(one(path, query, method, scheme, headers), loop).result(30)

    await asyncio.to_thread(many)
    host, bearer = (b"host", b"localhost"), (b"authorization", b"Bearer " + token)
    for path, headers in (
        *(("t.open", [host, (b"cookie", cookie)]) for cookie in (COOKIES[0], *COOKIES[5:7])),
        ("t.open", [host]),
        ("t.members", [host, bearer]),
        ("t.allowed", [host, bearer]),
        ("t.own", [host, bearer]),
    ):
        assert await agree(front, scope_of(BASE + path, headers=headers)), path
    assert f"{BASE}t.open" in answered
    assert not answered & {f"{BASE}t.judged", f"{BASE}t.tagged"}


@pytest.mark.django_db(transaction=True)
async def test_a_client_that_holds_the_value_gets_no_body(node: Node, declared: Registry) -> None:
    """However it spells what it holds."""
    await value(node, "t.open")
    front = Hot()
    answer = await of_front(front, scope_of(f"{BASE}t.open"))
    assert answer is not None
    etag = dict(answer[0]["headers"])[b"ETag"]
    for spelt in (etag, b"W/" + etag, b'"x", ' + etag, b"*"):
        scope = scope_of(f"{BASE}t.open", headers=[(b"host", b"localhost"), (b"if-none-match", spelt)])
        assert await agree(front, scope)
        unchanged = await of_front(front, scope)
        assert unchanged is not None
        assert (unchanged[0]["status"], unchanged[1]["body"]) == (304, b"")


@pytest.mark.django_db(transaction=True)
async def test_an_answer_that_is_sent_again_is_older(
    node: Node, declared: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By as many seconds as have gone, in Age and in what is left."""
    await value(node, "t.open")
    front, seen, at_hand = Hot(), set(), node.cache.at_hand
    assert await agree(front, scope_of(f"{BASE}t.open"))
    for seconds in (0.0, 3.4, 3.6, 40.0, 7.0):

        def older(key: Key, seconds: float = seconds) -> Found | None:
            found = at_hand(key)
            return found and structs.replace(found, age=found.age + seconds)

        monkeypatch.setattr(node.cache, "at_hand", older)
        assert await agree(front, scope_of(f"{BASE}t.open"))
        answer = await of_front(front, scope_of(f"{BASE}t.open"))
        assert answer is not None
        seen.add(dict(answer[0]["headers"])[b"Age"])
    assert len(seen) >= 4


@pytest.mark.django_db(transaction=True)
async def test_a_token_that_is_gone_opens_nothing(node: Node, declared: Registry) -> None:
    """What is remembered of it counts for two seconds, and not at all once somebody says that rights changed."""
    await sync_to_async(User.objects.create_user)("ann")
    token = await sync_to_async(create_token)("ann", None, ("read",))
    await value(node, "t.members")
    scope = scope_of(
        f"{BASE}t.members", headers=[(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())]
    )
    front = Hot()
    assert await of_front(front, scope) is None
    await of_view(scope)
    assert await of_front(front, scope) is not None
    await ApiToken.objects.all().adelete()
    access.forget_tokens()
    assert await of_front(front, scope) is None
    assert (await of_view(scope))[0]["status"] == 401


@pytest.mark.django_db(transaction=True)
async def test_what_is_invalidated_is_not_shown(node: Node, declared: Registry) -> None:
    """Nobody is there to compute it anew: that is for Django to say."""
    await value(node, "t.open")
    front = Hot()
    assert await of_front(front, scope_of(f"{BASE}t.open")) is not None
    await node.store.command("DEL", node.cache.names.everything())
    await eventually(lambda: node.near is not None, "it hears")

    async def gone() -> bool:
        return await of_front(front, scope_of(f"{BASE}t.open")) is None

    for _ in range(100):
        if await gone():
            break
        await asyncio.sleep(0.02)
    assert await gone()


async def test_what_is_remembered_is_bounded(node: Node, declared: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for many things, from many hosts."""
    monkeypatch.setattr("asgi_app.hot._DOORS", 5)
    monkeypatch.setattr("asgi_app.hot._FEW", 5)
    front, at_once = Hot(), (b"prefer", b"respond-async")
    for n in range(100):
        host = b"%d.localhost" % n
        await of_front(front, scope_of(f"{BASE}t.open", b"text=%d" % n, headers=[(b"host", b"localhost"), at_once]))
        await of_front(
            front,
            scope_of(
                f"{BASE}t.open",
                headers=[(b"host", host), (b"prefer", b"respond-async, x=%d" % n), (b"cache-control", b"x=%d" % n)],
            ),
        )
    await of_front(front, scope_of(f"{BASE}t.open", b"text=" + b"x" * 5000, headers=[(b"host", b"localhost"), at_once]))
    assert max(len(front._hosts), len(front._plain), len(front._preferred)) <= 5
    assert 0 < len(front._doors) <= 10
    doors: Any = front._doors
    assert all(len(query) <= 1000 for _, query, _ in doors)
