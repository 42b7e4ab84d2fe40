"""The rpc methods and batches, as stock clients send them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.clients.conftest import Make, javascript
from tests.e2e.clients.people import People
from tests.support.clients.claims import minted
from tests.support.clients.javascript import JsStock
from tests.support.clients.stock import StockError
from tests.support.service import Service


async def refused(asked: Any) -> int:
    """The code with which a command is refused."""
    with pytest.raises(StockError) as error:
        await asked
    return error.value.code


async def test_read(make: Make, service: Service, unique: str) -> None:
    """What is there at once: the value as HTTP shows it."""
    topic = f"test.echo?text={unique}"
    await asyncio.to_thread(service.get, f"/api/v1/resources/{topic}", Prefer="wait=20")
    client = await make()
    await client.connected()
    answer = await client.rpc("read", {"topic": topic})
    assert (answer["state"], answer["data"]) == ("fresh", {"text": unique, "n": 1})
    pending = await client.rpc("read", {"topic": f"test.slow?name={unique}"})
    assert (pending["state"], pending["data"], bool(pending["job"])) == ("pending", None, True)
    assert await refused(client.rpc("read", {"topic": "test.nothing"})) == 102
    assert await refused(client.rpc("read", {"topic": "test.mine"})) == 103
    assert await refused(client.rpc("read", {"topic": "test.echo?n=99"})) == 107
    assert await refused(client.rpc("read", {})) == 107


async def test_refresh_run_and_cancel(make: Make, people: People, service: Service, unique: str) -> None:
    """With the meaning they have over HTTP, for who may."""
    client, public = await make(token=minted(people.ids["ann"])), await make()
    other = await make(token=minted(people.ids["ben"]))
    for one in (client, public, other):
        await one.connected()
    assert (await client.rpc("refresh", {"topic": f"test.echo?text={unique}"}))["job"]
    assert await refused(public.rpc("refresh", {"topic": f"test.echo?text={unique}"})) == 103
    order = {"action": "test.patient", "params": {"name": unique, "seconds": 20}, "idempotency_key": unique}
    job = await client.rpc("run", order)
    assert (await client.rpc("run", order))["id"] == job["id"]
    await client.subscribed(job["topic"])
    await client.until(lambda: f"patient {unique}" in service.ledger(), "it runs")
    await client.rpc("cancel", {"job": job["id"]})
    await client.until(lambda: client.values(job["topic"])[-1]["status"] == "cancelled", "cancelled", job["topic"])
    assert await refused(other.rpc("cancel", {"job": job["id"]})) == 102
    assert await refused(client.rpc("run", {"action": "test.nothing", "params": {}})) == 102
    assert await refused(client.rpc("run", {"action": "test.patient", "params": {}})) == 107


async def test_ack(make: Make, people: People) -> None:
    """The read state of one's inbox; the public has none."""
    client, public = await make(token=minted(people.ids["ann"])), await make()
    await client.connected()
    await public.connected()
    assert await client.rpc("ack", {"ids": []}) is not None
    assert await refused(public.rpc("ack", {"ids": []})) in (101, 103)
    assert await refused(client.rpc("ack", {"wrong": 1})) == 107


async def test_unknown_methods(make: Make) -> None:
    """108, as the clients' own suite wants it; the connection goes on."""
    client = await make()
    await client.connected()
    for method in ("method", "", "Read"):
        assert await refused(client.rpc(method, {})) == 108
    assert (len(client.of("connected")), client.of("disconnected")) == (1, [])


async def test_a_call_before_the_connection(make: Make, unique: str) -> None:
    """It waits in the client and goes out after the connect."""
    client = await make()
    await client.connect()
    assert await refused(client.rpc("method", {})) == 108


@javascript
async def test_many_commands_in_one_frame(make: Make, unique: str) -> None:
    """startBatching: a hundred subscribes, and publications in their order, each in a frame."""
    client = await make()
    assert isinstance(client, JsStock)
    await client.connected()
    topics = [f"open.{unique}.{n}" for n in range(100)]
    await client.batch(*({"op": "subscribe", "channel": topic, "options": {}} for topic in topics))
    for topic in topics:
        await client.event("subscribed", topic)
    published = await client.batch(*({"op": "publish", "channel": topics[0], "data": n} for n in range(50)))
    assert all("error" not in answer for answer in published)
    await client.hears(topics[0], *range(50)[-50:])
    asked: list[dict[str, Any]] = [
        {"op": "presenceStats", "channel": topics[1]},
        {"op": "rpc", "method": "method", "data": {}},
    ]
    stats, unknown = await client.batch(*asked)
    assert (stats["result"], unknown["error"]["code"]) == ({"numClients": 1, "numUsers": 1}, 108)


@javascript
async def test_subscribes_travel_with_the_connect(make: Make, unique: str) -> None:
    """All that waits goes out in one frame with the connect command, while authentication is under way."""
    client = await make(token=minted("stranger"))
    assert isinstance(client, JsStock)
    topics = [f"open.{unique}.{n}" for n in range(20)]
    for topic in topics:
        await client.subscribe(topic)
    await client.connect()
    for topic in topics:
        await client.event("subscribed", topic)
    assert (len(client.of("connected")), client.of("error")) == (1, [])


@javascript
async def test_unsubscribe_and_subscribe_at_once(make: Make, people: People, unique: str) -> None:
    """In this order, without a word between them; what is published comes once."""
    topic = f"open.{unique}"
    client = await make()
    assert isinstance(client, JsStock)
    await client.connected()
    await client.subscribed(topic)
    for number in range(2, 7):
        await client.resubscribe(topic)
        await client.event("subscribed", topic, number)
    await people.publish(topic, 1, 2)
    await client.hears(topic, 1, 2)
    assert await client.presence_stats(topic) == (1, 1)
    assert len(client.of("connected")) == 1
