"""A client's POSTs land on any web process: they reach its stream, or the client is told to connect again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.e2e.test_faults import processes
from tests.support.emulated import Client, one_per_process
from tests.support.service import Service, until

DOORS = ("sse", "http_stream")
SHUTDOWN = {"push": {"disconnect": {"code": 3001, "reason": "shutdown"}}}


def echo(number: int) -> dict[str, object]:
    return {"id": number, "unsubscribe": {"channel": "x"}}


@pytest.fixture(scope="module")
def for_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes one connection at a time."""
    settings = {"MILLPOND_WORKER_CONCURRENCY": "1", "MILLPOND_MAX_CONNECTIONS": "1"}
    running = Service(tmp_path_factory.mktemp("for_one"), "--no-demo", **settings).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own with two web processes, to be broken."""
    running = Service(tmp_path, "--no-demo", MILLPOND_WEB_PROCESSES="2", MILLPOND_WORKER_CONCURRENCY="1").start()
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("door", DOORS)
async def test_any_process_takes_what_is_said_to_another(service: Service, door: str) -> None:
    """In the order in which it was said, with the very replies."""
    async with one_per_process(service.url, 2) as by_process, Client(service.url) as client:
        stream = await client.stays(door)
        for number in range(10, 90):
            sender = by_process[stream.node] if number % 20 < 10 else _other(by_process, stream.node)
            assert await sender.says(stream, echo(number)) == 204
        assert [(await stream.hears())["id"] for _ in range(80)] == list(range(10, 90))
        topic = f"test.echo?text={uuid4().hex[:12]}"
        await _other(by_process, stream.node).says(stream, {"id": 90, "subscribe": {"channel": topic}})
        assert (await stream.hears())["id"] == 90


async def test_the_longest_message_passes_and_a_stream_of_another_process_may_have_ended(service: Service) -> None:
    """Whoever posts for a stream that is no more is told nothing by any process."""
    async with one_per_process(service.url, 2) as by_process, Client(service.url) as client:
        stream = await client.stays("http_stream")
        other = _other(by_process, stream.node)
        assert await other.says(stream, {"id": 2, "unsubscribe": {"channel": "ä" * 32_000}}) == 204
        assert (await stream.hears())["id"] == 2
        for session in ("never", "", stream.session + "\n"):
            assert (await other.posts(session, stream.node, echo(3))).status_code == 204
        assert (await other.posts(stream.session, "0" * 16, echo(3))).status_code == 404
        assert await other.says(stream, echo(4)) == 204
        assert (await stream.hears())["id"] == 4


async def test_many_clients_at_once(service: Service) -> None:
    """Each gets all of its own replies, and no other's."""

    async def talk(client: Client, number: int) -> None:
        stream = await client.stays(DOORS[number % 2])
        first = 1000 * (number + 1)
        sent = await asyncio.gather(*(client.says(stream, echo(first + one)) for one in range(20)))
        assert set(sent) == {204}
        assert {(await stream.hears())["id"] - first for _ in range(20)} == set(range(20))

    async with Client(service.url) as client:
        await asyncio.gather(*(talk(client, number) for number in range(20)))


@pytest.mark.parametrize("door", DOORS)
async def test_who_goes_is_gone(for_one: Service, door: str) -> None:
    """A client that aborts its request has left its place within moments: the counts tell."""
    async with Client(for_one.url) as client:
        async with _the_place(client, door), client.opens(door) as second:
            refusal = {"push": {"disconnect": {"code": 3504, "reason": "connection limit"}}}
            assert await second.ended() == [refusal]
        async with _the_place(client, door):
            pass


@pytest.mark.parametrize("door", DOORS)
async def test_who_goes_is_seen_to_go(service: Service, door: str) -> None:
    """By the clients of other processes too, at once: nobody waits for a sign of life that does not come."""
    topic = f"open.{uuid4().hex[:12]}"
    async with one_per_process(service.url, 2) as by_process, Client(service.url) as client:
        async with client.opens(door) as goes:
            name = (await goes.connected())["client"]
            watcher = await _other(by_process, goes.node).stays("http_stream")
            await client.says(watcher, {"id": 2, "subscribe": {"channel": topic, "join_leave": True}})
            while "subscribe" not in await watcher.hears():
                pass
            await client.says(goes, {"id": 2, "subscribe": {"channel": topic}})
            while (await watcher.hears()).get("push", {}).get("join", {}).get("info", {}).get("client") != name:
                pass
        async with asyncio.timeout(2):
            while (await watcher.hears()).get("push", {}).get("leave", {}).get("info", {}).get("client") != name:
                pass
        await client.says(watcher, {"id": 3, "presence": {"channel": topic}})
        assert name not in (await watcher.hears())["presence"]["presence"]


async def test_a_process_that_leaves_says_so(two: Service) -> None:
    """With the code that brings clients back; then the streams end, and so does the process."""
    async with Client(two.url) as client:
        streams = [await client.stays(DOORS[number % 2]) for number in range(10)]
        stopping = asyncio.create_task(asyncio.to_thread(two.stop))
        for stream in streams:
            assert await stream.ended() == [SHUTDOWN]
        assert await stopping == 0
    await asyncio.to_thread(two.start)


async def test_a_process_that_died_is_unknown(two: Service) -> None:
    """404: the client connects again, and is served by who is left."""
    async with Client(two.url) as client:
        stream = await client.stays("http_stream")
        for web in processes(two, "web", "--listener"):
            web.send_signal(signal.SIGKILL)
        await asyncio.to_thread(until, lambda: two.get("/livez").status_code == 200, "it serves again")
        assert (await client.posts(stream.session, stream.node, echo(2))).status_code == 404


async def test_the_store_is_away(two: Service) -> None:
    """What is said to the process itself arrives; for another it is 503, with which clients come again."""
    async with one_per_process(two.url, 2) as by_process, Client(two.url) as client:
        stream = await client.stays("sse")
        here, there = by_process[stream.node], _other(by_process, stream.node)
        (store,) = processes(two, "valkey-server") or processes(two, "redis-server")
        store.send_signal(signal.SIGSTOP)
        try:
            for number in (2, 3, 4):
                answer = await there.posts(stream.session, stream.node, echo(9))
                assert (answer.status_code, answer.json()["type"]) == (503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                assert await here.says(stream, echo(number)) == 204
                assert (await stream.hears())["id"] == number
        finally:
            store.send_signal(signal.SIGCONT)
        # What was refused in doubt may come all the same, once; afterwards all is as before.
        status = 0
        async with asyncio.timeout(20):
            while status != 204:
                status = await there.says(stream, echo(5))
        heard: dict[str, object] = {}
        while heard.get("id") != 5:
            heard = await stream.hears()


def _other(by_process: dict[str, Client], node: str) -> Client:
    return next(client for name, client in by_process.items() if name != node)


@asynccontextmanager
async def _the_place(client: Client, door: str) -> AsyncIterator[None]:
    """Have it, once whoever had it is seen to have gone."""
    async with AsyncExitStack() as taken:
        async with asyncio.timeout(2):
            while True:
                async with AsyncExitStack() as tried:
                    stream = await tried.enter_async_context(client.opens(door))
                    if "id" in await stream.hears():
                        await taken.enter_async_context(tried.pop_all())
                        break
        yield
