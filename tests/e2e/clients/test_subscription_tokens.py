"""A token of its own for one topic: it stands for the topic's rule, for its time and its user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.clients.conftest import Make
from tests.e2e.clients.people import People
from tests.support.clients.claims import minted
from tests.support.clients.stock import Wanted
from tests.support.watcher import eventually


async def test_a_token_opens_what_is_closed(make: Make, people: People, unique: str) -> None:
    """The public may follow what it has a token for, a log or a value."""
    closed = {f"members.{unique}": "published", f"test.guarded?name={unique}": f"about {unique}"}
    client = await make()
    await client.connected()
    for topic, value in closed.items():
        await client.subscribed(topic, Wanted(get_token=lambda channel: minted(channel=channel)))
        if topic.startswith("members"):
            await people.publish(topic, "published")
        await client.hears(topic, value)


async def test_a_token_is_its_users(make: Make, people: People, unique: str) -> None:
    topic = f"members.{unique}"
    client = await make(token=minted("ann"))
    await client.connected()
    await client.subscribed(topic, Wanted(token=minted("ann", channel=topic, info={"seat": 7})))
    ((_, info),) = (await client.presence(topic)).items()
    assert (info["user"], info["chan_info"]) == ("ann", {"seat": 7})


async def test_an_expired_token_is_replaced(make: Make, unique: str) -> None:
    """Error 109: the client fetches a new one and subscribes again by itself."""
    topic = f"members.{unique}"
    client = await make()
    await client.connected()
    old, new = minted(ttl=-5, channel=topic), minted(ttl=3600, channel=topic)
    await client.subscribed(topic, Wanted(token=old, get_token=lambda _: new))
    assert [event.code for event in client.of("error", topic)] == [109]
    assert len(client.of("connected")) == 1


async def test_a_subscription_is_refreshed_before_it_ends(make: Make, people: People, unique: str) -> None:
    """A token of three seconds is replaced at its end; nothing is subscribed anew."""
    topic = f"members.{unique}"
    ttls, asked = iter([3, 3]), []

    def renew(channel: str) -> str:
        asked.append(channel)
        return minted(ttl=next(ttls, 3600), channel=channel)

    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(get_token=renew))
    await eventually(lambda: asked == [topic] * 3, "it is refreshed twice")
    await people.publish(topic, "still here")
    await client.hears(topic, "still here")
    assert len(client.of("subscribed", topic)) == len(client.of("subscribing", topic)) == 1
    assert client.of("error", topic) == []


async def test_a_subscription_that_nobody_refreshes(make: Make, unique: str) -> None:
    """Where the application has no new token the client gives up the subscription by itself (its code 1)."""
    topic = f"members.{unique}"
    tokens = iter([minted(ttl=2, channel=topic)])
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(get_token=lambda _: next(tokens, "")))
    assert (await client.event("unsubscribed", topic)).code == 1
    assert len(client.of("connected")) == 1


async def test_a_forged_token_is_refused(make: Make, unique: str) -> None:
    """103 ends this subscription, and nothing else."""
    topic = f"open.{unique}"
    client = await make()
    await client.connected()
    await client.subscribe(topic, Wanted(token=minted(channel=topic, secret="x" * 64)))
    assert (await client.event("unsubscribed", topic)).code == 103
    await client.subscribed(f"{topic}.another")
    assert len(client.of("connected")) == 1


@pytest.mark.parametrize(
    "claims",
    [lambda topic: {"sub": "ann", "channel": "open.another"}, lambda topic: {"sub": "ben", "channel": topic}],
    ids=["another topic", "another user"],
)
async def test_a_token_for_something_else_ends_the_connection(
    make: Make, unique: str, claims: Callable[[str], dict[str, Any]]
) -> None:
    """Whoever mixes up tokens is out of order: 3500."""
    topic = f"open.{unique}"
    client = await make(token=minted("ann"))
    await client.connected()
    await client.subscribe(topic, Wanted(token=minted(**claims(topic))))
    ended = await client.event("disconnected")
    assert (ended.code, bool(ended.reason)) == (3500, True)


async def test_a_refresh_with_a_wrong_token(make: Make, unique: str) -> None:
    """The subscription ends for good, or the connection does; it does not go on for another topic's token."""
    topic = f"members.{unique}"
    tokens = iter([minted(ttl=2, channel=topic)])
    client = await make()
    await client.connected()
    await client.subscribed(topic, Wanted(get_token=lambda _: next(tokens, minted(channel="members.another"))))
    ended = await client.event("disconnected")
    assert ended.code == 3500
