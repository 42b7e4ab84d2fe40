"""Event streams as an ASGI application, on stand-ins for topics and the feed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

import pytest

from asgi_app.errors import BadParameters, Denied, Unauthenticated
from cache_layer.errors import StoreUnavailable
from consumers import sse
from tests.support.peer import Communicator
from tests.unit.consumers.stand_ins import FakeSource, published, snapshot, user
from tests.unit.consumers.test_live import World, known


class Stream:
    """A client of one stream."""

    def __init__(self, path: str, query: str = "", *, method: str = "GET", last: str = "", token: str = "") -> None:
        headers = [(b"accept", b"text/event-stream")] + ([(b"last-event-id", last.encode())] if last else [])
        headers += [(b"authorization", f"Bearer {token}".encode())] if token else []
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        self.app = Communicator(sse.application, scope)

    async def open(self) -> tuple[int, dict[str, str]]:
        await self.app.send_input({"type": "http.request", "body": b"", "more_body": False})
        start = await self.app.receive_output(2)
        return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}

    async def text(self) -> str:
        return str((await self.app.receive_output(2))["body"].decode())

    async def events(self) -> list[dict[str, Any]]:
        """The events of one write."""
        found = []
        for block in (await self.text()).strip("\n").split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            assert set(fields) <= {"id", "event", "data", "retry"}, block
            found.append({**fields, **({"data": json.loads(fields["data"])} if "data" in fields else {})})
        return found

    async def leave(self) -> None:
        await self.app.send_input({"type": "http.disconnect"})
        await self.app.wait(2)


def name_and_offset(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(event["event"], event["data"]["offset"]) for event in events]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World()
    monkeypatch.setattr(sse, "hub", lambda: made.hub)
    monkeypatch.setattr(sse, "open_topic", made.open_topic)
    yield made
    assert len(made.hub.connections) == 0
    assert all(line.idle for line in made.hub._lines.values())
    await made.hub.stop()


def events(*topics: str) -> tuple[str, str]:
    return sse.EVENTS, "&".join(f"topic={quote(topic)}" for topic in topics)


async def test_a_resource_as_a_stream(world: World) -> None:
    """First bytes at once, a snapshot, then updates, each with topic, position and id."""
    world.topics["r?b=2&a=1"] = source = FakeSource("r?a=1&b=2", snapshot(3, b'{"v":3}'))
    stream = Stream(sse.RESOURCES + "r", "b=2&last_event_id=&a=1")
    status, headers = await stream.open()
    assert status == 200
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    (retry,) = await stream.events()
    assert 2000 <= int(retry["retry"]) <= 5000
    (first,) = await stream.events()
    assert first["event"] == "snapshot"
    assert first["data"] == {"topic": "r?a=1&b=2", "epoch": "aaaaaaaa", "offset": 3, "data": {"v": 3}}
    world.feed.say(source.channel, published(4, b'{\n"v":4}'))
    (second,) = await stream.events()
    assert (second["event"], second["data"]["data"]) == ("update", {"v": 4})
    assert second["id"].endswith("@aaaaaaaa:4")
    await stream.leave()


async def test_a_pending_value_follows_its_progress(world: World) -> None:
    """The stream opens at once; the first value is the snapshot."""
    world.topics["a"] = source = FakeSource("a", snapshot(0, None))
    stream = Stream(*events("a"))
    assert (await stream.open())[0] == 200
    await stream.events()
    world.feed.say(source.channel, b'P{"done":1}')
    world.feed.say(source.channel, b"S{}")
    world.feed.say(source.channel, published(1))
    world.feed.say(source.channel, b'E{"type":"x"}')
    heard = [*(await stream.events()), *(await stream.events()), *(await stream.events())]
    assert [event["event"] for event in heard] == ["progress", "snapshot", "error"]
    assert heard[2]["data"]["data"] == {"type": "x"}
    await stream.leave()


async def test_many_topics_and_their_resumption(world: World) -> None:
    """The id carries all positions; a client that holds the newest hears nothing again, not even of a lazy one."""
    for name, offset in (("a", 3), ("b?x=1,2", 8)):
        world.topics[name] = FakeSource(name, snapshot(offset))
    stream = Stream(*events(*world.topics))
    await stream.open()
    await stream.events()
    first, second = [*(await stream.events()), *(await stream.events())]
    assert [first["data"]["topic"], second["data"]["topic"]] == ["a", "b?x=1,2"]
    await stream.leave()
    last = second["id"]
    assert last.count("@") == 2

    path, query = events(*world.topics)
    for again in (Stream(path, query, last=last), Stream(path, f"{query}&last_event_id={quote(last)}")):
        await again.open()
        await again.events()
        assert await again.app.receive_nothing(0.02)
        await again.leave()

    third = Stream(path, query, last=last)
    await third.open()
    await third.events()
    world.feed.say("channel:a", published(4))
    (update,) = await third.events()
    assert update["event"] == "update"
    assert update["id"] == last.replace(":3", ":4")
    await third.leave()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda last: last, []),
        (lambda last: last.replace(":5", ":4"), [("snapshot", 5)]),
        (lambda last: last.replace(":5", ":9"), [("reset", 5), ("snapshot", 5)]),
        (lambda last: last.replace("@aaaaaaaa", "@zzzzzzzz"), [("reset", 5), ("snapshot", 5)]),
        (lambda last: "12345678@aaaaaaaa:5", [("snapshot", 5)]),
        (lambda last: "rubbish", [("reset", 5), ("snapshot", 5)]),
        (lambda last: "\x7f@,,:-", [("reset", 5), ("snapshot", 5)]),
    ],
)
async def test_resuming_from_a_position(world: World, change: Any, expected: list[tuple[str, int]]) -> None:
    """What is held is not sent again; what means nothing any more is said so first."""
    world.topics["a"] = FakeSource("a", snapshot(5))
    first = Stream(*events("a"))
    await first.open()
    await first.events()
    last = (await first.events())[0]["id"]
    await first.leave()
    stream = Stream(*events("a"), last=change(last))
    await stream.open()
    await stream.events()
    heard = name_and_offset(await stream.events()) if expected else []
    assert heard == expected
    assert await stream.app.receive_nothing(0.02)
    await stream.leave()


async def test_a_reset_waits_for_the_value_that_tells(world: World) -> None:
    """While a value is pending nobody knows whether the client's position still means something."""
    world.topics["a"] = source = FakeSource("a", snapshot(0, None, epoch="00000000"))
    mark = "aaaaaaaa:7"
    digest = blake2b(b"a", digest_size=4).hexdigest()
    stream = Stream(*events("a"), last=f"{digest}@{mark}")
    await stream.open()
    await stream.events()
    world.feed.say(source.channel, published(8))
    assert name_and_offset(await stream.events()) == [("snapshot", 8)]
    await stream.leave()


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        (sse.RESOURCES + "nope", "", 404, "unknown-resource"),
        (sse.RESOURCES, "", 404, "not-found"),
        (sse.RESOURCES + "a/b", "", 404, "not-found"),
        (sse.RESOURCES + "wrong", "", 400, "bad-parameters"),
        (sse.RESOURCES + "denied", "", 403, "denied"),
        (sse.RESOURCES + "login", "", 401, "unauthenticated"),
        (sse.RESOURCES + "away", "", 503, "unavailable"),
        (sse.EVENTS, "", 400, "bad-parameters"),
        (sse.EVENTS, "topic=a&days=1", 400, "bad-parameters"),
        (sse.EVENTS, "&".join(f"topic={n}" for n in range(129)), 400, "bad-parameters"),
    ],
)
async def test_refusals_come_before_the_stream(world: World, path: str, query: str, status: int, code: str) -> None:
    """As problem+json with their status."""
    world.topics |= {
        "wrong": BadParameters([{"name": "days", "reason": "too many"}]),
        "denied": Denied("no"),
        "login": Unauthenticated("who?"),
        "away": FakeSource("away", None),
    }
    away = world.topics["away"]
    assert isinstance(away, FakeSource)
    away.now = StoreUnavailable("away")
    stream = Stream(path, query)
    found, headers = await stream.open()
    assert found == status
    assert headers["content-type"] == "application/problem+json"
    assert ("retry-after" in headers) is (status == 503)
    assert ("www-authenticate" in headers) is (status == 401)
    problem = json.loads(await stream.text())
    assert (problem["type"], problem["status"]) == (code, status)
    await stream.app.wait(1)


async def test_limits_of_connections_hold_for_streams(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Websockets and streams are counted together; per principal 429, per process 503."""

    known(monkeypatch, user("u"))
    world.topics["a"] = FakeSource("a")
    streams = [Stream(*events("a"), token="mp_x") for _ in range(3)]
    assert [(await stream.open())[0] for stream in streams] == [200, 200, 429]
    await streams.pop().app.wait(1)
    for stream in streams:
        await stream.leave()
    await world.hub.connections.drain(within=0.01)
    late = Stream(*events("a"))
    assert (await late.open())[0] == 503
    await late.app.wait(1)


async def test_head_and_other_methods(world: World) -> None:
    """HEAD has the headers and no stream; what is no GET is refused."""
    world.topics["a"] = source = FakeSource("a")
    head = Stream(*events("a"), method="HEAD")
    status, headers = await head.open()
    assert (status, headers["content-type"], await head.text()) == (200, "text/event-stream", "")
    await head.app.wait(1)
    assert source.reads == 0
    post = Stream(*events("a"), method="POST")
    status, headers = await post.open()
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    await post.app.wait(1)


async def test_silence_is_filled_with_comments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies close what is silent."""
    monkeypatch.setattr(sse, "_COMMENT", 0.02)
    world.topics["a"] = FakeSource("a", snapshot(0, None))
    stream = Stream(*events("a"))
    await stream.open()
    await stream.events()
    assert [await stream.text(), await stream.text()] == [":\n\n", ":\n\n"]
    await stream.leave()


async def test_draining_ends_the_stream(world: World) -> None:
    """Regularly: the last chunk, and the client comes back after its retry."""
    world.topics["a"] = FakeSource("a", snapshot(0, None))
    stream = Stream(*events("a"))
    await stream.open()
    await stream.events()
    draining = asyncio.create_task(world.hub.connections.drain(within=0.5))
    last = await stream.app.receive_output(2)
    assert last == {"type": "http.response.body", "body": b""}
    await stream.app.wait(1)
    await draining


async def test_draining_refuses_a_stream_that_has_not_begun(world: World) -> None:
    """503, as every refusal before the first byte: the client goes elsewhere at once."""
    world.topics["a"] = source = FakeSource("a")
    source.gate.clear()
    stream = Stream(*events("a"))
    opening = asyncio.create_task(stream.open())
    while not source.reads:
        await asyncio.sleep(0)
    draining = asyncio.create_task(world.hub.connections.drain(within=0.5))
    status, headers = await opening
    assert (status, headers["content-type"]) == (503, "application/problem+json")
    assert "retry-after" in headers
    await stream.app.wait(1)
    await draining
    source.gate.set()


async def test_what_nobody_foresaw_is_a_problem_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """500, logged, and without a word of what it was."""
    world.topics["a"] = RuntimeError("secret")
    stream = Stream(*events("a"))
    assert (await stream.open())[0] == 500
    assert json.loads(await stream.text())["type"] == "internal-error"
    await stream.app.wait(1)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["secret"]


async def test_who_asks_is_found_on_database_connections_that_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the database has cut is renewed before it is used; who shows nothing costs no thread."""
    renewed = known(monkeypatch, user("u"))
    world.topics["a"] = FakeSource("a")
    for token, times in (("mp_x", 2), ("", 2)):
        stream = Stream(*events("a"), token=token)
        assert (await stream.open())[0] == 200
        await stream.leave()
        assert len(renewed) == times


async def test_a_stream_ends_with_the_token_it_was_opened_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is told why."""
    known(monkeypatch, replace(user("u", token="t"), expires_at=time.time() + 0.05))
    world.topics["a"] = FakeSource("a", snapshot(0, None))
    stream = Stream(*events("a"), token="mp_x")
    await stream.open()
    await stream.events()
    assert await stream.app.receive_output(2) == {"type": "http.response.body", "body": b""}
    await stream.app.wait(1)


async def test_a_lost_topic_ends_the_stream(world: World) -> None:
    """The next attempt is told why."""
    world.topics["a"] = source = FakeSource("a")
    stream = Stream(*events("a"))
    await stream.open()
    await stream.events()
    await stream.events()
    source.now = Denied("revoked")
    world.feed.say(source.channel, b"C")
    assert await stream.app.receive_output(2) == {"type": "http.response.body", "body": b""}
    await stream.app.wait(1)
