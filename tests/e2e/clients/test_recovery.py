"""Who comes back is told everything that was missed, or that it cannot be."""

from __future__ import annotations

import asyncio

from tests.e2e.clients.conftest import Make, in_chromium
from tests.e2e.clients.people import People
from tests.support.clients.chromium import InChromium
from tests.support.clients.stock import Stocked, Wanted


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


@in_chromium
async def test_the_network_is_lost_and_comes_back(make: Make, stocked: Stocked, people: People, unique: str) -> None:
    """The browser says so, the client comes back by itself, and a person has missed nothing."""
    assert isinstance(stocked, InChromium)
    log, value = f"open.{unique}", f"test.watched?name={unique}"
    await people.write(unique, "one")
    client = await make()
    await client.connected()
    await client.subscribed(log)
    await client.subscribed(value)
    await people.publish(log, 1)
    await client.hears(log, 1)
    async with stocked.offline():
        assert (await client.event("connecting", number=2)).code == 1
        await people.publish(log, 2, 3)
        await people.write(unique, "two")
        await asyncio.sleep(1)
        assert client.values(log) == [1]
    assert (await client.event("subscribed", log, 2)).recovered
    await client.hears(log, 1, 2, 3)
    await client.hears(value, "one", "two")
