"""A cached page is made once for all who may see it, and for nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from tests.support.paged import TOKEN, a_user, browser, gone_reader, runs, shown

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("node")]


async def test_a_page_is_made_once(client: httpx.AsyncClient, name: str) -> None:
    """The second reader gets the same bytes, status and headers, and is told how old they are."""
    show = HttpResponse("{}", status=203, content_type="application/vnd.sales+json", headers={"X-Sales": "ü"})
    shown(name, lambda _: show)
    first, second = [await client.get(f"/public/{name}") for _ in range(2)]
    for answer in (first, second):
        assert (answer.status_code, answer.text) == (203, "{}")
        assert answer.headers["content-type"] == "application/vnd.sales+json"
        assert answer.headers["x-sales"] == first.headers["x-sales"]
        assert answer.headers["content-length"] == "2"
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["cache-status"] == "millpond; fwd=miss; stored"
    assert second.headers["cache-status"].startswith("millpond; hit; ttl=")
    assert second.headers["age"] == "0"
    assert runs[name] == 1


async def test_two_users_never_see_each_other_s_page(name: str) -> None:
    """The key of a private page holds who is logged in; the public's page is nobody's in particular."""

    async def show(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"page of {(await request.auser()).get_username() or 'nobody'}")

    shown(name, show)
    users = [await a_user("ann"), await a_user("bob"), None]
    for _ in range(2):
        for user in users:
            async with browser(user) as client:
                answer = await client.get(f"/private/{name}")
                assert answer.text == f"page of {user.username if user else 'nobody'}"
                assert "private" in answer.headers["cache-control"]
                assert "public" not in answer.headers["cache-control"]
                assert {"authorization", "cookie"} <= set(answer.headers["vary"].lower().split(", "))
    assert runs[name] == 3


async def test_what_only_the_view_can_read_separates_pages(client: httpx.AsyncClient, name: str) -> None:
    """An Authorization header that Django does not know belongs to the key of a private page."""
    shown(name, lambda request: HttpResponse(request.headers.get("Authorization", "none")))
    for said in ("Basic YW5u", "Basic Ym9i", None, "Basic YW5u"):
        headers = {} if said is None else {"Authorization": said}
        assert (await client.get(f"/private/{name}", headers=headers)).text == (said or "none")
    assert runs[name] == 3


async def test_two_hundred_at_once_are_one_run(client: httpx.AsyncClient, name: str) -> None:
    """Readers of a cold page wait for the one run of its view."""
    everybody_is_there = asyncio.Event()

    async def show(_: HttpRequest) -> HttpResponse:
        await everybody_is_there.wait()
        return HttpResponse("made once")

    shown(name, show)
    readers = []
    for _ in range(200):
        readers.append(asyncio.create_task(client.get(f"/public/{name}")))
        await asyncio.sleep(0.005)  # they share one loop with the service: all at once it would seem to be away
    await asyncio.sleep(0.2)
    everybody_is_there.set()
    answers = await asyncio.gather(*readers)
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, "made once")}
    assert {answer.headers["cache-status"] for answer in answers} <= {
        "millpond; fwd=miss; stored",
        "millpond; fwd=miss; collapsed",
    }
    assert runs[name] == 1


async def test_a_reader_that_goes_leaves_the_view_running(client: httpx.AsyncClient, name: str) -> None:
    """The run belongs to the page and not to the request that began it."""
    go_on = asyncio.Event()

    async def show(_: HttpRequest) -> HttpResponse:
        await go_on.wait()
        return HttpResponse("made once")

    shown(name, show)
    async with gone_reader(f"/public/{name}"):
        while runs[name] == 0:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(client.get(f"/public/{name}"))
    await asyncio.sleep(0.1)
    go_on.set()
    assert (await second).text == "made once"
    assert runs[name] == 1


async def test_the_uri_is_the_key(client: httpx.AsyncClient, name: str) -> None:
    """Query as it was sent, host and scheme all tell pages apart."""
    shown(name, lambda request: HttpResponse(request.build_absolute_uri()))
    uris = [
        f"http://localhost/public/{name}",
        f"http://localhost/public/{name}?a=1&b=2",
        f"http://localhost/public/{name}?b=2&a=1",
        f"http://elsewhere/public/{name}",
    ]
    for uri in uris * 2:
        assert (await client.get(uri)).text == uri
    assert runs[name] == len(uris)


async def test_language_and_time_zone_belong_to_the_key(name: str) -> None:
    """A page is made, and found again, under the language and the zone of its reader."""
    from django.utils import timezone, translation

    from asgi_app.caching.pages import cached_page

    async def view(request: HttpRequest) -> HttpResponse:
        runs[name] += 1
        return HttpResponse(f"{translation.get_language()} {timezone.get_current_timezone_name()}")

    page, runs[name] = cached_page(60, public=True)(view), 0
    from django.test import AsyncRequestFactory

    for _ in range(2):
        for language, zone in (("de", "UTC"), ("fr", "UTC"), ("fr", "Asia/Tokyo")):
            with translation.override(language), timezone.override(zone):
                answer = await page(AsyncRequestFactory().get(f"/{name}"))
            assert isinstance(answer, HttpResponse)
            assert answer.content.decode() == f"{language} {zone}"
    assert runs[name] == 3


async def test_a_sync_view_is_kept_too(name: str) -> None:
    """It runs in a thread, where it may use the database, and leaves no connection behind."""
    shown(name, lambda request: HttpResponse(f"{User.objects.count()} {request.user.get_username()}"))
    user = await a_user("ann")
    async with browser(user) as client:
        answers = [await client.get(f"/sync/{name}") for _ in range(2)]
    assert [answer.text for answer in answers] == ["1 ann", "1 ann"]
    assert runs[name] == 1


async def test_a_template_response_is_rendered_once(client: httpx.AsyncClient, name: str) -> None:
    """What is kept is the page and not the recipe."""
    from django.template import engines
    from django.template.response import SimpleTemplateResponse

    template: Any = engines["django"].from_string("rendered {{ run }}")
    shown(name, lambda _: SimpleTemplateResponse(template, {"run": runs[name]}))
    for path in ("public", "sync"):
        first, second = [await client.get(f"/{path}/{name}") for _ in range(2)]
        assert first.text == second.text
        assert first.text.startswith("rendered ")


async def test_vary_may_be_a_function(client: httpx.AsyncClient, name: str) -> None:
    """What it says of the request takes the place of the user."""
    shown(name, lambda request: HttpResponse(request.headers["Tenant"]))
    for tenant in ("a", "b", "a"):
        answer = await client.get(f"/tenant/{name}", headers={"Tenant": tenant})
        assert answer.text == tenant
        assert answer.headers["cache-control"].startswith(("private", "max-age"))
        assert "private" in answer.headers["cache-control"]
    assert runs[name] == 2


async def test_a_tag_outdates_a_page(client: httpx.AsyncClient, name: str) -> None:
    """Invalidated, it is made again at once."""
    from asgi_app import ainvalidate

    shown(name)
    assert (await client.get(f"/public/{name}")).text == "run 1"
    await ainvalidate(f"shown.{name}")
    assert (await client.get(f"/public/{name}")).text == "run 2"


@pytest.mark.parametrize(("status", "outdates"), [(200, True), (302, True), (400, False), (500, False)])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_successful_change_outdates_the_pages_of_its_path(
    client: httpx.AsyncClient, name: str, method: str, status: int, outdates: bool
) -> None:
    """RFC 9111, section 4.4: whatever the query, and no other path."""

    def show(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"run {runs[name]}", status=200 if request.method == "GET" else status)

    shown(name, show)
    other = shown(f"{name}2")
    for path in (name, f"{name}?page=2", other):
        await client.get(f"/public/{path}")
    changed = await client.request(method, f"/public/{name}", headers=TOKEN)
    assert changed.headers["cache-status"] == "millpond; fwd=method"
    again = {path: (await client.get(f"/public/{path}")).text for path in (name, f"{name}?page=2", other)}
    assert again[other] == "run 1"
    assert (again[name], again[f"{name}?page=2"]) == (("run 4", "run 5") if outdates else ("run 1", "run 2"))


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
async def test_other_safe_methods_pass(client: httpx.AsyncClient, name: str, method: str) -> None:
    """They are the view's, and outdate nothing."""
    shown(name)
    await client.get(f"/public/{name}")
    assert (await client.request(method, f"/public/{name}")).text == "run 2"
    assert (await client.get(f"/public/{name}")).text == "run 1"


async def test_a_failing_view_is_served_from_before(client: httpx.AsyncClient, name: str) -> None:
    """Within stale-if-error the page of before takes its place; without one the error is what it is without a cache."""
    from asgi_app import ainvalidate

    def show(_: HttpRequest) -> HttpResponse:
        if runs[name] == 1:
            return HttpResponse("well")
        raise RuntimeError("not well")

    shown(name, show)
    await client.get(f"/public/{name}")
    await ainvalidate(f"shown.{name}", soft=True)
    async with asyncio.timeout(20):
        while "stale-if-error" not in (answer := await client.get(f"/public/{name}")).headers["cache-status"]:
            await asyncio.sleep(0.05)
    assert (answer.status_code, answer.text) == (200, "well")
    assert runs[name] == 2
    await ainvalidate(f"shown.{name}")
    answers = [await client.get(f"/public/{name}") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {500}


async def test_a_view_that_takes_too_long_is_ended(client: httpx.AsyncClient, name: str) -> None:
    """Its time limit is that of the page: nobody waits for ever."""

    async def show(_: HttpRequest) -> HttpResponse:
        await asyncio.Event().wait()
        raise AssertionError

    shown(name, show)
    assert (await client.get(f"/quick/{name}")).status_code == 500
    assert runs[name] == 1
