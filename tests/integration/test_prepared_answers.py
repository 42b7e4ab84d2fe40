"""Prepared bytes on the transport are the bytes that uvicorn makes of the same messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asgi_app.prepared import Prepared
from tests.support.raw_http import exchange, serving, without_date

VALUE = Prepared(
    200, [(b"Content-Type", b"application/json"), (b"ETag", b'"a-1"'), (b"Content-Length", b"7")], b'{"a":1}'
)
UNCHANGED = Prepared(304, [(b"ETag", b'"a-1"'), (b"Vary", b"Accept")], b"")
LARGE = Prepared(200, [(b"Content-Length", b"4000000")], b"x" * 4_000_000)
AGES = [
    (b"Content-Length", b"2"),
    (b"Age", b"0"),
    (b"Vary", b"Accept"),
    (b"Cache-Status", b"a; ttl=9"),
    (b"ETag", b"b"),
]
OLDER = Prepared(200, AGES, b"{}")
OLDER.grow_older(b"7", b"a; ttl=2")
ANSWERS = {"/value": VALUE, "/unchanged": UNCHANGED, "/large": LARGE, "/older": OLDER}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """`/plain/...`: by messages."""
    path = scope["path"]
    if path.startswith("/plain"):

        async def messages(message: Any) -> None:
            await send(message)

        await ANSWERS[path.removeprefix("/plain")].send(messages)
    else:
        await ANSWERS[path].send(send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(application) as number:
        yield number


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_bytes_are_those_of_the_messages(port: int, path: str, method: str) -> None:
    """One after the other on one connection, several at once, and with a last one that ends it."""

    def requests(prefix: str) -> bytes:
        one = f"{method} {prefix}{path} HTTP/1.1\r\nhost: x\r\n"
        return (f"{one}\r\n" * 3 + f"{one}connection: close\r\n\r\n").encode()

    prepared, plain = await exchange(port, requests("")), await exchange(port, requests("/plain"))
    assert prepared.count(b"HTTP/1.1 ") == 4
    assert without_date(prepared) == without_date(plain)
    assert prepared.count(b"date: ") == 4


async def test_an_answer_that_was_sent_grows_older(port: int) -> None:
    """It says its age of now, however it was sent before, and nothing else is changed."""
    ANSWERS["/ages"] = answer = Prepared(200, AGES, b"{}")
    first = b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    for path in (b"/ages", b"/plain/ages"):
        said = without_date(await exchange(port, first % path))
        assert b"\r\nage: 0\r\nvary: Accept\r\ncache-status: a; ttl=9\r\netag: b\r\n" in said
    for age in (b"1", b"2"):
        answer.grow_older(age, b"a; ttl=" + age)
        older = said.replace(b"age: 0", b"age: " + age).replace(b"ttl=9", b"ttl=" + age)
        for path in (b"/ages", b"/plain/ages", b"/ages"):
            assert without_date(await exchange(port, first % path)) == older


async def test_a_client_that_does_not_read_holds_nobody_up(port: int) -> None:
    """Answers wait for it; others are served meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n" * 5)
    await asyncio.sleep(0.1)
    assert b'{"a":1}' in await exchange(port, b"GET /value HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    said = 0
    async with asyncio.timeout(20):
        while said < 5 * 4_000_000:
            said += len(await reader.read(1_000_000))
    writer.close()
    await writer.wait_closed()
