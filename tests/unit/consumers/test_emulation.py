"""The streams of the JavaScript client's fallbacks as ASGI applications, on stand-ins for topics and the feed."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cache_layer.redis import Store
from consumers import emulation, joining, origins, sockets, streaming, writer
from consumers.connections import Connections
from consumers.hub import Hub
from consumers.relaying import Relay
from tests.support.peer import Communicator
from tests.unit.consumers.stand_ins import FakeFeed, FakeSource, published, snapshot

CONNECT = {"id": 1, "connect": {}}


class Feed(FakeFeed):
    def attach(self, channel: str, listener: Callable[[bytes], None]) -> None:
        self.listeners.setdefault(channel, []).append(listener)

    def confirmed(self, channel: str) -> bool:
        return True


class World:
    """One process: a hub, its feed, a relay, and the one topic `a`."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.store = Store("unix:///nowhere", "tests")
        self.hub = Hub(self.feed, "invalidations", Connections(3, 2))  # type: ignore[arg-type]
        self.relay = Relay(self.store, self.feed)  # type: ignore[arg-type]
        self.source = FakeSource("a", snapshot(1))

    async def open_topic(self, *_: Any, **__: Any) -> FakeSource:
        return self.source


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World()
    monkeypatch.setattr(emulation, "hub", lambda: made.hub)
    monkeypatch.setattr(emulation, "relay", lambda: made.relay)
    monkeypatch.setattr(joining, "open_topic", made.open_topic)
    yield made
    assert len(made.hub.connections) == 0
    assert not made.relay._streams
    await made.relay.stop()
    await made.hub.stop()
    await made.store.close()


class Request:
    """One request; the test sees every message of its answer."""

    def __init__(self, path: str, *chunks: bytes, method: str = "POST", query: bytes = b"", **headers: str) -> None:
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": named}
        self.app = Communicator(emulation.application, scope)
        self._chunks = chunks
        self.session = self.node = ""

    async def begin(self) -> Request:
        for chunk in self._chunks[:-1]:
            await self.app.send_input({"type": "http.request", "body": chunk, "more_body": True})
        last = self._chunks[-1] if self._chunks else b""
        await self.app.send_input({"type": "http.request", "body": last, "more_body": False})
        return self

    async def output(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.app.receive_output(3)
        return message

    async def status(self) -> int:
        """Of an answer that ends at once."""
        start, body = await self.output(), await self.output()
        assert not body.get("more_body")
        await self.app.wait(2)
        return int(start["status"])

    async def connected(self) -> Request:
        await self.begin()
        assert (await self.output())["status"] == 200
        (reply,) = await self.hears()
        self.session, self.node = reply["connect"]["session"], reply["connect"]["node"]
        return self

    async def hears(self) -> list[Any]:
        """The messages of one write to an HTTP stream."""
        message = await self.output()
        assert message["more_body"], message
        assert message["body"].endswith(b"\n")
        return [json.loads(line) for line in message["body"].splitlines()]

    async def ended(self) -> list[Any]:
        """What is still said, up to the end of the stream."""
        heard: list[Any] = []
        while (message := await self.output()).get("more_body"):
            heard += [json.loads(line) for line in message["body"].splitlines()]
        assert message["body"] == b""
        await self.app.wait(2)
        return heard

    async def leave(self) -> None:
        await self.app.send_input({"type": "http.disconnect"})
        await self.app.wait(2)


def http_stream(*commands: Any) -> Request:
    return Request("/connection/http_stream", "\n".join(json.dumps(one) for one in commands or (CONNECT,)).encode())


def disconnects(*heard: Any) -> list[int]:
    return [one["push"]["disconnect"]["code"] for one in heard if "disconnect" in one.get("push", {})]


async def test_the_first_bytes_do_not_wait_for_anything(world: World) -> None:
    """Proxies and the client's own deadline see an open stream before it is known who asks."""
    query = b"cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"
    stream = await Request("/connection/sse/", method="GET", query=query).begin()
    assert (await stream.output())["status"] == 200
    assert (await stream.output())["body"] == b"\r\n"
    assert (await stream.output())["body"].startswith(b'data: {"id":1,"connect":{')
    await stream.leave()


async def test_every_message_is_an_event(world: World) -> None:
    """Also those that are written together."""
    commands = b'{"id":1,"connect":{}}\n{"id":2,"unsubscribe":{"channel":"x"}}\n{"id":3,"unsubscribe":{"channel":"x"}}'
    stream = await Request("/connection/sse", commands).begin()
    text = ""
    await stream.output()
    while text.count("\n\n") < 3:
        text += (await stream.output())["body"].decode()
    events = text.removeprefix("\r\n").split("\n\n")
    assert [json.loads(event.removeprefix("data: "))["id"] for event in events[:-1]] == [1, 2, 3]
    await stream.leave()


async def test_what_is_published_comes_on_the_stream(world: World) -> None:
    """Its client subscribed by a request of its own."""
    stream = await http_stream().connected()
    subscribe = json.dumps({"id": 2, "subscribe": {"channel": "a"}})
    assert await world.relay.pass_on(stream.session, stream.node, subscribe)
    (reply,) = await stream.hears()
    assert reply["subscribe"]["publications"]
    world.feed.say(world.source.channel, published(2))
    (push,) = await stream.hears()
    assert push["push"]["pub"] == {"data": 2, "offset": 2}
    await stream.leave()
    assert await world.relay.pass_on(stream.session, stream.node, subscribe)  # and nothing happens


async def test_the_end_comes_a_moment_after_the_last_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one packet with it js 5.7.4 loses the word, and comes back where it should not."""
    monkeypatch.setattr(streaming, "_FLUSH", 3600.0)
    stream = await http_stream("no command").begin()
    await stream.output()
    assert disconnects(*await stream.hears()) == [3501]
    assert await stream.app.receive_nothing(0.05)
    await stream.leave()


async def test_limits_and_the_end_of_the_process(world: World) -> None:
    """Streams count with the websockets; all are sent elsewhere when the process leaves."""
    streams = [await http_stream().connected() for _ in range(3)]
    refused = await http_stream().begin()
    assert (await refused.output())["status"] == 200
    assert disconnects(*await refused.ended()) == [3504]
    await world.hub.connections.drain(within=2.0)
    for stream in streams:
        assert disconnects(*await stream.ended()) == [3001]
    late = await http_stream().begin()
    await late.output()
    assert disconnects(*await late.ended()) == [3001]


async def test_what_cannot_be_worked_off_is_bounded(world: World) -> None:
    """While a command waits for an earlier one, what follows waits too; not without end."""
    stream = await http_stream().connected()
    world.source.gate.clear()
    subscribe, leave = {"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "unsubscribe": {"channel": "a"}}
    await world.relay.pass_on(stream.session, stream.node, f"{json.dumps(subscribe)}\n{json.dumps(leave)}")
    while not world.source.reads:
        await asyncio.sleep(0)
    for number in range(1000):
        await world.relay.pass_on(stream.session, stream.node, json.dumps({**leave, "id": number + 4}))
    assert disconnects(*await stream.ended()) == [3013]
    world.source.gate.set()


async def test_what_waits_is_worked_off_in_its_order(world: World) -> None:
    stream = await http_stream().connected()
    world.source.gate.clear()
    subscribe, leave = {"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "unsubscribe": {"channel": "a"}}
    await world.relay.pass_on(stream.session, stream.node, f"{json.dumps(subscribe)}\n{json.dumps(leave)}")
    for number in range(4, 20):
        await world.relay.pass_on(stream.session, stream.node, json.dumps({**leave, "id": number}))
    world.source.gate.set()
    heard: list[Any] = []
    while len(heard) < 18:
        heard += await stream.hears()
    assert [one["id"] for one in heard] == list(range(2, 20))
    await stream.leave()


async def test_a_client_that_does_not_read_is_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told first, as far as that is possible."""
    monkeypatch.setattr(writer, "STALLED", 0.05)
    monkeypatch.setattr(writer, "FAREWELL", 0.05)
    stuck, sent = asyncio.Event(), 0
    asked = iter([{"type": "http.request", "body": b'{"id":1,"connect":{}}', "more_body": False}])

    async def receive() -> Any:
        return next(asked, None) or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        nonlocal sent
        sent += 1
        if sent > 1:
            await stuck.wait()

    scope = {"type": "http", "method": "POST", "path": "/connection/http_stream", "query_string": b"", "headers": []}
    async with asyncio.timeout(5):
        await emulation.application(scope, receive, send)
    assert len(world.hub.connections) == 0


async def test_a_body_that_does_not_come(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "_BODY_WITHIN", 0.05)
    for path in ("/emulation", "/connection/http_stream"):
        request = Request(path)
        await request.app.send_input({"type": "http.request", "body": b"{", "more_body": True})
        assert await request.status() == 408


async def test_who_goes_in_the_middle_of_the_body_is_not_answered(world: World) -> None:
    for path in ("/emulation", "/connection/http_stream"):
        request = Request(path)
        await request.app.send_input({"type": "http.request", "body": b"{", "more_body": True})
        await request.app.send_input({"type": "http.disconnect"})
        await request.app.wait(2)
        assert await request.app.receive_nothing(0.01)


async def test_a_body_in_pieces(world: World) -> None:
    """Each is counted, and what is above the limit is not kept."""
    body = json.dumps({"session": "x", "node": world.relay.node, "data": "{}"}).encode()
    assert await (await Request("/emulation", body[:5], body[5:9], body[9:]).begin()).status() == 204
    assert await (await Request("/emulation", *[b"x" * 20_000] * 4).begin()).status() == 413


@pytest.mark.parametrize(
    ("headers", "counts"),
    [
        ({"origin": "http://localhost"}, True),
        ({"origin": "http://localhost:81"}, False),
        ({"origin": "https://localhost"}, False),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "http://elsewhere", "sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({}, False),
    ],
)
def test_whose_cookies_count(headers: dict[str, str], counts: bool) -> None:
    """Nothing else of the request is lost with them."""
    sent = {"host": "localhost", "cookie": "sessionid=x", "authorization": "Bearer t", **headers}
    scope = {"type": "http", "scheme": "http", "headers": [(n.encode(), v.encode()) for n, v in sent.items()]}
    kept = dict(origins.trusted(scope)["headers"])
    assert (b"cookie" in kept) is counts
    assert len(kept) == len(sent) - (not counts)
    assert any(name == b"cookie" for name, _ in scope["headers"])


async def test_the_kernel_is_told_to_expect_answers() -> None:
    """Else a peer that vanished is there for a quarter of an hour; what is no TCP is left alone."""

    class Cycle:
        """As uvicorn's, as far as it is looked at."""

        transport: Any = None

        async def send(self, message: Any) -> None: ...

    cycle = Cycle()
    sockets.expect_answers(cycle.send)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, opened = await asyncio.open_connection(*server.sockets[0].getsockname())
        cycle.transport = opened.transport
        sockets.expect_answers(cycle.send)
        below = opened.get_extra_info("socket")
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert below.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000
        await reader.read()
        opened.close()
        await opened.wait_closed()
    one, other = socket.socketpair()
    with one, other:
        _, unix = await asyncio.open_unix_connection(sock=one)
        cycle.transport = unix.transport
        sockets.expect_answers(cycle.send)
        unix.close()
        await unix.wait_closed()
