"""Publications as differences to the one before, for clients that ask for it; whole texts of any language come out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.clients.conftest import Make
from tests.e2e.clients.people import People
from tests.support.clients.stock import Stock, Wanted

_LETTERS = 'äöüß — дякую — 漢字かな交じり文 — 🦆🏔️ — \u2028 — \\u00e4 — "quoted"\n'


def story(n: int) -> dict[str, Any]:
    """A long text that is cut in the middle of its characters by whoever cuts bytes; it changes at both ends."""
    return {"first": f"{n}{'é' * (n % 3)}", "text": _LETTERS * 12, "last": ["…"] * (n % 4), "n": n}


async def deltas(client: Stock) -> int:
    """How many publications came as differences."""
    found = 0
    for frame in await client.frames():
        for line in frame.split("\n"):
            said = json.loads(line)
            publications = [said.get("push", {}).get("pub"), *said.get("subscribe", {}).get("publications", ())]
            found += sum(1 for publication in publications if publication and publication.get("delta"))
    return found


async def test_a_log_as_differences(make: Make, people: People, unique: str) -> None:
    """Beside somebody who has not asked for it: both are told the same, and one of them in fewer bytes."""
    topic = f"open.{unique}"
    client, plain = await make(), await make()
    await client.connected()
    await plain.connected()
    await client.subscribed(topic, Wanted(delta=True))
    await plain.subscribed(topic)
    stories = [story(n) for n in range(12)]
    await people.publish(topic, *stories)
    await client.hears(topic, *stories)
    await plain.hears(topic, *stories)
    assert (await deltas(client), await deltas(plain)) == (11, 0)
    assert size(await client.frames()) < size(await plain.frames()) / 2


def size(frames: list[str]) -> int:
    return sum(map(len, frames))


async def test_what_was_missed_as_differences(make: Make, people: People, unique: str) -> None:
    """The first of what is recovered is whole; each is right, and so is what comes live after it."""
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(delta=True))
    stories = [story(n) for n in range(10)]
    await people.publish(topic, *stories[:3])
    await client.hears(topic, *stories[:3])
    await client.disconnect()
    await people.publish(topic, *stories[3:8])
    await client.connect()
    assert (await client.event("subscribed", topic, 2)).recovered
    await people.publish(topic, *stories[8:])
    await client.hears(topic, *stories)
    assert await deltas(client) >= 2 + 2


async def test_left_and_taken_up_again(make: Make, people: People, unique: str) -> None:
    """After an unsubscribe the base of before counts for nothing."""
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(delta=True))
    for n in range(0, 8, 2):
        await people.publish(topic, story(n))
        await client.hears(topic, *map(story, range(n + 1)))
        await client.unsubscribe(topic)
        await people.publish(topic, story(n + 1))
        await client.subscribed(topic)
    await client.hears(topic, *map(story, range(8)))


async def test_a_value_as_differences(make: Make, people: People, unique: str) -> None:
    """To the snapshot, and to each newest value that was told."""
    topic = f"test.watched?name={unique}"
    texts = [json.dumps(story(n), ensure_ascii=False) for n in range(5)]
    await people.write(unique, texts[0])
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(delta=True))
    await client.hears(topic, texts[0])
    for n, text in enumerate(texts[1:], 1):
        await people.write(unique, text)
        await client.hears(topic, *texts[: n + 1])
    assert await deltas(client) >= 3
    assert (client.of("disconnected"), client.of("error")) == ([], [])


async def test_signals_between_values(make: Make, people: People, unique: str) -> None:
    """They have no position, and are what the next value differs from all the same."""
    topic = f"test.source?name={unique}"
    texts = [json.dumps(story(n), ensure_ascii=False) for n in range(4)]
    await people.write(unique, texts[0])
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(delta=True))
    await client.hears(topic, texts[0])
    for n, text in enumerate(texts[1:], 1):
        await people.write(unique, text)
        await is_stale(client, topic, n)
        await people.post(f"resources/test.source/refresh?name={unique}")
        await client.hears(topic, *texts[: n + 1])
    assert (client.of("disconnected"), client.of("error")) == ([], [])


async def is_stale(client: Stock, topic: str, times: int) -> None:
    """Wait until it was told so."""

    def said() -> bool:
        return len([event for event in client.of("publication", topic) if event.tags.get("kind") == "stale"]) >= times

    await client.until(said, f"stale no. {times}", topic)


async def test_history_stays_plain(make: Make, people: People, unique: str) -> None:
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(delta=True))
    await people.publish(topic, story(1), story(2))
    await client.hears(topic, story(1), story(2))
    assert (await client.history(topic, -1)).data() == [story(1), story(2)]


@pytest.mark.parametrize("item", ["", 0, None, [], "a", {"a": 1}])
async def test_small_things(make: Make, people: People, unique: str, item: Any) -> None:
    """Where a difference would be no shorter the whole comes."""
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(delta=True))
    await people.publish(topic, item, item, "another", item)
    await client.hears(topic, item, item, "another", item)


async def test_publications_that_are_not_kept(make: Make, people: People, unique: str) -> None:
    """They have no position, and are each other's base all the same."""
    topic = f"brief.{unique}"
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(delta=True))
    stories = [story(n) for n in range(4)]
    await people.publish(topic, *stories)
    await client.hears(topic, *stories)
