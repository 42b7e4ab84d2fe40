"""A resource watched by a stock websocket client and as an event stream: snapshot, updates, progress, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.test_reading_over_http import token_of
from tests.support.service import Service
from tests.support.watcher import Watcher, eventually


def unique() -> str:
    return uuid4().hex[:12]


async def invalidate(service: Service, *tags: str) -> None:
    token = await asyncio.to_thread(token_of, service, "invalidate")
    async with httpx.AsyncClient() as client:
        headers = {"Authorization": f"Bearer {token}"}
        done = await client.post(f"{service.url}/api/v1/invalidate", json={"tags": tags}, headers=headers)
        assert done.status_code == 200


def has_values(watcher: Watcher, *values: str) -> bool:
    return watcher.values() == list(values)


async def test_a_watcher_sees_progress_and_then_the_value(service: Service) -> None:
    """Nobody asks again: the job's progress arrives, then the value, under the version that HTTP shows."""
    topic = f"test.slow?name={unique()}&seconds=3"
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(topic)
        await eventually(lambda: watcher.values(), "the value comes")
        assert watcher.subscribed[0].data["state"] == "pending"
        assert watcher.subscribed[0].data["job"]
        percents = [data["percent"] for kind, data, _ in watcher.told if kind == "progress"]
        assert len(percents) > 2
        assert percents == sorted(percents)
        assert watcher.kinds()[-1] == "value"
        answer = await asyncio.to_thread(service.get, f"/api/v1/resources/{topic}")
        assert answer.headers["etag"] == f'"{watcher.subscribed[0].stream_position.epoch}-{watcher.offsets()[0]}"'
        assert answer.json() == watcher.values()[0]


async def test_the_snapshot_comes_with_the_subscription(service: Service) -> None:
    """A value that is there is delivered at once, as a publication, with its state and age."""
    topic = f"test.echo?text={unique()}"
    await asyncio.to_thread(service.get, f"/api/v1/resources/{topic}", Prefer="wait=20")
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(topic)
        await eventually(lambda: watcher.values(), "the snapshot comes")
        data = watcher.subscribed[0].data
        assert (data["state"], data["job"]) == ("fresh", None)
        assert 0 <= data["age"] < 20
        assert watcher.offsets() == [1]


async def test_a_watched_resource_is_renewed_by_an_invalidation(service: Service) -> None:
    """After an invalidation the new value is computed once for all watchers of both processes, and pushed."""
    name = unique()
    source = service.home / f"source-{name}"
    source.write_text("one")
    watchers = [Watcher(service.websocket) for _ in range(6)]
    try:
        for watcher in watchers:
            await watcher.client.connect()
            await watcher.watch(f"test.watched?name={name}")
        for watcher in watchers:
            await eventually(partial(has_values, watcher, "one"), "the first value")
        source.write_text("two")
        await invalidate(service, f"source.{name}")
        for watcher in watchers:
            await eventually(partial(has_values, watcher, "one", "two"), "the new value")
            assert watcher.offsets() == [1, 2]
    finally:
        for watcher in watchers:
            await watcher.leave()
    assert service.ledger().count(f"source {name} two") == 1


async def test_identical_bytes_disturb_nobody(service: Service) -> None:
    """Computed again with the same result, the value is not pushed again."""
    name = unique()
    (service.home / f"source-{name}").write_text("same")
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(f"test.watched?name={name}")
        await eventually(lambda: watcher.values() == ["same"], "the first value")
        await invalidate(service, f"source.{name}")
        await eventually(lambda: service.ledger().count(f"source {name} same") == 2, "it is computed again")
        await asyncio.sleep(0.5)
        assert watcher.values() == ["same"]


async def test_an_unwatched_kind_of_resource_tells_that_it_is_stale(service: Service) -> None:
    """A lazily refreshed value that is invalidated is not recomputed; its subscribers are told."""
    name = unique()
    (service.home / f"source-{name}").write_text("one")
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(f"test.source?name={name}")
        await eventually(lambda: watcher.values() == ["one"], "the value")
        await invalidate(service, f"source.{name}")
        await eventually(lambda: "stale" in watcher.kinds(), "the stale signal")
    assert service.ledger().count(f"source {name} one") == 1


async def test_a_failure_is_told_as_an_error(service: Service) -> None:
    """A computation that fails is told to its watchers as a problem, tagged error."""
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(f"test.fails?message={unique()}")
        await eventually(lambda: "error" in watcher.kinds(), "the error")
        problem = next(data for kind, data, _ in watcher.told if kind == "error")
        assert (problem["type"], problem["status"]) == ("computation-failed", 502)
        assert watcher.client.state.value == "connected"


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("test.nothing", 102),
        ("job:01a20777-1b40-7edc-b540-1f1feb64b8fa", 102),
        ("test.echo?n=99", 107),
        ("test.echo?n=1&n=2", 107),
        ("test.slow", 107),
        ("test.mine", 103),
    ],
)
async def test_wrong_subscriptions_are_refused_for_good(service: Service, topic: str, code: int) -> None:
    """A subscription that can never work ends with its code, and disturbs nothing else on the connection."""
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(topic)
        await eventually(lambda: watcher.unsubscribed, "the refusal")
        assert watcher.unsubscribed[0].code == code
        assert watcher.unsubscribed[0].reason
        await watcher.watch(f"test.echo?text={unique()}")
        await eventually(lambda: watcher.values(), "another topic works")
        assert len(watcher.connected) == 1


async def test_two_spellings_are_two_subscriptions_of_one_value(service: Service) -> None:
    """Pushes carry the client's own spelling."""
    text = unique()
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(f"test.echo?text={text}&n=1")
        await watcher.watch(f"test.echo?n=1&text={text}")
        await eventually(lambda: len(watcher.values()) == 2, "both are told")
    assert service.ledger().count(f"echo {text} 1") == 1


async def test_a_job_can_be_watched(service: Service) -> None:
    """The topic of a job brings the job object at every change, until it is over."""
    path = f"/api/v1/resources/test.slow?name={unique()}&seconds=2"
    job = (await asyncio.to_thread(service.get, path, Prefer="respond-async")).json()
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(job["topic"])
        await eventually(lambda: watcher.values() and watcher.values()[-1]["status"] == "succeeded", "it succeeds")
        versions = [value["version"] for value in watcher.values()]
        assert versions == sorted(set(versions))
        assert watcher.offsets() == versions


async def test_unsubscribed_is_silent(service: Service) -> None:
    """After unsubscribe nothing comes, and subscribing again brings the newest value."""
    name = unique()
    source = service.home / f"source-{name}"
    source.write_text("one")
    async with Watcher(service.websocket) as watcher:
        subscription = await watcher.watch(f"test.watched?name={name}")
        await eventually(lambda: watcher.values() == ["one"], "the value")
        await subscription.unsubscribe()
        source.write_text("two")
        await invalidate(service, f"source.{name}")
        await asyncio.sleep(1)
        assert watcher.values() == ["one"]
        await subscription.subscribe()
        await eventually(lambda: watcher.values()[-1] == "two", "the newest value")


async def test_rpc_reads_and_refreshes(service: Service) -> None:
    """`read` answers the value; `refresh` needs a right the public has not."""
    topic = f"test.echo?text={unique()}"
    await asyncio.to_thread(service.get, f"/api/v1/resources/{topic}", Prefer="wait=20")
    async with Watcher(service.websocket) as watcher:
        read = await watcher.client.rpc("read", {"topic": topic})
        assert read.data["state"] == "fresh"
        assert read.data["data"]["n"] == 1
        with pytest.raises(Exception, match="103|permission"):
            await watcher.client.rpc("refresh", {"topic": topic})


async def test_a_connection_token_names_its_user(service: Service) -> None:
    """Who has an API token gets a short-lived one for the websocket, and sees there what is theirs."""
    api_token = await asyncio.to_thread(token_of, service, "read")
    async with httpx.AsyncClient() as client:
        url, headers = f"{service.url}/api/v1/connection/token", {"Authorization": f"Bearer {api_token}"}
        assert (await client.post(url)).status_code == 401
        minted = (await client.post(url, headers=headers)).json()["token"]
    async with Watcher(service.websocket, token=minted) as watcher:
        await watcher.watch("test.mine")
        await eventually(lambda: watcher.values() == [{"user": "read"}], "the user's own value")


async def test_a_forged_token_ends_the_connection_for_good(service: Service) -> None:
    """An invalid token closes with 3500, and the client does not come back."""
    async with Watcher(service.websocket, token="not.a.token") as watcher:
        await eventually(lambda: watcher.disconnected, "the refusal")
        assert watcher.disconnected[0].code == 3500


@asynccontextmanager
async def events(service: Service, path: str, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The events of a stream, parsed."""
    accept = {"Accept": "text/event-stream", **{k.replace("_", "-"): v for k, v in headers.items()}}
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", service.url + path, headers=accept) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        async with aclosing(_parsed(answer)) as parsed:
            yield parsed


async def _parsed(answer: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    event: dict[str, Any] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if not line and "data" in event:
            yield {**event, "data": json.loads(event["data"])}
        if not line:
            event = {}
        elif name:
            event[name] = value


async def test_the_event_stream_shows_the_same_version(service: Service) -> None:
    """Progress and value arrive as events; the stream can be resumed by its id without a second snapshot."""
    topic = f"test.slow?name={unique()}&seconds=2"
    path = f"/api/v1/resources/{topic}"
    async with events(service, path) as stream:
        seen = []
        async for event in stream:
            seen.append(event)
            if event["event"] in ("snapshot", "update"):
                break
    assert "progress" in {event["event"] for event in seen}
    last = seen[-1]
    answer = await asyncio.to_thread(service.get, path)
    assert answer.headers["etag"] == f'"{last["data"]["epoch"]}-{last["data"]["offset"]}"'
    assert last["data"]["topic"] == answer.headers["millpond-topic"]
    assert last["data"]["data"] == answer.json()
    async with events(service, path, Last_Event_ID=last["id"]) as stream:
        another = asyncio.ensure_future(anext(stream))
        done, _ = await asyncio.wait([another], timeout=1.5)
        another.cancel()
        await asyncio.gather(another, return_exceptions=True)
        assert not done, "a second snapshot came"


async def test_several_topics_share_a_stream(service: Service) -> None:
    """`/api/v1/events` carries several topics, each with its own name."""
    one, two = f"test.echo?text={unique()}", f"test.echo?text={unique()}"
    query = httpx.QueryParams([("topic", one), ("topic", two)])
    async with events(service, f"/api/v1/events?{query}") as stream:
        topics = set()
        async for event in stream:
            topics.add(event["data"]["topic"])
            if topics == {one, two}:
                break
    assert topics == {one, two}


@pytest.mark.parametrize(("topic", "status"), [("test.nothing", 404), ("test.echo?n=99", 400), ("test.mine", 401)])
async def test_a_wrong_stream_is_refused_as_a_problem(service: Service, topic: str, status: int) -> None:
    """What cannot be streamed is refused before the stream begins."""
    accept = "text/event-stream"
    answer = await asyncio.to_thread(service.get, f"/api/v1/resources/{topic}", Accept=accept)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
