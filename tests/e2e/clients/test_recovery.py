"""What becomes of subscribers when processes die, the store loses everything, or more was missed than is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.clients.conftest import Make
from tests.e2e.clients.people import People
from tests.e2e.test_faults import processes
from tests.support.clients.claims import SECRET
from tests.support.clients.stock import Wanted
from tests.support.service import Service

#: Seconds a service may take to be itself again.
LONG = 60.0


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[People]:
    """A service of the test's own, to be broken, and who uses it."""
    settings = {"MILLPOND_WEB_PROCESSES": "2", "MILLPOND_WORKER_CONCURRENCY": "1", "MILLPOND_TOKEN_SECRET": SECRET}
    running = await asyncio.to_thread(Service(tmp_path, "--no-demo", **settings).start)
    yield await asyncio.to_thread(People.of, running, "ann")
    assert await asyncio.to_thread(running.stop) == 0


async def test_missed_while_away(make: Make, people: People, unique: str) -> None:
    """All of it, in order and once; then what comes live."""
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    await client.subscribed(topic)
    await people.publish(topic, 1)
    await client.hears(topic, 1)
    await client.disconnect()
    await people.publish(topic, 2, 3, 4)
    await client.connect()
    back = await client.event("subscribed", topic, 2)
    assert (back.was_recovering, back.recovered) == (True, True)
    await people.publish(topic, 5)
    await client.hears(topic, 1, 2, 3, 4, 5)
    assert client.offsets(topic) == [1, 2, 3, 4, 5]


async def test_left_an_empty_topic_and_missed_its_first(make: Make, people: People, unique: str) -> None:
    """The epoch of a topic without publications is one to come back to."""
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    first = await client.subscribed(topic)
    await client.disconnect()
    await people.publish(topic, "first")
    await client.connect()
    back = await client.event("subscribed", topic, 2)
    assert (back.recovered, back.epoch) == (True, first.epoch)
    await client.hears(topic, "first")


async def test_more_was_missed_than_is_kept(make: Make, people: People, unique: str) -> None:
    """Told as not recovered, with the position of now; no part of it is passed off as the whole."""
    topic = f"small.{unique}"
    client = await make()
    await client.connected()
    await client.subscribed(topic)
    await people.publish(topic, 1)
    await client.hears(topic, 1)
    await client.disconnect()
    await people.publish(topic, 2, 3, 4)
    await client.connect()
    back = await client.event("subscribed", topic, 2)
    assert (back.was_recovering, back.recovered, back.offset) == (True, False, 4)
    await people.publish(topic, 5)
    await client.hears(topic, 1, 5)


async def test_state_of_the_application_is_loaded_and_what_came_since_is_told(
    make: Make, people: People, unique: str
) -> None:
    """getState: the first subscribe already recovers; when that cannot be done (112) the state is loaded again."""
    topic = f"small.{unique}"
    asked: list[str] = []
    client = await make()
    await client.connected()
    position = await client.history(topic, 0)
    positions = [(position.offset, position.epoch)]

    def state(channel: str) -> tuple[int, str]:
        asked.append(channel)
        return positions[-1]

    await people.publish(topic, 1, 2)
    subscribed = await client.subscribed(topic, Wanted(get_state=state))
    assert (subscribed.was_recovering, subscribed.recovered, asked) == (True, True, [topic])
    await client.hears(topic, 1, 2)
    await client.disconnect()
    await people.publish(topic, 3, 4, 5, 6)
    positions.append((6, position.epoch))
    await client.connect()
    await client.event("subscribed", topic, 2)
    assert asked == [topic] * 2
    await people.publish(topic, 7)
    await client.hears(topic, 1, 2, 7)
    assert client.of("unsubscribed", topic) == []


async def test_an_answer_of_getstate_that_is_never_right(make: Make, people: People, unique: str) -> None:
    """The whole of what is kept is there from (0, "") on; a position from elsewhere is refused again and again."""
    topic = f"open.{unique}"
    await people.publish(topic, 1, 2, 3)
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(get_state=lambda _: (0, "")))
    await client.hears(topic, 1, 2, 3)
    asked: list[str] = []

    def elsewhere(channel: str) -> tuple[int, str]:
        asked.append(channel)
        return (2, "elsewhere")

    other = f"{topic}.other"
    await client.subscribe(other, Wanted(get_state=elsewhere))
    await client.until(lambda: len(asked) >= 3, "asked again", other)
    assert client.of("subscribed", other) == []


async def test_the_web_processes_are_killed(make: Make, own: People, unique: str) -> None:
    """kill -9 of both: the clients come back by themselves and miss nothing of a log, and have the newest value."""
    log, value = f"open.{unique}", f"test.watched?name={unique}"
    await own.write(unique, "one")
    clients = [await make(own.service) for _ in range(3)]
    for client in clients:
        await client.connected()
        await client.subscribed(log)
        await client.subscribe(value)
        await client.hears(value, "one")
    await own.publish(log, 1, 2)
    for client in clients:
        await client.hears(log, 1, 2)
    for process in reversed(processes(own.service, "asgi_app", "web")):
        with suppress(psutil.NoSuchProcess):  # it has gone with another
            process.kill()
    for number in range(3, 8):
        await published(own, log, number)
    await own.write(unique, "two")
    for client in clients:
        back = await client.event("subscribed", log, 2, within=LONG)
        assert (back.was_recovering, back.recovered) == (True, True)
        await client.hears(log, *range(1, 8))
        assert client.offsets(log) == list(range(1, 8))
        await client.hears(value, "one", "two", within=LONG)


async def published(people: People, topic: str, data: object) -> None:
    """Publish, in however many attempts."""
    async with asyncio.timeout(LONG):
        while True:
            try:
                await people.publish(topic, data)
            except (httpx.HTTPError, AssertionError):  # nobody listens, the connection is cut, or 503
                await asyncio.sleep(0.1)
            else:
                break


async def test_the_store_is_killed(make: Make, own: People, unique: str) -> None:
    """Everything is lost: a subscriber is told so (another epoch, not recovered), and goes on from there."""
    log, value = f"open.{unique}", f"test.watched?name={unique}"
    await own.write(unique, "one")
    client = await make(own.service)
    await client.connected()
    first = await client.subscribed(log)
    await client.subscribe(value)
    await client.hears(value, "one")
    await own.publish(log, 1, 2)
    await client.hears(log, 1, 2)
    (own.service.home / f"source-{unique}").write_text("two")
    (store,) = processes(own.service, "valkey-server") or processes(own.service, "redis-server")
    store.kill()
    await client.until(lambda: client.values(value)[-1:] == ["two"], "the value after the loss", value, LONG)
    back = await client.event("subscribed", log, 2, within=LONG)
    assert (back.was_recovering, back.recovered, back.offset) == (True, False, 0)
    assert back.epoch not in ("", first.epoch)
    await published(own, log, 3)
    await client.hears(log, 1, 2, 3)
    assert (await client.history(log, -1)).data() == [3]


async def test_the_service_is_stopped_and_started(make: Make, own: People, unique: str) -> None:
    """A deploy: 3001, and the clients come back by themselves."""
    client = await make(own.service)
    await client.connected()
    await client.subscribed(f"open.{unique}")
    assert await asyncio.to_thread(own.service.stop) == 0
    away = await client.event("connecting", number=2)
    assert away.code == 3001
    await asyncio.to_thread(own.service.start)
    await client.event("connected", number=2, within=LONG)
    await client.event("subscribed", f"open.{unique}", 2)
    assert client.of("disconnected") == []
