"""Log topics for plain EventSource: everything in order, resumed by `Last-Event-ID`, a loss told by `reset`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.test_reading_over_http import token_of
from tests.support.service import Service


@pytest.fixture
def topic() -> str:
    return f"log:{uuid4().hex[:12]}"


async def publish(service: Service, topic: str, *values: Any) -> dict[str, Any]:
    """The answer to the last of them."""
    headers = {"Authorization": f"Bearer {await asyncio.to_thread(token_of, service, 'publish')}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=20) as client:
        for value in values:
            said = await client.post("/api/v1/publish", json={"topic": topic, "data": value})
            assert said.status_code == 200, said.text
    answer: dict[str, Any] = said.json()
    return answer


class Events:
    """What an EventSource hears: events with data, and the last id, with or without an event."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        """Kind, and `data` of the next one."""
        kind, data = "message", ""
        async with asyncio.timeout(20):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif name == "id":
                    self.last_id = value
                elif not line and data:
                    return kind, json.loads(data)
        raise AssertionError("the stream has ended")

    async def position(self) -> str:
        """The id that comes without an event, at the beginning."""
        async with asyncio.timeout(20):
            while not self.last_id:
                line = await anext(self._lines)
                if line.startswith("id: "):
                    self.last_id = line.removeprefix("id: ")
        return self.last_id


@asynccontextmanager
async def stream(service: Service, *topics: str, last_id: str = "") -> AsyncIterator[Events]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with (
        httpx.AsyncClient(base_url=service.url, timeout=30) as client,
        client.stream("GET", "/api/v1/events", params={"topic": list(topics)}, headers=headers) as response,
    ):
        assert response.status_code == 200
        async with aclosing(response.aiter_lines()) as lines:  # type: ignore[type-var]
            yield Events(lines)


async def test_publications_come_in_order_and_are_resumed(service: Service, topic: str) -> None:
    """From the position of the last event, also when nothing had come yet."""
    async with stream(service, topic) as events:
        beginning = await events.position()
        position = await publish(service, topic, "a", {"b": 1})
        first, second = await events.next(), await events.next()
    assert [kind for kind, _ in (first, second)] == ["update", "update"]
    assert [said["data"] for _, said in (first, second)] == ["a", {"b": 1}]
    assert second[1] == {"topic": topic, "epoch": position["epoch"], "offset": position["offset"], "data": {"b": 1}}
    await publish(service, topic, "c")
    async with stream(service, topic, last_id=events.last_id) as again:
        assert (await again.next())[1]["data"] == "c"
        await publish(service, topic, "d")
        assert (await again.next())[1]["data"] == "d"
    async with stream(service, topic, last_id=beginning) as whole:
        assert [(await whole.next())[1]["data"] for _ in range(4)] == ["a", {"b": 1}, "c", "d"]


async def test_what_cannot_be_told_is_a_reset(service: Service, topic: str) -> None:
    """More was missed than the log keeps, or the id is of another history: never a part for the whole."""
    async with stream(service, topic) as events:
        await events.position()
        await publish(service, topic, 0)
        await events.next()
    await publish(service, topic, *range(1, 103))
    async with stream(service, topic, last_id=events.last_id) as late:
        kind, said = await late.next()
        assert (kind, said["data"], said["offset"]) == ("reset", None, 103)
        await publish(service, topic, "new")
        assert await late.next() == ("update", {**said, "offset": 104, "data": "new"})
    async with stream(service, topic, last_id="nonsense") as foreign:
        assert (await foreign.next())[0] == "reset"


async def test_a_log_and_a_value_in_one_stream(service: Service, topic: str) -> None:
    """One id resumes both: what is held is not told again, what was missed is."""
    value = f"test.echo?text={topic[4:]}"
    async with stream(service, value, topic) as events:
        kind, said = await events.next()
        assert (kind, said["topic"]) == ("snapshot", value)
        await publish(service, topic, 1)
        assert (await events.next())[1]["data"] == 1
    await publish(service, topic, 2)
    async with stream(service, value, topic, last_id=events.last_id) as again:
        assert (await again.next())[1]["data"] == 2
