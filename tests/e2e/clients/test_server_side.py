"""Subscriptions that the server makes at connect: those a token names, and the inbox of who has one."""

from __future__ import annotations

from tests.e2e.clients.conftest import Make
from tests.e2e.clients.people import People
from tests.support.clients.claims import minted
from tests.support.clients.stock import Stock


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


async def test_notifications(make: Make, people: People, kind: str, unique: str) -> None:
    """They come as they are made, to each tab; a reconnect brings what was missed; what one tab marks as read the
    others hear of, without a position of its own."""
    inbox = f"inbox#{people.ids['eve']}"
    tab, other = await make(token=minted(people.ids["eve"])), await make(token=minted(people.ids["eve"]))
    for client in (tab, other):
        await client.connected()
        await client.event("subscribed", inbox)
    await people.notify("eve", f"1 {unique}", f"2 {unique}")
    for client in (tab, other):
        await has(client, inbox, f"1 {unique}", f"2 {unique}")
    await other.disconnect()
    await people.notify("eve", f"3 {unique}", f"4 {unique} ❄")
    await other.connect()
    assert (await other.event("subscribed", inbox, 2)).recovered
    for client in (tab, other):
        await has(client, inbox, f"1 {unique}", f"2 {unique}", f"3 {unique}", f"4 {unique} ❄")
        offsets = client.offsets(inbox)
        assert offsets == list(range(offsets[0], offsets[0] + 4))
        assert [event.data["id"] for event in client.of("publication", inbox) if event.offset] == offsets
    told = len(other.of("publication", inbox))
    await tab.rpc("ack", {"up_to": tab.offsets(inbox)[-1]})
    await other.until(lambda: len(other.of("publication", inbox)) > told, "that it was read", inbox)
    read = other.of("publication", inbox)[-1]
    assert (read.offset, bool(read.tags.get("kind"))) == (0, True)


async def has(client: Stock, inbox: str, *titles: str) -> None:
    """Wait until exactly these were told."""

    def told() -> list[str]:
        return [event.data["title"] for event in client.of("publication", inbox) if event.offset]

    await client.until(lambda: told() == [*titles], f"exactly {titles}", inbox)
