"""What the server's protocol answers by itself is what uvicorn writes for the application's messages, byte for byte."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from asgi_app import asgi
from asgi_app.hot import Hot
from asgi_app.registry import Registry, registry, resource
from asgi_app.running.protocol import Protocol
from asgi_app.wiring import Node
from tests.integration.test_front_and_view_agree import BASE
from tests.support.declared_keys import key_of
from tests.support.paged import a_node
from tests.support.processes import fill
from tests.support.raw_http import exchange, serving, without_date
from tests.support.store import StoreServer
from tests.support.watcher import eventually

HOST = b"host: localhost\r\n"
VALUE = f"{BASE}once.value".encode()
PLAIN = b"GET " + VALUE + b" HTTP/1.1\r\n" + HOST
LAST = PLAIN + b"connection: close\r\n\r\n"
#: Name -> what is sent before a last plain request, and how many of both are answered at once.
REQUESTS = {
    "one": (b"", 0),
    "several": (3 * (PLAIN + b"\r\n"), 3),
    "who has it": (PLAIN + b"if-none-match: *\r\n\r\n", 1),
    "an empty query": (PLAIN.replace(b" HTTP", b"? HTTP") + b"\r\n", 1),
    "with parameters": (PLAIN.replace(b" HTTP", b"?n=1 HTTP") + b"\r\n", 1),
    "a fragment": (PLAIN.replace(b" HTTP", b"?n=1#n=2 HTTP") + b"\r\n", 0),
    "quoted": (PLAIN.replace(b"once", b"%6fnce") + b"\r\n", 0),
    "absolute": (PLAIN.replace(b"GET /", b"GET http://localhost/") + b"\r\n", 0),
    "by its head": (PLAIN.replace(b"GET", b"HEAD") + b"\r\n", 0),
    "posted": (PLAIN.replace(b"GET", b"POST") + b"content-length: 2\r\n\r\n{}", 0),
    "with a body": (PLAIN + b"content-length: 2\r\n\r\n{}", 0),
    "in chunks": (PLAIN + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 0),
    "expecting": (PLAIN + b"expect: 100-continue\r\n\r\n", 0),
    "over https": (PLAIN + b"x-forwarded-proto: https\r\n\r\n", 0),
    "another host": (PLAIN.replace(b"localhost", b"evil.example") + b"\r\n", 0),
    "no host": (PLAIN.replace(HOST, b"") + b"\r\n", 0),
    "a stranger's token": (PLAIN + b"authorization: Bearer nobody\r\n\r\n", 0),
    "nothing there": (PLAIN.replace(b"value", b"other") + b"\r\n", 0),
    "another page": (PLAIN.replace(VALUE, b"/livez") + b"\r\n", 0),
    "behind one that is held": (PLAIN.replace(b"value", b"slow") + b"\r\n" + PLAIN + b"\r\n", 0),
    "from an old client": (b"GET " + VALUE + b" HTTP/1.0\r\nconnection: keep-alive\r\n" + HOST + b"\r\n", 0),
}


@pytest.fixture
def declared() -> Iterator[Registry]:
    with registry.isolated() as made:

        @resource("once.value", fresh=600)
        def value(n: int = 1) -> int:
            return n

        @resource("once.slow", offload=False, fresh=0.001, stale=0, stale_if_error=0)
        async def slow() -> int:
            await asyncio.sleep(0.2)
            return 1

        yield made


@pytest.fixture
async def node(store_server: StoreServer, declared: Registry, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(asgi, "front", Hot())  # it remembers the resources of other tests
    async with a_node() as made:
        await eventually(lambda: made.near and made.near.open, "copies are given out")
        key = key_of("once.value")
        await made.store.command("DEL", made.cache.names.lease(key), made.cache.names.entry(key))
        await fill(made.cache, key, b'{"a":"\xc3\xa9"}')
        yield made


class Counting(Hot):
    """A front that counts."""

    times = 0

    def at_once(self, scope: Any) -> Any:
        answer = super().at_once(scope)
        self.times += answer is not None
        return answer


def ageless(said: bytes) -> bytes:
    """Without what a second changes, and what each computation of the slow value does."""
    said = re.sub(rb"(\r\nage: |ttl=)-?\d+", rb"\1", without_date(said))
    if b"once.slow" not in said:
        return said
    return re.sub(rb"(\r\netag: |\r\nmillpond-computed: )[^\r]+", rb"\1", said)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.django_db(transaction=True)
async def test_the_bytes_are_those_of_the_longer_way(node: Node, name: str) -> None:
    """Alone on a connection, and in a row, in order."""
    sent, at_once = REQUESTS[name]
    front = Counting()
    async with serving(asgi.application, partial(Protocol, front)) as quick, serving(asgi.application) as plain:
        expected = ageless(await exchange(plain, sent + LAST))
        await exchange(quick, PLAIN + b"connection: close\r\n\r\n")  # this process has it now, and the front its door
        await exchange(quick, PLAIN.replace(b" HTTP", b"?n=1 HTTP") + b"connection: close\r\n\r\n")
        front.times = 0
        assert ageless(await exchange(quick, sent + LAST)) == expected
        for size in (1, 7):  # however the bytes come
            reader, writer = await asyncio.open_connection("127.0.0.1", quick)
            whole = sent + LAST
            for start in range(0, len(whole), size):
                writer.write(whole[start : start + size])
                await writer.drain()
            async with asyncio.timeout(20):
                assert ageless(await reader.read()) == expected
            writer.close()
            await writer.wait_closed()
    assert front.times == 3 * at_once


async def test_an_upgrade_is_left_to_uvicorn(node: Node) -> None:
    """Which knows only one."""
    front, sent = Counting(), PLAIN + b"connection: upgrade, close\r\nupgrade: h2c\r\n\r\n"
    async with serving(asgi.application, partial(Protocol, front)) as quick, serving(asgi.application) as plain:
        expected = ageless(await exchange(plain, sent))
        assert ageless(await exchange(quick, sent)) == expected
    assert front.times == 0


async def test_a_client_that_does_not_read_is_not_written_to(node: Node) -> None:
    """Its requests wait in uvicorn's line once the buffer is full, and all are answered when it reads."""
    key = key_of("once.value")
    await node.store.command("DEL", node.cache.names.lease(key))
    await fill(node.cache, key, b'"' + b"x" * 60_000 + b'"', force=True)
    front, count = Counting(), 400
    async with serving(asgi.application, partial(Protocol, front)) as port:
        await exchange(port, LAST)
        front.times = 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(count * (PLAIN + b"\r\n") + LAST)
        await asyncio.sleep(0.3)
        assert 0 < front.times < count
        said = 0
        async with asyncio.timeout(30):
            while chunk := await reader.read(1_000_000):
                said += chunk.count(b"HTTP/1.1 200 OK\r\n")
        assert said >= count // 2  # a chunk may end within a status line
        writer.close()
        await writer.wait_closed()


async def test_a_front_that_fails_costs_only_the_short_way(node: Node) -> None:
    """The application answers."""

    class Broken(Hot):
        def at_once(self, scope: Any) -> Any:
            raise ValueError("no")

    async with serving(asgi.application, partial(Protocol, Broken())) as port:
        assert (await exchange(port, LAST)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_connection_that_was_answered_is_closed_when_it_is_idle(node: Node) -> None:
    """As after any other answer."""
    front = Counting()
    async with serving(asgi.application, partial(Protocol, front), keep_alive=1) as port:
        await exchange(port, LAST)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PLAIN + b"\r\n")
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        assert front.times == 1
        writer.close()
        await writer.wait_closed()
