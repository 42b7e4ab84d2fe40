"""Subscriptions that the server makes at connect: those a token names, and the inbox of who has one."""

from __future__ import annotations

from tests.e2e.clients.conftest import Make
from tests.e2e.clients.people import People
from tests.support.clients.claims import minted


async def test_a_token_names_topics(make: Make, people: People, unique: str) -> None:
    """They are there with the connection, closed ones too: the token says so."""
    topics = [f"members.{unique}", f"open.{unique}"]
    client = await make(token=minted(channels=topics))
    await client.connected()
    for topic in topics:
        subscribed = await client.event("subscribed", topic)
        assert (subscribed.recoverable, subscribed.offset, bool(subscribed.epoch)) == (True, 0, True)
        await people.publish(topic, f"on {topic}")
        await client.hears(topic, f"on {topic}")


async def test_what_was_missed_comes_with_the_reconnect(make: Make, people: People, unique: str) -> None:
    """They recover as others do."""
    topic = f"members.{unique}"
    client = await make(token=minted("stranger", channels=[topic]))
    await client.connected()
    await client.event("subscribed", topic)
    await people.publish(topic, 1)
    await client.hears(topic, 1)
    await client.disconnect()
    await people.publish(topic, 2, 3)
    await client.connect()
    back = await client.event("subscribed", topic, 2)
    assert (back.was_recovering, back.recovered) == (True, True)
    await people.publish(topic, 4)
    await client.hears(topic, 1, 2, 3, 4)
    assert client.offsets(topic) == [1, 2, 3, 4]


async def test_who_joins_this_way_is_there(make: Make, unique: str) -> None:
    topic = f"open.{unique}"
    client = await make(token=minted("stranger", channels=[topic]))
    await client.connected()
    assert (await client.event("join", topic)).info["user"] == "stranger"
    assert await client.presence_stats(topic) == (1, 1)


async def test_a_value_topic_can_be_given(make: Make, people: People, unique: str) -> None:
    """Its newest value follows as a publication."""
    topic = f"test.watched?name={unique}"
    await people.write(unique, "one")
    client = await make(token=minted(channels=[topic]))
    await client.connected()
    await client.event("subscribed", topic)
    await client.hears(topic, "one")
    await people.write(unique, "two")
    await client.hears(topic, "one", "two")


async def test_the_inbox_of_a_user(make: Make, people: People) -> None:
    """Whoever is a user here has theirs at once, with its position only, and nobody else gets it."""
    inbox = f"inbox#{people.ids['ann']}"
    client, other = await make(token=minted(people.ids["ann"])), await make(token=minted(people.ids["ben"]))
    await client.connected()
    subscribed = await client.event("subscribed", inbox)
    assert (subscribed.recoverable, bool(subscribed.epoch), client.values(inbox)) == (True, True, [])
    await other.connected()
    await other.subscribe(inbox)
    assert (await other.event("unsubscribed", inbox)).code == 103
