"""Cached pages and HTTP: validators, request directives, stale pages, and the time when the store is away."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
import pytest
from django.http import HttpRequest, HttpResponse

from asgi_app import ainvalidate, wiring
from asgi_app.env import env
from asgi_app.wiring import Node
from tests.support.paged import runs, shown

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("own", [None, '"mine"', 'W/"mine"'])
async def test_who_has_the_page_gets_304(node: Node, client: httpx.AsyncClient, name: str, own: str | None) -> None:
    """A page has a strong tag, unless its view gives it one; the view is not asked to compare."""
    shown(name, lambda _: HttpResponse("text", headers={"ETag": own} if own else {}))
    tag = (await client.get(f"/public/{name}", headers={"If-None-Match": '"other"'})).headers["etag"]
    assert tag == own or (own is None and tag.startswith('"'))
    for method in ("GET", "HEAD"):
        answer = await client.request(method, f"/public/{name}", headers={"If-None-Match": f'"x", {tag}'})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert {"age", "cache-control", "cache-status"} <= set(answer.headers)
        assert {"content-length", "content-type"}.isdisjoint(answer.headers)
    assert runs[name] == 1


async def test_a_condition_of_the_first_reader_is_not_the_page_s(
    node: Node, client: httpx.AsyncClient, name: str
) -> None:
    """The view makes the page for those who have none, whoever has it run."""
    seen: list[dict[str, str]] = []

    def show(request: HttpRequest) -> HttpResponse:
        seen.append(dict(request.headers))
        return HttpResponse(request.method)

    shown(name, show)
    conditions = {"If-None-Match": "*", "If-Modified-Since": "Fri, 31 Dec 2100 23:59:59 GMT", "Range": "bytes=0-1"}
    assert (await client.head(f"/public/{name}", headers=conditions)).status_code == 304
    assert set(conditions).isdisjoint(seen[0])
    answer = await client.get(f"/public/{name}")
    assert (answer.status_code, answer.text) == (200, "GET")


async def test_last_modified_of_the_view_is_a_validator(node: Node, client: httpx.AsyncClient, name: str) -> None:
    """If-Modified-Since is compared with it, where there is no If-None-Match."""
    modified = "Mon, 01 Jan 2024 00:00:00 GMT"
    shown(name, lambda _: HttpResponse(headers={"Last-Modified": modified}))
    get = client.get
    assert (await get(f"/public/{name}", headers={"If-Modified-Since": modified})).status_code == 304
    both = {"If-Modified-Since": modified, "If-None-Match": '"other"'}
    assert (await get(f"/public/{name}", headers=both)).status_code == 200


async def test_head_and_get_are_one_page(node: Node, client: httpx.AsyncClient, name: str) -> None:
    """Either fills it for the other."""
    shown(name, lambda _: HttpResponse("twelve bytes"))
    head = await client.head(f"/public/{name}")
    got = await client.get(f"/public/{name}")
    assert got.text == "twelve bytes"
    assert head.headers["content-length"] == got.headers["content-length"] == "12"
    assert runs[name] == 1


async def test_only_if_cached_runs_no_view(node: Node, client: httpx.AsyncClient, name: str) -> None:
    """504, or what is there; and nobody forces a run."""
    shown(name)
    answer = await client.get(f"/public/{name}", headers={"Cache-Control": "only-if-cached"})
    assert (answer.status_code, answer.json()["type"]) == (504, "not-cached")
    assert runs[name] == 0
    await client.get(f"/public/{name}")
    for said in ("only-if-cached", "no-cache", "max-age=0", "no-store"):
        answer = await client.get(f"/public/{name}", headers={"Cache-Control": said})
        assert answer.headers["cache-status"].startswith("millpond; hit")


async def test_a_stale_page_is_served_at_once(node: Node, client: httpx.AsyncClient, name: str) -> None:
    """While its view runs behind; and no cache behind us takes it for fresh."""
    go_on = asyncio.Event()

    async def show(_: HttpRequest) -> HttpResponse:
        if runs[name] > 1:
            await go_on.wait()
        return HttpResponse(f"run {runs[name]}")

    shown(name, show)
    await client.get(f"/public/{name}")
    await ainvalidate(f"shown.{name}", soft=True)
    for _ in range(2):
        stale = await client.get(f"/public/{name}")
        assert stale.text == "run 1"
        assert stale.headers["cache-status"] == "millpond; hit; ttl=0; detail=stale-while-revalidate"
        total = int(stale.headers["cache-control"].partition("max-age=")[2].partition(",")[0])
        assert total <= int(stale.headers["age"])
    go_on.set()
    async with asyncio.timeout(20):
        while (await client.get(f"/public/{name}")).text == "run 1":
            await asyncio.sleep(0.02)
    assert runs[name] == 2


@pytest.mark.parametrize("said", ["max-age=abc", 'max-age="10"', "public, Max-Age=", "max-age"])
async def test_a_max_age_that_is_no_number_is_not_sent_with_a_stale_page(
    node: Node, client: httpx.AsyncClient, name: str, said: str
) -> None:
    """It cannot be lowered to the age of the page, and is no reason to fail."""
    shown(name, lambda _: HttpResponse("text", headers={"Cache-Control": said}))
    assert (await client.get(f"/public/{name}")).headers["cache-control"] == said
    await ainvalidate(f"shown.{name}", soft=True)
    stale = await client.get(f"/public/{name}")
    assert stale.status_code == 200
    assert "detail=stale-while-revalidate" in stale.headers["cache-status"]
    assert f"max-age={stale.headers['age']}" in stale.headers["cache-control"]
    assert said.rpartition(" ")[2] not in stale.headers["cache-control"].split(", ")


@pytest.mark.parametrize("said", ["no-cache", "must-revalidate", "proxy-revalidate, max-age=9", "s-maxage=60"])
async def test_a_strict_page_is_never_stale(node: Node, client: httpx.AsyncClient, name: str, said: str) -> None:
    """RFC 9111, section 4.2.4: what the view says so of is made again before it is shown; its words are passed on."""
    shown(name, lambda _: HttpResponse(f"run {runs[name]}", headers={"Cache-Control": said}))
    first = await client.get(f"/public/{name}")
    assert first.headers["cache-control"] == said
    assert (await client.get(f"/public/{name}")).text == "run 1"
    await ainvalidate(f"shown.{name}", soft=True)
    assert (await client.get(f"/public/{name}")).text == "run 2"


async def test_a_private_page_stays_private_whatever_its_view_says(
    node: Node, client: httpx.AsyncClient, name: str
) -> None:
    """Whether it is kept or not."""
    shown(name, lambda _: HttpResponse(headers={"Cache-Control": "public, max-age=600"}))
    for _ in range(2):
        said = (await client.get(f"/private/{name}")).headers["cache-control"]
        assert "private" in said
        assert "public" not in said
    shown(f"{name}2", lambda _: HttpResponse(status=500, headers={"Cache-Control": "max-age=600"}))
    assert "private" in (await client.get(f"/private/{name}2")).headers["cache-control"]


async def test_while_the_store_is_away_views_run(client: httpx.AsyncClient, name: str) -> None:
    """As without a cache, and what they show is kept nowhere."""
    shown(name)
    away = msgspec.structs.replace(env(), redis_url="unix:///nowhere/store.sock?db=0")
    await wiring.start_node(away)
    try:
        answers = [await client.get(f"/public/{name}") for _ in range(2)]
    finally:
        await wiring.stop_node()
    assert [answer.text for answer in answers] == ["run 1", "run 2"]
    for answer in answers:
        assert answer.headers["cache-status"] == "millpond; fwd=bypass; detail=store-away"
        assert answer.headers["cache-control"] == "private, no-cache"


async def test_while_the_store_is_away_not_all_run_at_once(client: httpx.AsyncClient, name: str) -> None:
    """The database behind the views is spared: beyond a hundred at once they are told to come again."""
    go_on = asyncio.Event()

    async def show(_: HttpRequest) -> HttpResponse:
        await go_on.wait()
        return HttpResponse()

    shown(name, show)
    away = msgspec.structs.replace(env(), redis_url="unix:///nowhere/store.sock?db=0")
    await wiring.start_node(away)
    try:
        asked = [asyncio.create_task(client.get(f"/public/{name}")) for _ in range(110)]
        async with asyncio.timeout(30):
            while sum(one.done() for one in asked) < 10:
                await asyncio.sleep(0.02)
        go_on.set()
        statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
    finally:
        await wiring.stop_node()
    assert sorted(statuses) == [200] * 100 + [503] * 10
    assert runs[name] == 100
