"""What becomes of subscribers when the web processes are killed, the store loses everything, or the service stops.

Clients of all kinds are there at once; the service that is broken is each time the same, which has recovered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.e2e.clients.conftest import CHROMIUM_KINDS, NODE, Stocks
from tests.e2e.clients.people import People
from tests.e2e.clients.test_fallbacks import PATHS
from tests.e2e.test_faults import processes
from tests.support.clients.claims import SECRET
from tests.support.clients.stock import Stock, Wishes
from tests.support.service import Service, until

#: Seconds a service may take to be itself again.
LONG = 60.0


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """A service of these tests' own, and who uses it."""
    settings = {"MILLPOND_WEB_PROCESSES": "2", "MILLPOND_WORKER_CONCURRENCY": "1", "MILLPOND_TOKEN_SECRET": SECRET}
    running = Service(tmp_path_factory.mktemp("broken"), "--no-demo", **settings).start()
    with People.of(running, "ann") as made:
        yield made
    assert running.stop() == 0


@pytest.fixture(params=["outside browsers", pytest.param("browsers", marks=pytest.mark.browser)])
async def crowd(request: pytest.FixtureRequest, broken: People, stocks: Stocks) -> AsyncIterator[list[Stock]]:
    """A client of each kind for each transport that it has, connected."""
    url = broken.service.url
    await asyncio.to_thread(until, lambda: httpx.get(f"{url}/readyz").status_code == 200, "it is well", LONG)
    kinds = CHROMIUM_KINDS if request.param == "browsers" else [*NODE, "python"]
    made = [stocks.find(kind, url) for kind in kinds]
    clients = [
        await stocked.new(wishes) for kind, stocked in zip(kinds, made, strict=True) for wishes in ways(kind, url)
    ]
    for client in clients:
        await client.connected()
    yield clients
    for stocked in made:
        await stocked.forget_all()


def ways(kind: str, url: str) -> Iterator[Wishes]:
    """Of how many transports a client may have the choice, alone."""
    addresses = {"websocket": url.replace("http", "ws", 1) + "/connection/websocket"}
    if kind != "python":
        addresses |= {transport: url + path for transport, path in PATHS.items()}
    for way in addresses.items():
        yield Wishes(endpoints=[way], emulation=f"{url}/emulation")


async def test_the_web_processes_are_killed(crowd: list[Stock], broken: People, unique: str) -> None:
    """kill -9 of both: all come back by themselves, miss nothing of a log, and have the newest value."""
    log, value = f"open.{unique}", f"test.watched?name={unique}"
    await broken.write(unique, "one")
    for client in crowd:
        await client.subscribed(log)
        await client.subscribe(value)
        await client.hears(value, "one")
    await broken.publish(log, 1, 2)
    for client in crowd:
        await client.hears(log, 1, 2)
    for process in reversed(processes(broken.service, "asgi_app", "web")):
        with suppress(psutil.NoSuchProcess):  # it has gone with another
            process.kill()
    for number in range(3, 8):
        await published(broken, log, number)
    await broken.write(unique, "two")
    for client in crowd:
        back = await client.event("subscribed", log, 2, LONG)
        assert (back.was_recovering, back.recovered) == (True, True)
        await client.hears(log, *range(1, 8))
        assert client.offsets(log) == [*range(1, 8)]
        await client.hears(value, "one", "two", within=LONG)


async def test_the_store_is_killed(crowd: list[Stock], broken: People, unique: str) -> None:
    """Everything is lost: a subscriber is told so (another epoch, not recovered), and goes on from there."""
    log, value = f"open.{unique}", f"test.watched?name={unique}"
    await broken.write(unique, "one")
    epochs = set()
    for client in crowd:
        epochs.add((await client.subscribed(log)).epoch)
        await client.subscribe(value)
        await client.hears(value, "one")
    await broken.publish(log, 1, 2)
    for client in crowd:
        await client.hears(log, 1, 2)
    (broken.service.home / f"source-{unique}").write_text("two")
    (store,) = processes(broken.service, "valkey-server") or processes(broken.service, "redis-server")
    store.kill()
    for client in crowd:
        await client.reaches(value, "two", LONG)
        back = await client.event("subscribed", log, 2, LONG)
        assert (await client.event("subscribing", log, 2)).code == 2500  # insufficient state
        assert (back.was_recovering, back.recovered, back.offset) == (True, False, 0)
        epochs.add(back.epoch)
    assert len(epochs) == 2
    await published(broken, log, 3)
    for client in crowd:
        await client.hears(log, 1, 2, 3)
        assert len(client.of("connected")) == 1
    assert (await crowd[0].history(log, -1)).data() == [3]


async def test_the_service_is_stopped_and_started(crowd: list[Stock], broken: People, unique: str) -> None:
    """A deploy: closed with 3001, all come back by themselves."""
    log = f"open.{unique}"
    for client in crowd:
        await client.subscribed(log)
    # A process that another test has killed may just have come back, and let somebody go again.
    before = [(len(client.of("connecting")), len(client.of("subscribed", log))) for client in crowd]
    assert await asyncio.to_thread(broken.service.stop) == 0
    for client, (connecting, _) in zip(crowd, before, strict=True):
        assert (await client.event("connecting", number=connecting + 1)).code == 3001
    await asyncio.to_thread(broken.service.start)
    for client, (_, subscribed) in zip(crowd, before, strict=True):
        await client.event("subscribed", log, subscribed + 1, LONG)
    await published(broken, log, 1)
    for client in crowd:
        await client.hears(log, 1)
        assert client.of("disconnected") == []


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
