"""Topics of which the latest value wins: snapshot, updates, signals, refusals, and coming back."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.clients.conftest import Make
from tests.e2e.clients.people import People
from tests.support.clients.stock import Wanted
from tests.support.service import Service


async def test_what_is_there_comes_with_the_subscription(make: Make, service: Service, unique: str) -> None:
    """The newest value is a publication right after `subscribed`, whose data says how it stands."""
    topic = f"test.echo?text={unique}"
    answer = await asyncio.to_thread(service.get, f"/api/v1/resources/{topic}", Prefer="wait=20")
    client = await make()
    await client.connected()
    subscribed = await client.subscribed(topic)
    await client.hears(topic, {"text": unique, "n": 1})
    assert (subscribed.data["state"], subscribed.data["job"]) == ("fresh", None)
    assert answer.headers["etag"] == f'"{subscribed.epoch}-{client.offsets(topic)[0]}"'
    assert [event.kind for event in client.told if event.channel == topic] == [
        "subscribing",
        "subscribed",
        "publication",
    ]


async def test_what_is_not_there_follows(make: Make, unique: str) -> None:
    """A subscription waits for no computation: it stands as pending, progress comes, then the value."""
    topic = f"test.slow?name={unique}&seconds=1"
    client = await make()
    await client.connected()
    subscribed = await client.subscribed(topic)
    assert (subscribed.data["state"], bool(subscribed.data["job"])) == ("pending", True)
    value = await client.event("publication", topic)
    await client.until(lambda: bool(client.values(topic)), "a value", topic)
    progress = [event for event in client.of("publication", topic) if event.tags.get("kind") == "progress"]
    assert value in progress
    assert client.values(topic)[0]["name"] == unique


async def test_changes_come_to_all(make: Make, people: People, unique: str) -> None:
    """Clients on both processes are told each new value under the same offset."""
    topic = f"test.watched?name={unique}"
    await people.write(unique, "eins")
    clients = [await make() for _ in range(4)]
    for client in clients:
        await client.connected()
        await client.subscribe(topic)
        await client.hears(topic, "eins")
    await people.write(unique, "zwei – дві – 二")
    for client in clients:
        await client.hears(topic, "eins", "zwei – дві – 二")
        assert client.offsets(topic) == [1, 2]


async def test_two_spellings_are_two_subscriptions(make: Make, unique: str) -> None:
    """Each is told under the name it was asked for."""
    client = await make()
    await client.connected()
    for topic in (f"test.echo?n=2&text={unique}", f"test.echo?text={unique}&n=2"):
        await client.subscribe(topic)
        await client.hears(topic, {"text": unique, "n": 2})


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("test.nothing", 102),
        ("job:01a20777-1b40-7edc-b540-1f1feb64b8fa", 102),
        ("test.echo?n=99", 107),
        ("test.slow", 107),
        ("test.mine", 103),
        ("members.only", 103),
        ("inbox#1", 103),
        ("t" * 256, 107),
    ],
)
async def test_a_subscription_that_cannot_be_is_over(make: Make, topic: str, code: int, unique: str) -> None:
    """It ends with its code and a reason; the connection and everything else on it goes on."""
    client = await make()
    await client.connected()
    await client.subscribe(topic)
    refused = await client.event("unsubscribed", topic)
    assert (refused.code, bool(refused.reason)) == (code, True)
    await client.subscribed(f"test.echo?text={unique}")
    assert (len(client.of("connected")), client.of("error")) == (1, [])


async def test_who_comes_back_gets_the_newest_value_only(make: Make, people: People, unique: str) -> None:
    """Recovered, with what is newest; what was overtaken in between is nobody's loss."""
    topic = f"test.watched?name={unique}"
    await people.write(unique, "one")
    client, watcher = await make(), await make()
    await client.connected()
    await watcher.connected()
    await client.subscribe(topic)
    await watcher.subscribe(topic)
    await client.hears(topic, "one")
    await client.disconnect()
    for text in ("two", "three"):
        await people.write(unique, text)
        await watcher.reaches(topic, text)
    await client.connect()
    back = await client.event("subscribed", topic, 2)
    assert (back.was_recovering, back.recovered) == (True, True)
    await client.hears(topic, "one", "three")
    assert client.offsets(topic) == sorted(set(client.offsets(topic)))


async def test_who_holds_the_newest_value_gets_nothing(make: Make, people: People, unique: str) -> None:
    topic = f"test.watched?name={unique}"
    await people.write(unique, "one")
    client = await make()
    await client.connected()
    first = await client.subscribed(topic)
    await client.hears(topic, "one")
    await client.disconnect()
    await client.connect()
    back = await client.event("subscribed", topic, 2)
    assert (back.was_recovering, back.recovered, back.epoch) == (True, True, first.epoch)
    await people.write(unique, "two")
    await client.hears(topic, "one", "two")


async def test_a_position_of_another_epoch(make: Make, people: People, unique: str) -> None:
    """It counts for nothing: the newest value is in the reply."""
    topic = f"test.watched?name={unique}"
    await people.write(unique, "one")
    client = await make()
    await client.connected()
    subscribed = await client.subscribed(topic, Wanted(since=(7, "elsewhere")))
    assert (subscribed.was_recovering, subscribed.epoch != "elsewhere") == (True, True)
    await client.hears(topic, "one")
