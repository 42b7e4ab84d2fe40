"""The fallbacks of the stock JavaScript client, byte by byte: what a stream says, and what is answered to a POST."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import httpx
import jwt
import pytest

from tests.support.emulated import Client
from tests.support.service import Service

DOORS = ("sse", "sse by post", "http_stream")
READ = {"id": 2, "rpc": {"method": "read", "data": {"topic": "test.here?name=a"}}}
FOREIGN = "http://elsewhere.example"


def subscribe(topic: str, number: int = 2) -> dict[str, object]:
    return {"id": number, "subscribe": {"channel": topic}}


def signed(service: Service, **claims: object) -> str:
    """A connection token, as a back end of one's own makes it."""
    code = "from asgi_app.env import env; print(env().token_secret)"
    secret = service.command("shell", "-c", code).strip().splitlines()[-1]
    return jwt.encode(dict(claims), secret, algorithm="HS256")


def said(code: int, reason: str) -> dict[str, object]:
    return {"push": {"disconnect": {"code": code, "reason": reason}}}


@pytest.mark.parametrize("door", DOORS)
async def test_a_stream_is_what_the_client_takes(service: Service, door: str) -> None:
    """Connected at once, with what its POSTs are addressed by; no buffer on the way holds it up."""
    async with Client(service.url) as client, client.opens(door) as stream:
        headers = stream.response.headers
        assert headers["content-type"] == ("application/x-ndjson" if door == "http_stream" else "text/event-stream")
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        result = await stream.connected()
        assert result["ping"] == 25
        assert "pong" not in result
        assert result["client"]
        assert result["version"]
        assert len(stream.session) >= 32
        assert len(stream.node) == 16
        text = "".join(stream.raw)
        assert text.startswith("\r\ndata: {" if door != "http_stream" else "{")
        assert text.endswith("}\n\n" if door != "http_stream" else "}\n")


@pytest.mark.parametrize("door", DOORS)
async def test_commands_are_posted_and_answered_on_the_stream(service: Service, door: str) -> None:
    """204 at once, the reply and what is published on the stream; each message an event or a line of its own."""
    topic = f"test.slow?name={uuid4().hex[:12]}&seconds=1"
    async with Client(service.url) as client:
        stream = await client.stays(door)
        answer = await client.posts(
            stream.session, stream.node, subscribe(topic), {"id": 3, "unsubscribe": {"channel": "x"}}
        )
        assert (answer.status_code, answer.content) == (204, b"")
        heard = [await stream.hears(), await stream.hears()]
        assert {one["id"] for one in heard} == {2, 3}
        push = await stream.hears()
        while "tags" in push["push"]["pub"]:
            push = await stream.hears()
        assert push["push"]["channel"] == topic
        assert push["push"]["pub"]["data"]["name"]


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("no command", 3501, "bad request"),
        ({"id": 1, "subscribe": {"channel": "a"}}, 3501, "bad request"),
        ({"id": 1, "connect": {"token": "forged"}}, 3500, "invalid token"),
        ({"id": 1, "connect": {"data": "x" * 66_000}}, 3501, "message size limit"),
        ({"id": 1, "connect": {"data": "x" * 3_000_000}}, 3501, "message size limit"),
    ],
)
@pytest.mark.parametrize("door", ["sse by post", "http_stream"])
async def test_what_is_refused_is_told_on_the_stream(
    service: Service, door: str, command: object, code: int, reason: str
) -> None:
    """Never by a status, for which clients come again for ever; then it ends."""
    async with Client(service.url) as client, client.opens(door, command) as stream:
        assert await stream.ended() == [said(code, reason)]


@pytest.mark.parametrize("door", DOORS)
async def test_an_expired_token_is_an_error_and_then_the_end(service: Service, door: str) -> None:
    """The client gets itself a new token and comes again; a push that disconnects it would be one word too many."""
    expired = {"id": 7, "connect": {"token": signed(service, sub="42", exp=time.time() - 60)}}
    async with Client(service.url) as client, client.opens(door, expired) as stream:
        assert await stream.ended() == [{"id": 7, "error": {"code": 109, "message": "token expired"}}]


async def test_no_text_is_no_command(service: Service) -> None:
    """Neither in a body nor in the URL."""
    async with Client(service.url) as client:
        broken = client.http.stream("POST", "/connection/http_stream", content=b"\xff\xfe")
        async with broken as response:
            assert json.loads(await response.aread()) == said(3501, "bad request")
        async with client.http.stream("GET", "/connection/sse?cf_connect=%FF") as response:
            assert b'"code":3501' in await response.aread()


@pytest.mark.parametrize("door", DOORS)
async def test_a_foreign_page_is_refused_on_the_stream(service: Service, door: str) -> None:
    """By scheme, host and port; it could not read it anyway."""
    port = service.url.rpartition(":")[2]
    for origin in (FOREIGN, f"https://127.0.0.1:{port}", "http://127.0.0.1", "null"):
        async with Client(service.url) as client, client.opens(door, origin=origin) as stream:
            assert "access-control-allow-origin" not in stream.response.headers
            assert await stream.ended() == [said(3507, "permission denied")]


@pytest.mark.parametrize("door", DOORS)
async def test_an_allowed_page_may_read(service: Service, door: str) -> None:
    async with Client(service.url) as client, client.opens(door, origin=service.url) as stream:
        await stream.connected()
        assert stream.response.headers["access-control-allow-origin"] == service.url
        assert stream.response.headers["access-control-allow-credentials"] == "true"
        assert stream.response.headers["vary"] == "Origin"
        answer = await client.posts(stream.session, stream.node, READ, origin=service.url)
        assert answer.headers["access-control-allow-origin"] == service.url
        lost = await client.posts("x", "0" * 16, READ, origin=service.url)
        assert (lost.status_code, lost.headers["access-control-allow-origin"]) == (404, service.url)


async def test_a_foreign_page_posts_nothing(service: Service) -> None:
    """Not even if it had learned the name of a stream."""
    async with Client(service.url) as client:
        stream = await client.stays("http_stream")
        refused = await client.posts(stream.session, stream.node, "no command", origin=FOREIGN)
        assert (refused.status_code, refused.json()["type"]) == (403, "denied")
        assert await client.says(stream, READ) == 204
        assert (await stream.hears())["id"] == 2


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/emulation", "POST, OPTIONS"),
        ("/connection/http_stream", "POST, OPTIONS"),
        ("/connection/sse", "GET, POST, OPTIONS"),
    ],
)
async def test_a_browser_asks_first(service: Service, path: str, methods: str) -> None:
    async with Client(service.url) as client:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        answer = await client.http.options(path, headers={"origin": service.url, **asked})
        assert (answer.status_code, answer.headers["access-control-allow-methods"]) == (204, methods)
        assert answer.headers["access-control-allow-origin"] == service.url
        assert "content-type" in answer.headers["access-control-allow-headers"]
        foreign = await client.http.options(path, headers={"origin": FOREIGN, **asked})
        assert "access-control-allow-origin" not in foreign.headers


async def test_other_methods(service: Service) -> None:
    async with Client(service.url) as client:
        for method, path, allowed in (
            ("GET", "/emulation", "POST"),
            ("PUT", "/connection/http_stream", "POST"),
            ("HEAD", "/connection/sse", "GET, POST"),
        ):
            answer = await client.http.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_an_event_stream_without_its_command(service: Service) -> None:
    """Also under an escaped name, which would escape the log's redaction as well."""
    async with Client(service.url) as client:
        for query in ("", "?cf_connect=", "?cf%5Fconnect=%7B%7D"):
            answer = await client.http.get(f"/connection/sse{query}")
            assert (answer.status_code, answer.json()["type"]) == (400, "bad-request")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"session":"a","node":"b"}',
        b'{"session":1,"node":"b","data":""}',
        b'{"session":"\xff"}',
        b'{"session":"a","node":"b","data":"\\ud800"}',
        b'{"x":' + b"[" * 30_000,
    ],
)
async def test_a_post_that_says_nothing(service: Service, body: bytes) -> None:
    async with Client(service.url) as client:
        answer = await client.http.post("/emulation", content=body)
        assert (answer.status_code, answer.json()["type"]) == (400, "bad-request")


@pytest.mark.parametrize("size", [65_537, 2_000_000])
async def test_a_post_that_is_too_large(service: Service, size: int) -> None:
    async with Client(service.url) as client:
        answer = await client.http.post("/emulation", content=b"x" * size)
        assert (answer.status_code, answer.json()["type"]) == (413, "body-too-large")


async def test_a_stream_that_has_ended_and_a_process_that_never_was(service: Service) -> None:
    """The first is none of the sender's business; the second makes clients come again."""
    async with Client(service.url) as client:
        async with client.opens("http_stream") as stream:
            await stream.connected()
        for session in (stream.session, "never", ""):
            assert (await client.posts(session, stream.node, READ)).status_code == 204
        for node in ("0" * 16, "", "a" * 5000, "*", "\n"):
            assert (await client.posts(stream.session, node, READ)).status_code == 404


async def test_another_host(service: Service) -> None:
    """The same answer as from any other path."""
    async with Client(service.url) as client:
        for method, path in (("POST", "/emulation"), ("GET", "/connection/sse?cf_connect=%7B%7D")):
            answer = await client.http.request(method, path, headers={"host": "evil.example"})
            assert answer.status_code == 400
            assert "connect" not in answer.text


@pytest.fixture(scope="module")
def logged_in(service: Service) -> str:
    """The cookie of a session of the user `emma`."""
    code = (
        "from django.contrib.auth import get_user_model as m; from django.test import Client; c = Client();"
        "c.force_login(m().objects.get_or_create(username='emma')[0]); print(c.cookies['sessionid'].value)"
    )
    return f"sessionid={service.command('shell', '-c', code).strip().splitlines()[-1]}"


@pytest.mark.parametrize("door", DOORS)
async def test_a_cookie_counts_for_ones_own_page(service: Service, logged_in: str, door: str) -> None:
    """With its Origin; an EventSource sends none to its own page's, of which the browser itself says so."""
    for headers, known in (
        ({"origin": service.url}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({}, False),
    ):
        async with Client(service.url) as client, client.opens(door, cookie=logged_in, **headers) as stream:
            await stream.connected()
            await client.says(stream, subscribe("test.mine"))
            reply = await stream.hears()
            assert ("subscribe" in reply) is known, headers


async def test_a_program_with_an_api_token(service: Service) -> None:
    """As on the handshake of a websocket."""
    service.command(
        "shell", "-c", "from django.contrib.auth import get_user_model as m; m().objects.get_or_create(username='bot')"
    )
    token = service.command("token", "create", "bot", "--scope", "read").strip()
    async with Client(service.url) as client:
        stream = await client.stays("http_stream", authorization=f"Bearer {token}")
        await client.says(stream, subscribe("test.mine"))
        assert "subscribe" in await stream.hears()
        async with client.opens("http_stream", authorization="Bearer mp_no") as refused:
            assert await refused.ended() == [said(3500, "invalid token")]


async def test_too_many_commands(service: Service) -> None:
    """The rate of a connection is that of a websocket: refused one by one, then the client has to calm down."""
    async with Client(service.url) as client:
        stream = await client.stays("http_stream")
        many = [{"id": number, "unsubscribe": {"channel": "x"}} for number in range(2, 902)]
        assert await client.says(stream, *many[:450]) == 204
        assert await client.says(stream, *many[450:]) == 204
        heard = await stream.ended()
        assert any(one.get("error", {}).get("code") == 111 for one in heard)
        assert heard[-1] == said(3013, "too many requests")


async def test_a_connection_of_http_goes_on_after_its_stream(service: Service) -> None:
    """The end is the end of the answer, not of the connection."""
    limits = httpx.Limits(max_connections=1)
    async with Client(service.url, limits=limits) as client:
        for _ in range(3):
            async with client.opens("http_stream", "no command") as stream:
                await stream.ended()
            (pooled,) = client.http._transport._pool.connections  # type: ignore[attr-defined]
            assert pooled.is_idle()
