"""Topics of which everything is told in order: publishing, history, who is there, who comes and goes."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.clients.conftest import Make
from tests.e2e.clients.people import People
from tests.support.clients.claims import minted
from tests.support.clients.stock import StockError, Wanted

#: Text that is cut in its middle wherever one cuts bytes.
ITEMS = [{"text": "grüß Gott"}, ["дякую", 1.5, None, True], '漢字 🦆\n\t"\\', 0, False, "", {"nested": {"empty": {}}}]


async def test_what_is_published_comes_to_all_in_order(make: Make, people: People, unique: str) -> None:
    """From a client and from the server; the publisher gets its own too, and all see who it was."""
    topic = f"open.{unique}"
    publisher, reader = await make(token=minted("stranger")), await make()
    for client in (publisher, reader):
        await client.connected()
        subscribed = await client.subscribed(topic)
        assert (subscribed.recoverable, subscribed.offset, bool(subscribed.epoch)) == (True, 0, True)
    for item in ITEMS:
        await publisher.publish(topic, item)
    await people.publish(topic, *ITEMS)
    for client in (publisher, reader):
        await client.hears(topic, *ITEMS, *ITEMS)
        assert client.offsets(topic) == list(range(1, 2 * len(ITEMS) + 1))
        publications = client.of("publication", topic)
        who = publications[0].info
        assert (who["user"], who["client"]) == ("stranger", publisher.of("connected")[0].client)
        assert publications[-1].info == {}


async def test_who_may_publish(make: Make, people: People, unique: str) -> None:
    """Who may follow may not always publish; a topic that is not there takes nothing; nobody publishes values."""
    stranger, reader = await make(token=minted("stranger")), await make(token=minted(people.ids["reader"]))
    public = await make()
    topic = f"members.{unique}"
    for client in (stranger, reader, public):
        await client.connected()
    await stranger.subscribed(topic)
    await reader.subscribed(topic)
    await stranger.publish(topic, "from a stranger")
    await reader.hears(topic, "from a stranger")
    for client, channel, code in (
        (reader, topic, 103),
        (public, topic, 103),
        (public, "nowhere", 102),
        (public, f"test.echo?text={unique}", 103),
    ):
        with pytest.raises(StockError) as refused:
            await client.publish(channel, "no")
        assert refused.value.code == code, channel
    assert reader.values(topic) == ["from a stranger"]


async def test_history(make: Make, people: People, unique: str) -> None:
    """From either end, from a position on, and the position alone; subscribed or not."""
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    empty = await client.history(topic, 0)
    assert (empty.offset, bool(empty.epoch), empty.data()) == (0, True, [])
    await people.publish(topic, *range(1, 26))  # of which 20 are kept
    position = await client.history(topic, 0)
    assert (position.offset, position.epoch, position.data()) == (25, empty.epoch, [])
    everything = await client.history(topic, -1)
    assert (everything.data(), everything.offsets()) == ([*range(6, 26)],) * 2
    assert (await client.history(topic, 3)).data() == [6, 7, 8]
    assert (await client.history(topic, 3, reverse=True)).data() == [25, 24, 23]
    assert (await client.history(topic, 2, (20, empty.epoch))).data() == [21, 22]
    assert (await client.history(topic, 2, (20, empty.epoch), reverse=True)).data() == [19, 18]
    assert (await client.history(topic, -1, (25, empty.epoch))).data() == []


@pytest.mark.parametrize(
    ("topic", "since", "code"),
    [
        ("open.wrong", (1, "another"), 112),
        ("brief.history", None, 108),
        ("test.echo", None, 108),
        ("members.history", None, 103),
        ("nowhere", None, 102),
    ],
)
async def test_history_that_cannot_be_told(make: Make, topic: str, since: tuple[int, str] | None, code: int) -> None:
    client = await make()
    await client.connected()
    with pytest.raises(StockError) as refused:
        await client.history(topic, 1, since)
    assert refused.value.code == code


async def test_nothing_is_kept_of_a_brief_topic(make: Make, unique: str) -> None:
    """It is told to whoever is there, without a position."""
    topic = f"brief.{unique}"
    client, late = await make(), await make()
    await client.connected()
    subscribed = await client.subscribed(topic)
    assert (subscribed.recoverable, subscribed.offset) == (False, 0)
    await client.publish(topic, "now")
    await client.hears(topic, "now")
    assert client.offsets(topic) == []
    await late.connected()
    await late.subscribed(topic)
    await client.publish(topic, "later")
    await late.hears(topic, "later")


async def test_who_is_there(make: Make, unique: str) -> None:
    """By connection, with the user; several connections of one user are one user, and so are all of the public."""
    topic = f"open.{unique}"
    made = [await make(token=minted("stranger")), await make(token=minted("stranger")), await make(), await make()]
    asking = await make()
    await asking.connected()
    assert await asking.presence_stats(topic) == (0, 0)
    for client in made:
        await client.connected()
        await client.subscribed(topic)
    there = await asking.presence(topic)
    assert {who: info["user"] for who, info in there.items()} == {
        client.of("connected")[0].client: user
        for client, user in zip(made, ("stranger", "stranger", "", ""), strict=True)
    }
    assert await asking.presence_stats(topic) == (4, 2)
    await made[0].unsubscribe(topic)
    await made[0].event("unsubscribed", topic)
    await made[1].disconnect()
    while await asking.presence_stats(topic) != (2, 1):  # the time of the test is its deadline
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("topic", ["small.presence", "test.echo"])
async def test_nobody_is_told_who_is_there(make: Make, topic: str) -> None:
    client = await make()
    await client.connected()
    for asked in (client.presence, client.presence_stats):
        with pytest.raises(StockError) as refused:
            await asked(topic)
        assert refused.value.code == 108


async def test_who_comes_and_goes(make: Make, unique: str) -> None:
    """The joiner is told its own join; a disconnect is a leave, too."""
    topic = f"open.{unique}"
    ann, ben = await make(token=minted("ann")), await make(token=minted("ben"))
    for client in (ann, ben):
        await client.connected()
        await client.subscribed(topic)
        await client.event("join", topic)
    assert (await ann.event("join", topic, 2)).info["user"] == "ben"
    await ben.unsubscribe(topic)
    left = await ann.event("leave", topic)
    assert (left.info["user"], left.info["client"]) == ("ben", ben.of("connected")[0].client)
    await ben.subscribed(topic)
    await ann.event("join", topic, 3)
    await ben.disconnect()
    await ann.event("leave", topic, 2)
    assert [event.info["user"] for event in ann.of("join", topic)] == ["ann", "ben", "ben"]


async def test_unsubscribed_is_silent_and_can_be_taken_up_again(make: Make, people: People, unique: str) -> None:
    """What was missed in between comes when one subscribes again."""
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    await client.subscribed(topic)
    await people.publish(topic, 1)
    await client.hears(topic, 1)
    await client.unsubscribe(topic)
    assert (await client.event("unsubscribed", topic)).code == 0
    await people.publish(topic, 2, 3)
    assert client.values(topic) == [1]
    back = await client.subscribed(topic)
    assert (back.was_recovering, back.recovered) == (True, True)
    await client.hears(topic, 1, 2, 3)


async def test_a_topic_that_tells_nobody_who_comes(make: Make, people: People, unique: str) -> None:
    """Not even a client that asks for it."""
    topic = f"members.{unique}"
    client = await make(token=minted("stranger"))
    await client.connected()
    await client.subscribed(topic, Wanted(join_leave=True))
    await people.publish(topic, 1)
    await client.hears(topic, 1)
    assert client.of("join", topic) == []
