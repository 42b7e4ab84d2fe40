"""The bound on request bodies, driven as an ASGI server would."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from asgi_app import bodies
from asgi_app.bodies import BoundedBodies

LIMIT = 10


class Request:
    """One request: `chunks` arrive as its body, then the client goes; `heard` is what the application read."""

    def __init__(self, *chunks: bytes, goes_early: bool = False, **headers: bytes | str) -> None:
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        self.scope = {
            "type": "http",
            "headers": [(name, value.encode() if isinstance(value, str) else value) for name, value in named.items()],
        }
        more = [True] * len(chunks) if goes_early else [True] * (len(chunks) - 1) + [False]
        self.events: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": left} for chunk, left in zip(chunks, more, strict=True)
        ]
        self.taken = 0
        #: How much had been taken when the answer went out.
        self.taken_then: int | None = None
        self.heard: list[dict[str, Any]] | None = None
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        self.taken += 1
        return self.events.pop(0) if self.events else {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.taken_then = self.taken if self.taken_then is None else self.taken_then

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.heard = []
        while not self.heard or self.heard[-1]["type"] == "http.request":
            self.heard.append(await receive())
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def go(self) -> int | None:
        """The status of the answer; None: there was none."""
        await BoundedBodies(self.application, LIMIT)(self.scope, self.receive, self.send)
        return self.sent[0]["status"] if self.sent else None

    @property
    def body(self) -> bytes:
        assert self.heard is not None
        return b"".join(event.get("body", b"") for event in self.heard)


async def test_a_request_without_a_body_passes_untouched() -> None:
    """Nothing is read ahead of the application."""
    request = Request(b"")
    assert await request.go() == 204
    assert request.heard == [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]


@pytest.mark.parametrize("headers", [{"content_length": "10"}, {"transfer_encoding": "chunked"}])
async def test_a_body_of_the_limit_passes_whole(headers: dict[str, Any]) -> None:
    """In one piece, whatever pieces it came in, and what comes after it is heard as well."""
    request = Request(b"01234", b"", b"56789", **headers)
    assert await request.go() == 204
    assert request.heard == [
        {"type": "http.request", "body": b"0123456789", "more_body": False},
        {"type": "http.disconnect"},
    ]


@pytest.mark.parametrize("length", ["11", "000011", "9" * 21, "9" * 5000])
async def test_a_body_announced_too_large_is_refused_unread(length: str) -> None:
    """By its Content-Length alone, before a byte of it was taken in."""
    request = Request(b"x" * 11, content_length=length)
    assert await request.go() == 413
    assert request.taken_then == 0
    assert request.heard is None


@pytest.mark.parametrize(
    "headers",
    [
        {"transfer_encoding": "chunked"},
        {"content_length": "5"},
        {"content_length": "0", "transfer_encoding": "chunked"},
        {"content_length": "-1"},
        {"content_length": "soon"},
        {"content_length": b"\xb2"},
    ],
)
async def test_a_body_that_grows_too_large_is_refused(headers: dict[str, Any]) -> None:
    """However little was announced, no more is read than the first piece above the limit."""
    request = Request(b"x" * 6, b"x" * 6, b"x" * 6, b"x" * 6, **headers)
    assert await request.go() == 413
    assert request.taken_then == 2
    assert request.heard is None


async def test_the_refusal_is_a_problem_and_ends_the_connection() -> None:
    """It says which setting is the bound, is stored by nobody, and nothing more is read from that client."""
    request = Request(b"", content_length="11")
    await request.go()
    start, body, *_ = request.sent
    headers = dict(start["headers"])
    problem = json.loads(body["body"])
    assert (problem["type"], problem["status"]) == ("body-too-large", 413)
    assert "MILLPOND_MAX_BODY" in problem["detail"]
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"connection"] == b"close"


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """408, and the connection ends: the memory and the connection are wanted by others."""
    monkeypatch.setattr(bodies, "_WITHIN", 0.02)
    request = Request(b"012", goes_early=True, content_length="6")
    first = [request.events.pop(0)]

    async def receive() -> dict[str, Any]:
        if first:
            return first.pop()
        await asyncio.Event().wait()
        raise AssertionError("it never comes")

    request.receive = receive  # type: ignore[method-assign]
    assert await request.go() == 408
    start, body, *_ = request.sent
    assert dict(start["headers"])[b"connection"] == b"close"
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert (json.loads(body["body"])["type"], request.heard) == ("body-too-slow", None)


async def test_a_client_that_goes_in_the_middle_gets_no_answer() -> None:
    """The application never sees half a body."""
    request = Request(b"012", goes_early=True, content_length="6")
    assert await request.go() is None
    assert request.heard is None


@pytest.mark.parametrize("length", ["", "0", "000"])
async def test_an_announced_nothing_is_no_body(length: str) -> None:
    """A length of zero, or none, is read by the application itself."""
    request = Request(b"", content_length=length)
    assert await request.go() == 204
    assert request.body == b""


async def test_the_rest_of_a_refused_body_is_taken_in_after_the_answer() -> None:
    """A client still sending would otherwise lose the answer to a reset; the end comes when it has sent all."""
    request = Request(b"01234567890", b"more", b"more", content_length="19")
    assert await request.go() == 413
    assert request.taken == 3
    assert [message.get("more_body") for message in request.sent] == [None, True, False]
