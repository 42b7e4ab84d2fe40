"""Clients of log topics on a whole web process: what they publish, miss and recover, and who they find there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from asgi_app import access, publishing, tokens, wiring
from asgi_app.env import env
from asgi_app.registry import Principal
from asgi_app.wiring import Node
from cache_layer.redis import Store
from consumers.hub import hub
from consumers.presence import roll
from tests.support.peer import Peer
from tests.support.store import StoreServer

# Whoever is somebody has an inbox.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def process(store: Store, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A web process; whoever a token names is a user of just that id."""

    def stranger(user_id: str) -> Principal:
        scopes = frozenset({"read", "run"})
        return Principal(user_id=user_id, username=user_id, scopes=scopes, is_anonymous=False, permissions=frozenset())

    monkeypatch.setattr(access, "stranger", stranger)
    settings = msgspec.structs.replace(env(), redis_url=store.url, namespace=namespace)
    node = await wiring.start_node(settings)
    node.store._deadline = 5.0  # a busy machine is no store that is away
    yield node
    await hub().stop()
    await roll().stop()
    await wiring.stop_node()


async def connected(user: str = "", **claims: Any) -> Peer:
    """A client, of this user or of the public."""
    peer = Peer()
    await peer.open()
    token = tokens.mint_connection(user, 600, **claims) if user or claims else None
    await peer.say({"id": 1, "connect": {"token": token}})
    peer.greeting = await peer.answer(1)
    assert "client" in peer.greeting, peer.greeting
    return peer


async def gone(*peers: Peer) -> None:
    for peer in peers:
        await peer.leave()


async def test_who_publishes_hears_it_like_everybody() -> None:
    """In order, with who it was; and the reply comes after it is stored."""
    one, other = await connected("7", info={"name": "Eve"}), await connected()
    for peer in (one, other):
        told = await peer.asks(subscribe={"channel": "small.a"})
        assert told["recoverable"] is True
        assert told["epoch"]
    for number in range(3):
        assert await one.asks(publish={"channel": "small.a", "data": {"n": number, "x": "ü"}}) == {}
    expected = [
        {
            "channel": "small.a",
            "pub": {
                "data": {"n": n, "x": "ü"},
                "offset": n + 1,
                "info": {"user": "7", "client": one.greeting["client"], "conn_info": {"name": "Eve"}},
            },
        }
        for n in range(3)
    ]
    assert await one.pushes(3) == expected
    assert await other.pushes(3) == expected
    await gone(one, other)


async def test_publishes_in_one_frame_keep_their_order() -> None:
    """And a history behind them has them all."""
    peer = await connected()
    publishes = [{"id": 10 + n, "publish": {"channel": "open.a", "data": n}} for n in range(20)]
    await peer.say(*publishes, {"id": 30, "history": {"channel": "open.a", "limit": -1}})
    history = await peer.answer(30)
    assert [one["data"] for one in history["publications"]] == list(range(20))
    await gone(peer)


async def test_what_was_missed_is_recovered_or_told_to_be_lost() -> None:
    """From (epoch, offset); from the empty epoch; past the end; of a ring that has gone on; refused where asked."""
    peer = await connected()
    first = await peer.asks(subscribe={"channel": "open.a"})
    assert "offset" not in first
    await peer.asks(unsubscribe={"channel": "open.a"})
    for number in range(1, 4):
        await publishing.publish("open.a", number)

    async def recover(channel: str = "open.a", **fields: Any) -> Any:
        told = await peer.asks(subscribe={"channel": channel, "recover": True, **fields})
        await peer.asks(unsubscribe={"channel": channel})
        return told

    whole = await recover(epoch=first["epoch"], offset=0)
    assert (whole["recovered"], whole.get("offset", 0)) == (True, 0)
    assert [one["data"] for one in whole["publications"]] == [1, 2, 3]
    assert (await recover()).get("recovered") is True
    later = await recover(epoch=first["epoch"], offset=2)
    assert ([one["data"] for one in later["publications"]], later["offset"]) == ([3], 2)
    assert "publications" not in await recover(epoch=first["epoch"], offset=3)
    for lost in ({"epoch": "_", "offset": 0}, *({"epoch": first["epoch"], "offset": n} for n in (9, 10**30))):
        told = await recover(**lost)
        assert told == {
            "recoverable": True,
            "positioned": True,
            "epoch": first["epoch"],
            "offset": 3,
            "was_recovering": True,
        }
    assert (await recover(epoch="_", flag=3))["code"] == 112
    for number in range(5):
        await publishing.publish("small.a", number)
    assert "recovered" not in await recover("small.a", offset=1)
    assert (await recover("small.a", offset=3))["recovered"] is True
    await gone(peer)


async def test_history() -> None:
    """Limits, since, backwards, and what is refused."""
    peer = await connected()
    for number in range(1, 6):
        await publishing.publish("open.h", number)

    async def history(**fields: Any) -> Any:
        return await peer.asks(history={"channel": "open.h", **fields})

    position = await history()
    assert (position["offset"], position["publications"]) == (5, [])
    epoch = position["epoch"]

    async def data(**fields: Any) -> list[Any]:
        return [one["data"] for one in (await history(**fields))["publications"]]

    assert await data(limit=-1) == [1, 2, 3, 4, 5]
    assert await data(limit=2) == [1, 2]
    assert await data(limit=2, since={"offset": 2, "epoch": epoch}) == [3, 4]
    assert await data(limit=2, since={"offset": 2}) == [3, 4]
    assert await data(limit=2, reverse=True) == [5, 4]
    assert await data(limit=-1, since={"offset": 3, "epoch": epoch}, reverse=True) == [2, 1]
    assert (await history(limit=1, since={"offset": 0, "epoch": epoch}, reverse=True))["code"] == 107
    for offset in (-1, 2**53 + 1, 10**30):
        assert (await history(limit=1, since={"offset": offset}))["code"] == 107
    assert (await history(limit=10**30, since={"offset": 2**53}))["publications"] == []
    assert (await history(limit=-(10**30), since={"offset": 2**53}))["publications"] == []
    assert (await history(limit=1, since={"offset": 2, "epoch": "other"}))["code"] == 112
    assert (await peer.asks(history={"channel": "brief.a"}))["code"] == 108
    assert (await peer.asks(history={"channel": "nowhere"}))["code"] == 102
    assert (await peer.asks(history={"channel": "members.a"}))["code"] == 103
    await gone(peer)


async def test_who_is_there() -> None:
    """One sees oneself right after the reply; the public is one user; who leaves is gone at once."""
    one, other, third = await connected("7", info=1), await connected(), await connected()
    for peer in (one, other, third):
        await peer.asks(subscribe={"channel": "open.p"})
        there = (await peer.asks(presence={"channel": "open.p"}))["presence"]
        assert peer.greeting["client"] in there
    client = one.greeting["client"]
    assert there[client] == {"user": "7", "client": client, "conn_info": 1}
    assert await one.asks(presence_stats={"channel": "open.p"}) == {"num_clients": 3, "num_users": 2}
    await third.leave()
    await other.asks(unsubscribe={"channel": "open.p"})
    async with asyncio.timeout(5):
        while await one.asks(presence_stats={"channel": "open.p"}) != {"num_clients": 1, "num_users": 1}:
            pass
    assert await one.asks(presence_stats={"channel": "open.nobody"}) == {"num_clients": 0, "num_users": 0}
    assert (await one.asks(presence={"channel": "small.a"}))["code"] == 108
    assert (await one.asks(presence_stats={"channel": "small.a"}))["code"] == 108
    await gone(one, other)


async def test_who_comes_and_goes_is_told_once() -> None:
    """To the one who comes as well, after its reply; also when a process drains."""
    one = await connected("7")
    await one.asks(subscribe={"channel": "open.j"})
    me = {"user": "7", "client": one.greeting["client"]}
    assert await one.pushes(1) == [{"channel": "open.j", "join": {"info": me}}]
    other = await connected("8")
    await other.asks(subscribe={"channel": "open.j"})
    them = {"user": "8", "client": other.greeting["client"]}
    assert await one.pushes(1) == [{"channel": "open.j", "join": {"info": them}}]
    await other.leave()
    assert await one.pushes(1) == [{"channel": "open.j", "leave": {"info": them}}]
    watching = await connected()
    heard = asyncio.Queue[bytes]()
    await wiring.node().feed.subscribe(wiring.node().store.names.log_channel("open.j"), heard.put_nowait)
    await hub().connections.drain(0.5)
    await gone(one, watching)
    await roll().stop()
    assert await asyncio.wait_for(heard.get(), 5) == b"G" + msgspec.json.encode(me)
    await asyncio.sleep(0.05)
    assert heard.empty()


async def test_a_topic_without_history_tells_what_is_said_now() -> None:
    """No positions, and nothing to come back to."""
    peer = await connected()
    assert await peer.asks(subscribe={"channel": "brief.a", "recover": True}) == {}
    assert await peer.asks(publish={"channel": "brief.a", "data": 1}) == {}
    (push,) = await peer.pushes(1)
    assert push["pub"] == {"data": 1, "info": {"user": "", "client": peer.greeting["client"]}}
    await gone(peer)


async def test_publishing_is_refused_where_it_is_not_allowed() -> None:
    """102 where there is no topic, 103 on others; 107 for what JSON cannot say again."""
    reader, public = await connected("reader"), await connected()
    for peer, channel, code in (
        (reader, "members.a", 103),
        (public, "members.a", 103),
        (public, "log:a", 103),
        (public, "nowhere", 102),
        (public, "test.value", 102),
    ):
        assert (await peer.asks(publish={"channel": channel, "data": 1}))["code"] == code, channel
    assert await (await connected("writer")).asks(publish={"channel": "members.a", "data": 1}) == {}
    await hub().connections.drain(0.1)


async def test_a_subscription_token_stands_for_the_access_of_a_topic() -> None:
    """Of the same user, for the same channel; else 103, 109 or the end."""
    peer = await connected()

    async def subscribe(token: str) -> Any:
        return await peer.asks(subscribe={"channel": "members.t", "token": token})

    assert (await subscribe("x.y.z"))["code"] == 103
    assert (await subscribe(tokens.mint_subscription("members.t", "", -1)))["code"] == 109
    told = await subscribe(tokens.mint_subscription("members.t", "", 60, info={"desk": 4}))
    assert told["expires"] is True
    assert 50 < told["ttl"] <= 60
    there = (await peer.asks(presence={"channel": "members.t"}))["presence"]
    assert there[peer.greeting["client"]]["chan_info"] == {"desk": 4}
    assert (await peer.asks(history={"channel": "members.t"}))["offset"] == 0
    refreshed = await peer.asks(
        sub_refresh={"channel": "members.t", "token": tokens.mint_subscription("members.t", "", 600)}
    )
    assert 500 < refreshed["ttl"] <= 600
    for token, code in ((tokens.mint_subscription("members.t", "", -1), 109), ("x", 103)):
        assert (await peer.asks(sub_refresh={"channel": "members.t", "token": token}))["code"] == code
    assert (await peer.asks(sub_refresh={"channel": "open.a", "token": "t"}))["code"] == 103
    await publishing.publish("members.t", 1)
    assert (await peer.pushes(1))[0]["pub"]["data"] == 1
    await peer.say({"id": 90, "sub_refresh": {"channel": "members.t", "token": tokens.mint_subscription("a", "", 9)}})
    assert await peer.close_code() == (3500, "invalid token")
    await gone(peer)
    for token in (tokens.mint_subscription("other", "", 60), tokens.mint_subscription("members.t", "9", 60)):
        peer = await connected()
        await peer.say({"id": 2, "subscribe": {"channel": "members.t", "token": token}})
        assert await peer.close_code() == (3500, "invalid token")
        await gone(peer)


async def test_the_server_subscribes_what_the_token_says() -> None:
    """What may not be seen or does not exist is left out; who comes back with its position misses nothing."""
    peer = await connected("7", channels=("open.s", "nowhere", "members.s"))
    subs = peer.greeting["subs"]
    assert {"open.s", "members.s"} <= set(subs)
    assert "nowhere" not in subs
    assert "publications" not in subs["open.s"]
    await publishing.publish("open.s", 1)
    told = {kind: push[kind] for push in await peer.pushes(2) for kind in push if kind != "channel"}
    assert told == {
        "join": {"info": {"user": "7", "client": peer.greeting["client"]}},
        "pub": {"data": 1, "offset": 1},
    }
    await gone(peer)
    await publishing.publish("open.s", 2)
    back = Peer()
    await back.open()
    known = {"open.s": {"recover": True, "offset": 1, "epoch": subs["open.s"]["epoch"]}}
    token = tokens.mint_connection("7", 600, channels=("open.s",))
    await back.say({"id": 1, "connect": {"token": token, "subs": known}})
    told = (await back.answer(1))["subs"]["open.s"]
    assert (told["recovered"], told["offset"], [one["data"] for one in told["publications"]]) == (True, 1, [2])
    await gone(back)


async def test_a_client_is_told_deltas_that_it_asked_for() -> None:
    """As texts, from the first publication of the reply on."""
    peer = await connected()
    long = {"text": "é" * 300, "n": 0}
    await publishing.publish("open.d", long)
    told = await peer.asks(subscribe={"channel": "open.d", "delta": "fossil", "recover": True})
    assert told["delta"] is True
    assert json.loads(told["publications"][0]["data"]) == long
    await publishing.publish("open.d", {**long, "n": 1})
    pushed = [push for push in await peer.pushes(2) if "pub" in push]
    (delta,) = pushed
    assert delta["pub"]["delta"] is True
    assert len(delta["pub"]["data"]) < 100
    await gone(peer)


async def test_while_the_store_is_away_everything_may_be_tried_again(process: Node, store_server: StoreServer) -> None:
    """Also a connect with topics of the server's: left out, the client would forget where it stands."""
    peer = await connected()
    process.store._deadline = 0.2
    store_server.freeze()
    try:
        for method in ("subscribe", "history", "presence", "presence_stats"):
            told = await peer.asks(**{method: {"channel": "open.a"}})
            assert (told["code"], told["temporary"]) == (100, True), method
        told = await peer.asks(publish={"channel": "open.a", "data": 1})
        assert (told["code"], told["temporary"]) == (100, True)
        late = Peer()
        await late.open()
        await late.say({"id": 1, "connect": {"token": tokens.mint_connection("", 60, channels=("open.a",))}})
        told = await late.answer(1)
        assert (told["code"], told["temporary"]) == (100, True)
    finally:
        store_server.thaw()
    await gone(peer, late)


async def test_a_token_that_names_a_topic_stands_for_its_access() -> None:
    """Whoever mints it has decided that; for history and for who is there as well."""
    peer = await connected(channels=("members.c",))
    assert "members.c" in peer.greeting["subs"]
    assert (await peer.asks(history={"channel": "members.c"}))["offset"] == 0
    assert peer.greeting["client"] in (await peer.asks(presence={"channel": "members.c"}))["presence"]
    assert (await peer.asks(subscribe={"channel": "members.other"}))["code"] == 103
    await gone(peer)
