"""Where no websocket is to be had: the JavaScript client's event stream and HTTP stream, over several processes."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.clients.conftest import Make, in_chromium, in_node, javascript
from tests.e2e.clients.people import People
from tests.support.clients.claims import minted
from tests.support.clients.stock import StockError, Wanted
from tests.support.service import Service, free_port, until

PATHS = {"sse": "/connection/sse", "http_stream": "/connection/http_stream"}

both = pytest.mark.parametrize("transport", PATHS)


@pytest.fixture(scope="session")
def elsewhere(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a third web process of the service, on a port of its own."""
    port = free_port()
    with (tmp_path_factory.mktemp("elsewhere") / "log").open("w") as log:
        command = [*service.program, "web", "--port", str(port)]
        process = subprocess.Popen(
            command, cwd=service.directory, env=service.environment, stdout=log, stderr=subprocess.STDOUT
        )
        url = f"http://127.0.0.1:{port}"
        until(lambda: _listens(url), "the process listens", 60)
        yield url
        process.terminate()
        assert process.wait(30) == 0


def _listens(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def way(service: Service, transport: str, emulation: str = "") -> dict[str, Any]:
    """The wishes of a client that has this transport only."""
    return {
        "endpoints": [(transport, service.url + PATHS[transport])],
        "emulation": f"{emulation or service.url}/emulation",
    }


@both
@javascript
async def test_all_that_a_websocket_can(
    make: Make, service: Service, people: People, unique: str, transport: str
) -> None:
    """Subscribe, publish, ask, be told, come and go, over whichever of two processes each POST reaches."""
    topic = f"open.{unique}"
    client = await make(token=minted("stranger"), **way(service, transport))
    assert (await client.connected()).transport == transport
    subscribed = await client.subscribed(topic)
    assert subscribed.recoverable
    for n in range(10):
        await client.publish(topic, n)
    await people.publish(topic, "grüß 漢字 🦆")
    await client.hears(topic, *range(10), "grüß 漢字 🦆")
    assert client.of("publication", topic)[0].info["user"] == "stranger"
    assert await client.presence_stats(topic) == (1, 1)
    assert (await client.history(topic, 2)).data() == [0, 1]
    with pytest.raises(StockError) as refused:
        await client.rpc("method", {})
    assert refused.value.code == 108
    await client.unsubscribe(topic)
    await client.event("unsubscribed", topic)
    await client.subscribed(topic)
    watcher = await make()
    await watcher.connected()
    await watcher.subscribed(topic)
    began = time.monotonic()
    await client.disconnect()
    await watcher.event("leave", topic)
    assert time.monotonic() - began < 5
    assert await watcher.presence_stats(topic) == (1, 1)
    assert (client.of("error"), len(client.of("connected"))) == ([], 1)


@both
@in_node
async def test_commands_that_reach_another_process(
    make: Make, service: Service, people: People, elsewhere: str, unique: str, transport: str
) -> None:
    """Every POST goes to a process that has not the stream; the replies come on the stream all the same."""
    topic = f"open.{unique}"
    client = await make(token=minted("stranger"), **way(service, transport, elsewhere))
    await client.connected()
    await client.subscribed(topic)
    await asyncio.gather(*(client.publish(topic, n) for n in range(20)))
    await client.until(lambda: sorted(client.values(topic)) == [*range(20)], "all of it", topic)
    assert client.offsets(topic) == [*range(1, 21)]
    assert await client.presence_stats(topic) == (1, 1)
    assert (client.of("error"), len(client.of("connected"))) == ([], 1)


@both
@javascript
async def test_what_was_missed(make: Make, service: Service, people: People, unique: str, transport: str) -> None:
    """A stream that is opened again recovers as a websocket does."""
    topic = f"open.{unique}"
    client = await make(**way(service, transport))
    await client.connected()
    await client.subscribed(topic)
    await people.publish(topic, 1)
    await client.hears(topic, 1)
    await client.disconnect()
    await people.publish(topic, 2, 3)
    await client.connect()
    assert (await client.event("subscribed", topic, 2)).recovered
    await people.publish(topic, 4)
    await client.hears(topic, 1, 2, 3, 4)


@both
@javascript
async def test_differences(make: Make, service: Service, people: People, unique: str, transport: str) -> None:
    topic = f"open.{unique}"
    client = await make(**way(service, transport))
    await client.connected()
    await client.subscribed(topic, Wanted(delta=True))
    texts = [f"{n} {'ü漢' * 300} {n}" for n in range(5)]
    await people.publish(topic, *texts)
    await client.hears(topic, *texts)


@both
@javascript
async def test_a_value(make: Make, service: Service, unique: str, transport: str) -> None:
    """Progress and the value of a slow resource arrive as they happen, not at the end."""
    topic = f"test.slow?name={unique}&seconds=1"
    client = await make(**way(service, transport))
    await client.connected()
    assert (await client.subscribed(topic)).data["state"] == "pending"
    await client.until(lambda: bool(client.values(topic)), "the value", topic)
    kinds = [event.tags.get("kind", "value") for event in client.of("publication", topic)]
    assert (kinds[0], kinds[-1]) == ("progress", "value")


@both
@javascript
async def test_an_invalid_token_ends_it_for_good(make: Make, service: Service, transport: str) -> None:
    """Said on the stream: a refused request would be tried for ever."""
    client = await make(token=minted("stranger", secret="x" * 64), **way(service, transport))
    await client.connect()
    ended = await client.event("disconnected")
    assert (ended.code, ended.reason) == (3500, "invalid token")


@both
@javascript
async def test_an_expired_token_is_replaced(make: Make, service: Service, unique: str, transport: str) -> None:
    """At the connect, and later on the stream."""
    tokens = iter([minted("stranger", 3)])
    asked: list[str] = []

    def renew(channel: str) -> str:
        asked.append(channel)
        return next(tokens, minted("stranger", 3600))

    client = await make(token=minted("stranger", -5), get_token=renew, **way(service, transport))
    await client.connected()
    await client.until(lambda: len(asked) == 2, "refreshed")
    await client.subscribed(f"open.{unique}")
    assert len(client.of("connected")) == 1


@in_chromium
async def test_the_next_way_is_taken_when_the_first_is_barred(make: Make, service: Service, unique: str) -> None:
    """A list of ways: no websocket there, the HTTP stream does."""
    barred = f"ws://127.0.0.1:{free_port()}/connection/websocket"
    ways = [("websocket", barred), ("http_stream", service.url + PATHS["http_stream"])]
    client = await make(endpoints=ways, emulation=f"{service.url}/emulation")
    assert (await client.connected()).transport == "http_stream"
    await client.subscribed(f"open.{unique}")
