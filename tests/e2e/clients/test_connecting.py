"""Who one is, and for how long: anonymous, by a token, by a cookie."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.clients.conftest import Make, in_chromium, javascript, outside_browsers
from tests.e2e.clients.people import People
from tests.support.clients.chromium import InChromium
from tests.support.clients.claims import minted
from tests.support.clients.stock import Stock, Stocked
from tests.support.service import Service
from tests.support.watcher import Watcher, eventually


async def user_of(client: Stock, unique: str) -> str:
    """Whom the service takes a client for."""
    topic = f"open.{unique}"
    await client.subscribed(topic)
    ((_, info),) = (await client.presence(topic)).items()
    return str(info["user"])


async def test_the_public_may_connect(make: Make, unique: str) -> None:
    """Without a token one is anonymous, and sees what is public."""
    client = await make()
    connected = await client.connected()
    assert (bool(connected.client), connected.transport) == (True, "websocket")
    await client.subscribe("test.mine")
    refused = await client.event("unsubscribed", "test.mine")
    assert (refused.code, bool(refused.reason)) == (103, True)
    assert await user_of(client, unique) == ""


async def test_a_token_of_another_back_end_names_its_user(make: Make, unique: str) -> None:
    """Who shares the secret says who somebody is; it need not be a user of ours."""
    client = await make(token=minted("stranger-42", info={"name": "Ötzi"}))
    await client.connected()
    topic = f"open.{unique}"
    subscribed = await client.subscribed(topic)
    assert subscribed.recoverable
    ((who, info),) = (await client.presence(topic)).items()
    assert (who, info["client"]) == (client.of("connected")[0].client,) * 2
    assert (info["user"], info["conn_info"]) == ("stranger-42", {"name": "Ötzi"})


async def test_the_token_is_asked_for_where_there_is_none(make: Make, unique: str) -> None:
    client = await make(get_token=lambda _: minted("stranger", 3600))
    await client.connected()
    assert await user_of(client, unique) == "stranger"


async def test_an_expired_token_is_replaced(make: Make, unique: str) -> None:
    """Error 109 lets the client fetch a new one and come again by itself."""
    asked: list[str] = []

    def renew(channel: str) -> str:
        asked.append(channel)
        return minted("stranger", 3600)

    client = await make(token=minted("stranger", -5), get_token=renew)
    await client.connected()
    assert (len(asked), client.of("disconnected")) == (1, [])
    assert await user_of(client, unique) == "stranger"


async def test_an_expired_token_that_cannot_be_replaced(make: Make) -> None:
    """The client itself gives up, as unauthorized (its code 1)."""
    client = await make(token=minted("stranger", -5))
    await client.connect()
    assert (await client.event("disconnected")).code == 1
    assert client.of("connected") == []


async def test_a_connection_is_refreshed_before_it_ends(make: Make, unique: str) -> None:
    """A token of three seconds is replaced at its end, on the same connection, and what is subscribed goes on."""
    ttls = iter([3, 3])
    asked: list[str] = []

    def renew(channel: str) -> str:
        asked.append(channel)
        return minted("stranger", next(ttls, 3600))

    client = await make(get_token=renew)
    await client.connected()
    topic = f"open.{unique}"
    await client.subscribed(topic)
    await eventually(lambda: len(asked) == 3, "it is refreshed twice")
    await client.publish(topic, "still here")
    await client.hears(topic, "still here")
    assert (len(client.of("connected")), client.of("error"), client.of("disconnected")) == (1, [], [])


async def test_a_refresh_as_somebody_else_ends_the_connection(make: Make) -> None:
    users = iter(["stranger"])
    client = await make(get_token=lambda _: minted(next(users, "another"), 2))
    await client.connected()
    ended = await client.event("disconnected")
    assert (ended.code, bool(ended.reason)) == (3500, True)


async def test_a_connection_that_nobody_refreshes(make: Make) -> None:
    """Where no new token is to be had the client gives up by itself."""
    tokens = iter([minted("stranger", 2)])
    client = await make(get_token=lambda _: next(tokens, ""))
    await client.connected()
    assert (await client.event("disconnected")).code == 1


@pytest.mark.parametrize(
    "token",
    [
        minted("stranger", secret="x" * 64),
        minted("stranger", channel="open.subscription"),
        minted("stranger", nbf=4_000_000_000),
        "no.jwt.atall",
    ],
    ids=["forged", "of a subscription", "not yet", "garbage"],
)
async def test_a_wrong_token_ends_the_connection_for_good(make: Make, token: str) -> None:
    """3500 with its reason: none of the clients comes back."""
    client = await make(token=token)
    await client.connect()
    ended = await client.event("disconnected")
    assert (ended.code, ended.reason) == (3500, "invalid token")
    await asyncio.sleep(0.5)
    assert (client.of("connected"), len(client.of("connecting"))) == ([], 1)


@outside_browsers
async def test_a_cookie_beside_an_allowed_origin(make: Make, people: People, service: Service) -> None:
    """That is a browser's request, and the session's user."""
    cookies = "; ".join(f"{name}={value}" for name, value in (await people.cookies("ann")).items())
    client = await make(headers={"Cookie": cookies, "Origin": service.url})
    await client.connected()
    await client.subscribed("test.mine")
    await client.hears("test.mine", {"user": "ann"})
    without = await make(headers={"Cookie": cookies})
    await without.connected()
    await without.subscribe("test.mine")
    assert (await without.event("unsubscribed", "test.mine")).code == 103


@in_chromium
async def test_a_cookie_in_a_browser(
    kind: str, stocked: Stocked, make: Make, people: People, unique: str, service: Service
) -> None:
    """Who is logged in on the page is so on the websocket, with nothing to do for it."""
    assert isinstance(stocked, InChromium)
    client = await make()
    async with stocked.logged_in(await people.cookies("ben")):
        await client.connected()
        assert await user_of(client, unique) == people.ids["ben"]
        await client.subscribed("test.mine")
        await client.hears("test.mine", {"user": "ben"})


@outside_browsers
async def test_a_foreign_origin_is_refused_for_good(make: Make) -> None:
    """On the open socket, with a code: a refused handshake would be tried for ever."""
    client = await make(headers={"Origin": "http://evil.example"})
    await client.connect()
    ended = await client.event("disconnected")
    assert (ended.code, ended.reason) == (3507, "permission denied")


@javascript
async def test_a_command_that_is_too_long(make: Make, unique: str) -> None:
    """Close code 1009 is final for the JavaScript client (its code 3): it would only send the same again."""
    client = await make()
    await client.connected()
    await client.subscribed(f"open.{unique}")
    with pytest.raises(Exception, match=r"."):
        await client.publish(f"open.{unique}", "x" * 70_000)
    assert (await client.event("disconnected")).code == 3


async def test_protobuf_is_refused_for_good(service: Service) -> None:
    """It is not spoken here: said on the open socket."""
    async with Watcher(service.websocket, use_protobuf=True, proxy=None) as watcher:
        await eventually(lambda: watcher.disconnected, "the refusal")
        assert watcher.disconnected[0].code == 3506
