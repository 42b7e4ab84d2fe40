"""One of two web processes is told to end, under load: everyone it served is sent to the other one, with a word."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.e2e.test_faults import processes
from tests.e2e.test_who_may_at_once import sockets
from tests.support.service import Service
from tests.support.watcher import eventually

pytestmark = pytest.mark.timeout(120)

SOCKETS, STREAMS = 60, 12


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own with two web processes."""
    running = Service(tmp_path, "--no-demo", MILLPOND_WEB_PROCESSES="2", MILLPOND_WORKER_CONCURRENCY="1").start()
    yield running
    assert running.stop() == 0


async def test_nobody_is_dropped_without_a_word(two: Service) -> None:
    """Websockets with 3001, none with 1006 or 1012; streams end as they should; requests are answered all the while."""
    topic = f"test.pulse?name={uuid4().hex[:12]}"
    statuses: list[int] = []
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            async with httpx.AsyncClient(base_url=two.url, timeout=20) as http:
                statuses.append((await http.get("/api/v1/resources/test.echo?text=load")).status_code)

    async with AsyncExitStack() as ends:
        watchers = await sockets(ends, two, SOCKETS)
        for watcher in watchers:
            await watcher.watch(topic)
        await eventually(lambda: all(watcher.values() for watcher in watchers), "all are told")
        http = await ends.enter_async_context(httpx.AsyncClient(base_url=two.url, timeout=40))
        streams = [
            await ends.enter_async_context(http.stream("GET", "/api/v1/events", params={"topic": topic}))
            for _ in range(STREAMS)
        ]
        reading = [asyncio.create_task(_to_its_end(stream)) for stream in streams]
        load = [asyncio.create_task(ask()) for _ in range(4)]
        leaving = max(  # the kernel may have given every connection to the same of two idle processes
            processes(two, "web", "--listener"), key=lambda process: len(process.net_connections("tcp"))
        )
        leaving.send_signal(signal.SIGTERM)
        await eventually(lambda: not leaving.is_running(), "it has left", within=40)
        moved = [watcher for watcher in watchers if len(watcher.connecting) > 1]
        assert moved
        assert {watcher.connecting[1].code for watcher in moved} == {3001}
        await eventually(lambda: all(len(watcher.connected) == 2 for watcher in moved), "all are back")
        told = {id(watcher): len(watcher.values()) for watcher in watchers}
        await eventually(lambda: all(len(one.values()) > told[id(one)] for one in watchers), "all are told more")
        assert not any(watcher.disconnected for watcher in watchers)
        assert all(watcher.offsets() == sorted(set(watcher.offsets())) for watcher in watchers)
        over.set()
        await asyncio.gather(*load)
        ended = [task for task in reading if task.done()]
        await asyncio.gather(*ended)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    assert statuses
    assert set(statuses) <= {200, 202}


async def _to_its_end(stream: httpx.Response) -> None:
    """Raises when it was cut."""
    async for _ in stream.aiter_raw():
        pass
