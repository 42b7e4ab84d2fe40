"""What belongs to one reader is not kept for others, and who waits for such a page does not wait for the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.test import AsyncRequestFactory

from asgi_app.wiring import Node
from tests.support.paged import TOKEN, a_user, browser, runs, shown

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("node")]


def _cookie(_: HttpRequest) -> HttpResponse:
    answer = HttpResponse("a cookie")
    answer.set_cookie("visitor", uuid4().hex)
    return answer


async def _streamed(_: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    return StreamingHttpResponse(parts())


def _refused(_: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def _session_changed(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = 1
    return HttpResponse("visited")


def _message(request: HttpRequest) -> HttpResponse:
    messages.info(request, "saved")
    return HttpResponse(",".join(str(message) for message in messages.get_messages(request)))


def _writes(request: HttpRequest) -> HttpResponse:
    messages.info(request, "saved")
    return HttpResponse("written")


async def _user(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await request.auser()).get_username())


#: What a view does -> whether a private page of it is kept, and whether a public one.
SHOWS: dict[str, tuple[Callable[[HttpRequest], Any], bool, bool]] = {
    "nothing special": (lambda _: HttpResponse("plain"), True, True),
    "a cookie is set": (_cookie, False, False),
    "it is streamed": (_streamed, False, False),
    "no-store": (lambda _: HttpResponse(headers={"Cache-Control": "no-store"}), False, False),
    "private": (lambda _: HttpResponse(headers={"Cache-Control": "private"}), True, False),
    "Vary: *": (lambda _: HttpResponse(headers={"Vary": "*"}), False, False),
    "Vary: Cookie": (lambda _: HttpResponse(headers={"Vary": "Accept, Cookie"}), True, False),
    "Vary: Authorization": (lambda _: HttpResponse(headers={"Vary": "Authorization"}), True, False),
    "a server error": (lambda _: HttpResponse(status=500), False, False),
    "a redirect for now": (lambda _: HttpResponse(status=302, headers={"Location": "/"}), False, False),
    "a redirect for ever": (lambda _: HttpResponse(status=301, headers={"Location": "/"}), True, True),
    "part of it": (lambda _: HttpResponse(status=206), False, False),
    "gone": (lambda _: HttpResponse(status=410), True, True),
    "refused": (_refused, False, False),
    "the session is changed": (_session_changed, False, False),
    "the session is read": (lambda request: HttpResponse(str(request.session.get("visits"))), True, False),
    "a message is shown": (_message, False, False),
    "the user is read": (_user, True, False),
    "a token is made": (lambda request: HttpResponse(get_token(request)), False, False),
}


@pytest.mark.parametrize("what", SHOWS)
@pytest.mark.parametrize("scope", ["private", "public"])
async def test_what_may_be_kept_is(client: httpx.AsyncClient, name: str, what: str, scope: str) -> None:
    """Each thing a response or its view does decides by itself; what is not kept is made anew for every reader."""
    show, kept_privately, kept_publicly = SHOWS[what]
    shown(name, show)
    for number in range(4):
        answer = await client.get(f"/{scope}/{name}")
        # A page that varies by something is made once more, until that is known.
        last = answer.headers.get("cache-status", "") if number > 1 else ""
        client.cookies.clear()
    kept = kept_privately if scope == "private" else kept_publicly
    assert ("hit" in last) is kept, last
    assert runs[name] < 4 if kept else runs[name] == 4


async def test_a_page_that_is_not_there_is_kept(client: httpx.AsyncClient, name: str) -> None:
    """`Http404` is a response as any other, with the page that Django makes of it."""

    def show(_: HttpRequest) -> HttpResponse:
        raise Http404

    shown(name, show)
    answers = [await client.get(f"/public/{name}") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text == answers[1].text
    assert runs[name] == 1


async def test_a_cookie_reaches_its_reader_only(name: str) -> None:
    """Everybody gets the cookie that was made for them, of a page of which nothing is kept."""
    shown(name, _cookie)
    found = []
    for _ in range(3):
        async with browser() as client:
            found.append((await client.get(f"/public/{name}")).cookies["visitor"])
    assert len(set(found)) == 3


async def test_a_changed_session_is_saved(client: httpx.AsyncClient, name: str) -> None:
    """What the view does to the session of the reader it runs for is done as without a cache."""

    async def show(request: HttpRequest) -> HttpResponse:
        visits = await request.session.aget("visits", 0) + 1
        await request.session.aset("visits", visits)
        return HttpResponse(str(visits))

    shown(name, show)
    assert [(await client.get(f"/private/{name}")).text for _ in range(3)] == ["1", "2", "3"]


async def test_a_message_is_shown_once(client: httpx.AsyncClient, name: str) -> None:
    """A page that shows one is its reader's; the page without is kept again."""

    def show(request: HttpRequest) -> HttpResponse:
        return HttpResponse(",".join(str(message) for message in messages.get_messages(request)) or "nothing")

    writer = shown(f"{name}w", _writes)
    shown(name, show)
    await client.post(f"/private/{writer}", headers=TOKEN)
    assert (await client.get(f"/private/{name}")).text == "saved"
    assert (await client.get(f"/private/{name}")).text == "nothing"


async def test_a_private_page_is_one_for_each_session_that_it_reads(name: str) -> None:
    """The same user at two browsers has two sessions, and a view that reads them has two pages."""
    user = await a_user("ann")

    async def show(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(await request.session.aget("theme")))

    shown(name, show)

    async def choose(request: HttpRequest) -> HttpResponse:
        await request.session.aset("theme", request.GET["theme"])
        return HttpResponse("chosen")

    chooser = shown(f"{name}c", choose)
    async with browser(user) as one, browser(user) as other:
        for client, theme in ((one, "dark"), (other, "light")):
            await client.get(f"/private/{chooser}?theme={theme}")
        for _ in range(3):
            assert (await one.get(f"/private/{name}")).text == "dark"
            assert (await other.get(f"/private/{name}")).text == "light"
        before = runs[name]
        await one.get(f"/private/{name}")
        assert runs[name] == before <= 3


async def test_a_token_is_shown_to_who_has_its_cookie(settings: Any, name: str) -> None:
    """A private page with a form is kept for each token; who has none yet gets a page and a cookie of their own."""
    shown(name, lambda request: HttpResponse(get_token(request)))
    async with browser() as one, browser() as other:
        for client in (one, other):
            first = await client.get(f"/private/{name}")
            assert first.cookies[settings.CSRF_COOKIE_NAME]
        for _ in range(2):
            pages = [await client.get(f"/private/{name}") for client in (one, other)]
        assert pages[0].text != pages[1].text
        before = runs[name]
        for client, page in ((one, pages[0]), (other, pages[1])):
            assert (await client.get(f"/private/{name}")).text == page.text
        assert runs[name] == before
        for client, page in ((one, pages[0]), (other, pages[1])):
            accepted = await client.post(f"/private/{name}", headers={"X-CSRFToken": page.text})
            assert accepted.status_code == 200


async def test_pages_that_are_not_kept_do_not_wait_for_each_other(client: httpx.AsyncClient, name: str) -> None:
    """Once it is known that nothing comes of waiting, all run the view for themselves, at once (hit-for-miss)."""
    others = asyncio.Barrier(19)

    async def show(request: HttpRequest) -> HttpResponse:
        if runs[name] > 1:
            async with asyncio.timeout(30):
                await others.wait()  # passes only when all of them are in the view at the same time
        return _cookie(request)

    shown(name, show)
    answers = await asyncio.gather(*(client.get(f"/public/{name}") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert runs[name] == 20
    statuses = sorted(answer.headers["cache-status"] for answer in answers)
    assert statuses == ["millpond; fwd=bypass; detail=not-stored"] * 19 + ["millpond; fwd=miss"]


async def test_why_a_page_is_not_kept_is_said_once(
    client: httpx.AsyncClient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, with its reason; however often it happens."""
    from asgi_app.caching.pages import cached_page

    async def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"Cache-Control": "no-store"})

    page = cached_page(60, public=True)(view)
    with caplog.at_level(logging.WARNING, logger="asgi_app.caching.page_making"):
        for number in range(3):
            await page(AsyncRequestFactory().get(f"/{name}{number}"))
    said = [record.getMessage() for record in caplog.records if record.name == "asgi_app.caching.page_making"]
    assert said == [f"a page of {view.__module__}.{view.__qualname__} is not kept: it says no-store"]


async def test_vary_belongs_to_the_key(client: httpx.AsyncClient, name: str) -> None:
    """Each value of a header that the response names has its page, and so has its absence."""

    def show(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.headers.get("Accept-Language", "none"), headers={"Vary": "Accept-Language"})

    shown(name, show)
    del client.headers["Accept-Encoding"]
    for _ in range(3):
        for said in ("de", "fr", "", None):
            headers = {} if said is None else {"Accept-Language": said}
            assert (await client.get(f"/public/{name}", headers=headers)).text == ("none" if said is None else said)
    assert runs[name] <= 5
    before = runs[name]
    answer = await client.get(f"/public/{name}", headers={"Accept-Language": "fr"})
    assert answer.headers["vary"] == "Accept-Language"
    assert "hit" in answer.headers["cache-status"]
    assert runs[name] == before


async def test_a_user_that_no_session_knows_is_noticed(name: str) -> None:
    """A public page whose view looks at a user whom some other middleware has found is not kept either."""
    from asgi_app.caching.pages import cached_page

    async def view(request: HttpRequest) -> HttpResponse:
        user = (await request.auser()) if request.path.startswith("/a") else request.user
        return HttpResponse(user.get_username())

    page = cached_page(60, public=True)(view)
    for path in (f"/{name}", f"/a{name}"):
        for number in range(2):
            request = AsyncRequestFactory().get(path)
            user = User(username=f"user {number}")
            request.user = user

            async def auser(found: User = user) -> User:
                return found

            request.auser = auser
            answer = await page(request)
            assert isinstance(answer, HttpResponse)
            assert answer.content.decode() == f"user {number}"


async def test_a_run_behind_leaves_its_reader_s_session_alone(name: str) -> None:
    """Who was given the stale page has gone; what the view then does to the session is done to a copy of it."""
    from asgi_app import ainvalidate
    from asgi_app.caching.pages import cached_page

    sessions: list[SessionBase] = []

    async def view(request: HttpRequest) -> HttpResponse:
        sessions.append(request.session)
        return HttpResponse()

    page, own = cached_page(60, tags=(name,))(view), list[SessionBase]()

    async def ask() -> None:
        request = AsyncRequestFactory().get(f"/{name}")
        request.session = SessionStore()
        own.append(request.session)
        await page(request)

    await ask()
    await ainvalidate(name, soft=True)
    async with asyncio.timeout(20):
        while len(sessions) < 2:
            await ask()
            await asyncio.sleep(0.01)
    assert sessions[0] is own[0]
    assert sessions[1] not in own


@pytest.mark.parametrize("said", ["Authorization", "Accept, authorization"])
async def test_a_vary_function_does_not_stand_for_credentials(client: httpx.AsyncClient, name: str, said: str) -> None:
    """What such a view's response says by Vary belongs to the key, the Authorization header too."""
    shown(name, lambda request: HttpResponse(request.headers.get("Authorization"), headers={"Vary": said}))
    for who in ("Basic ann", "Basic bob", "Basic ann", "Basic bob"):
        answer = await client.get(f"/tenant/{name}", headers={"Authorization": who, "Tenant": "a"})
        assert answer.text == who


async def _group(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await request.auser()).get_username())


@pytest.mark.parametrize("show", [_group, lambda request: HttpResponse(request.user.get_username())])
async def test_a_view_with_a_vary_function_that_looks_at_the_user(
    settings: Any, name: str, show: Callable[[HttpRequest], Any]
) -> None:
    """It has a page for each user, although the function has looked at the user before; and it is kept."""
    from django.urls import path

    from asgi_app.caching.pages import cached_page

    async def view(request: HttpRequest) -> Any:
        runs[name] += 1
        found = show(request)
        return await found if asyncio.iscoroutine(found) else found

    page = cached_page(60, vary=lambda request: "staff" if request.user.is_staff else "other")(view)
    settings.ROOT_URLCONF = (path(f"group/{name}", page),)
    users = [await a_user("ann"), await a_user("bob"), None]
    for _ in range(2):
        for user in users:
            async with browser(user) as client:
                for _ in range(3):
                    answer = await client.get(f"/group/{name}")
                    assert answer.text == (user.username if user else "")
                assert "hit" in answer.headers["cache-status"]


async def test_a_user_without_a_session_is_noticed_beside_a_vary_function(name: str) -> None:
    """A user whom some middleware has found in another way than by a session separates pages that show them."""
    from asgi_app.caching.pages import cached_page

    page = cached_page(60, vary=lambda _: "all")(lambda request: HttpResponse(request.user.get_username()))
    for number in (1, 2, 1, 2):
        request = AsyncRequestFactory().get(f"/{name}")
        request.user = User(pk=number, username=f"user {number}")
        answer = await page(request)
        assert isinstance(answer, HttpResponse)
        assert answer.content.decode() == f"user {number}"


async def test_a_public_page_is_made_without_credentials(client: httpx.AsyncClient, name: str) -> None:
    """Its view sees no cookie and no Authorization header of the reader it happens to run for."""
    seen: list[str] = []

    def show(request: HttpRequest) -> HttpResponse:
        who = request.COOKIES.get("who"), request.headers.get("Cookie"), request.headers.get("Authorization")
        seen.append(str(who))
        return HttpResponse(str(who))

    shown(name, show)
    for who in ("ann", "bob"):
        answer = await client.get(f"/public/{name}", headers={"Cookie": f"who={who}", "Authorization": f"Bearer {who}"})
        assert answer.text == "(None, None, None)"
    assert seen == ["(None, None, None)"]


@pytest.mark.parametrize("header", ["Cookie", "Authorization"])
async def test_who_sent_credentials_to_a_public_page_that_is_not_kept(
    client: httpx.AsyncClient, name: str, header: str
) -> None:
    """Gets what the view makes of them, also as the first reader; and so does who is refused without them."""

    def show(request: HttpRequest) -> HttpResponse:
        if header not in request.headers:
            raise PermissionDenied
        return HttpResponse(request.headers[header], headers={"Cache-Control": "no-store"})

    shown(name, show)
    for who in ("who=ann", "who=bob"):
        assert (await client.get(f"/public/{name}", headers={header: who})).text == who
    assert (await client.get(f"/public/{name}")).status_code == 403


@pytest.mark.parametrize("now", ["no-store", "refused", "a cookie is set", "a redirect for now"])
async def test_a_page_that_is_not_kept_any_more_does_not_come_back(
    node: Node, client: httpx.AsyncClient, name: str, now: str
) -> None:
    """Its stale copy is dropped when a refresh makes one that may not be kept; all are told so for a while."""
    from asgi_app import ainvalidate

    shown(name, lambda _: HttpResponse("the old page"))
    await client.get(f"/public/{name}")
    shown(name, SHOWS[now][0])
    await ainvalidate(f"shown.{name}", soft=True)
    async with asyncio.timeout(30):
        while (await client.get(f"/public/{name}")).text == "the old page":
            await asyncio.sleep(0.01)
    keys = await node.store.command("KEYS", node.cache.names.single("@page", "*")[1].replace("{", "\\{"))
    assert keys  # it is remembered
    await node.store.command("UNLINK", *keys)  # and now it is not any more
    assert (await client.get(f"/public/{name}")).text != "the old page"
