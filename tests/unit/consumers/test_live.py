"""The websocket as an ASGI application, on stand-ins for topics and the feed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from asgi_app import access, standing, tokens
from asgi_app.access import Identity
from asgi_app.errors import BadParameters, Denied, Unauthenticated, Unavailable, UnknownResource
from asgi_app.registry import Principal
from asgi_app.standing import Lost
from cache_layer.errors import StoreUnavailable
from consumers import calls, clock, connection, joining, live, routing
from consumers.connections import Connections
from consumers.hub import Hub
from consumers.session import Session
from tests.support.peer import CONNECT, Communicator, Peer
from tests.unit.consumers.stand_ins import FakeFeed, FakeSource, published, snapshot, user


class World:
    """One process: a hub, its feed, and the topics there are."""

    def __init__(self) -> None:
        self.feed = FakeFeed()
        self.hub = Hub(self.feed, "invalidations", Connections(3, 2))  # type: ignore[arg-type]
        self.topics: dict[str, FakeSource | Exception] = {}
        self.asked: list[tuple[str, Principal]] = []

    async def open_topic(self, text: str, principal: Principal, *, trusted: bool = False) -> FakeSource:
        self.asked.append((text, principal))
        found = self.topics.get(text, UnknownResource(text))
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World()
    monkeypatch.setattr(live, "hub", lambda: made.hub)
    monkeypatch.setattr(joining, "open_topic", made.open_topic)
    monkeypatch.setattr(calls, "open_topic", made.open_topic)
    yield made
    assert len(made.hub.connections) == 0
    await made.hub.stop()


async def test_connect_and_subscribes_in_one_frame(world: World) -> None:
    """What the JavaScript client sends first; every answer comes in the order of the questions."""
    world.topics["a"] = FakeSource("a", snapshot(3))
    peer = Peer()
    assert await peer.open() == {"type": "websocket.accept", "subprotocol": None}
    await peer.say(CONNECT, {"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "subscribe": {"channel": "b"}})
    heard: list[Any] = []
    while len(heard) < 3:
        heard += await peer.hears()
    replies = {one["id"]: one for one in heard}
    assert heard[0]["id"] == 1
    assert replies[1]["connect"]["ping"] == 25
    assert replies[2]["subscribe"]["publications"] == [{"data": 3, "offset": 3}]
    assert replies[3]["error"] == {"code": 102, "message": "unknown channel"}
    await peer.leave()


async def test_updates_and_signals_come_under_the_clients_spelling(world: World) -> None:
    """Two spellings of one topic share a channel of the store, and each gets its own pushes."""
    world.topics["a?x=1&y=2"] = world.topics["a?y=2&x=1"] = source = FakeSource("k")
    peer = await Peer().connected()
    for number, name in enumerate(world.topics, 2):
        await peer.say({"id": number, "subscribe": {"channel": name}})
        await peer.hears()
    assert len(world.feed.listeners[source.channel]) == 1
    world.feed.say(source.channel, published(2, b'{"v":2}'))
    world.feed.say(source.channel, b'P{"done":1}')
    heard: list[Any] = []
    while len(heard) < 4:
        heard += await peer.hears()
    assert [one["push"]["channel"] for one in heard] == [*world.topics, *world.topics]
    assert [one["push"]["pub"] for one in heard[::2]] == [
        {"data": {"v": 2}, "offset": 2},
        {"data": {"done": 1}, "tags": {"kind": "progress"}},
    ]
    await peer.leave()


async def test_the_reply_comes_before_what_is_published_meanwhile(world: World) -> None:
    """And the publication is not told twice."""
    world.topics["a"] = source = FakeSource("a", snapshot(1))
    source.gate.clear()
    peer = await Peer().connected()
    await peer.say({"id": 2, "subscribe": {"channel": "a"}})
    while not source.reads:
        await asyncio.sleep(0)
    world.feed.say(source.channel, published(2))
    source.gate.set()
    (reply,) = await peer.hears()
    assert reply["subscribe"]["publications"] == [{"data": 2, "offset": 2}]
    world.feed.say(source.channel, published(3))
    (push,) = await peer.hears()
    assert push["push"]["pub"]["offset"] == 3
    await peer.leave()


async def test_after_unsubscribe_nothing_comes(world: World) -> None:
    """And the hub has let go."""
    world.topics["a"] = source = FakeSource("a")
    peer = await Peer().connected()
    await peer.say({"id": 2, "subscribe": {"channel": "a"}})
    await peer.hears()
    await peer.say({"id": 3, "unsubscribe": {"channel": "a"}})
    assert await peer.hears() == [{"id": 3, "unsubscribe": {}}]
    world.feed.say(source.channel, published(2))
    assert await peer.app.receive_nothing(0.05)
    await peer.leave()


@pytest.mark.parametrize(
    ("error", "code", "message", "temporary"),
    [
        (UnknownResource("a"), 102, "unknown channel", False),
        (Denied("no"), 103, "permission denied", False),
        (BadParameters([{"name": "days", "reason": "must be at most 365"}]), 107, "days: must be at most 365", False),
        (StoreUnavailable("x"), 100, "internal server error", True),
        (RuntimeError("secret"), 100, "internal server error", True),
    ],
)
async def test_refusals(world: World, error: Exception, code: int, message: str, temporary: bool) -> None:
    """Each error of the service has its code; what nobody foresaw is temporary and says nothing."""
    world.topics["a"] = error
    peer = await Peer().connected()
    await peer.say({"id": 2, "subscribe": {"channel": "a"}})
    (reply,) = await peer.hears()
    assert reply["error"] == {"code": code, "message": message} | ({"temporary": True} if temporary else {})
    await peer.leave()


async def test_rpc_read(world: World) -> None:
    """The value with its state and position, as JSON of the service's own."""
    world.topics["a"] = FakeSource("a", snapshot(7, b'{"v":1.50}'))
    peer = await Peer().connected()
    await peer.say({"id": 2, "rpc": {"method": "read", "data": {"topic": "a"}}})
    (reply,) = await peer.hears()
    expected = {"state": "fresh", "age": 0.0, "job": None, "epoch": "aaaaaaaa", "offset": 7, "data": {"v": 1.5}}
    assert reply == {"id": 2, "rpc": {"data": expected}}
    await peer.leave()


async def test_calls_of_one_connection_take_turns(world: World) -> None:
    """Each holds a value of any size until it is in the bounded replies."""
    world.topics["a"] = source = FakeSource("a")
    source.gate.clear()
    peer = await Peer().connected()
    await peer.say(*({"id": n, "rpc": {"method": "read", "data": {"topic": "a"}}} for n in range(2, 12)))
    await asyncio.sleep(0.02)
    assert source.reads == connection._RPCS
    source.gate.set()
    heard: list[Any] = []
    while len(heard) < 10:
        heard += await peer.hears()
    assert all("rpc" in one for one in heard)
    await peer.leave()


async def test_rpc_refresh(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of the job."""

    async def refresh_topic(topic: str, principal: Principal) -> str:
        return f"job of {topic}"

    monkeypatch.setattr("asgi_app.topics.refresh_topic", refresh_topic)
    peer = await Peer().connected()
    await peer.say({"id": 2, "rpc": {"method": "refresh", "data": {"topic": "a"}}})
    assert await peer.hears() == [{"id": 2, "rpc": {"data": {"job": "job of a"}}}]
    await peer.leave()


@pytest.mark.parametrize(
    ("rpc", "code"),
    [
        ({"method": "method"}, 108),
        ({"method": "read"}, 107),
        ({"method": "read", "data": {"topic": 5}}, 107),
        ({"method": "read", "data": {"topic": "a", "x": 1}}, 107),
        ({"method": "read", "data": {"topic": "nope"}}, 102),
        ({"method": "read", "data": {"topic": "failed"}}, 100),
    ],
)
async def test_refused_rpcs(world: World, rpc: dict[str, Any], code: int) -> None:
    """Unknown methods 108, wrong bodies 107, else what the topic says."""
    problem = {"type": "computation-failed", "detail": "boom"}
    world.topics["failed"] = FakeSource("f", snapshot(0, None, state="failed", error=problem))
    peer = await Peer().connected()
    await peer.say({"id": 2, "rpc": rpc})
    (reply,) = await peer.hears()
    assert reply["error"]["code"] == code
    await peer.leave()


async def test_a_binary_frame_and_protobuf_are_turned_away_for_good(world: World) -> None:
    """On the open socket, with the subprotocol the client asked for."""
    peer = Peer()
    await peer.open()
    await peer.app.send_input({"type": "websocket.receive", "bytes": b"\x01"})
    assert await peer.close_code() == (3506, "inappropriate protocol")
    await peer.leave()
    peer = Peer(subprotocols=["centrifuge-protobuf"])
    assert (await peer.open())["subprotocol"] == "centrifuge-protobuf"
    assert await peer.close_code() == (3506, "inappropriate protocol")
    await peer.leave()


async def test_a_json_subprotocol_is_taken(world: World) -> None:
    """Clients that name it want it back."""
    peer = Peer(subprotocols=["x", "centrifuge-json"])
    assert (await peer.open())["subprotocol"] == "centrifuge-json"
    await peer.leave()


async def test_a_foreign_origin_is_refused_on_the_open_socket(world: World) -> None:
    """A refused handshake would be tried for ever."""
    peer = Peer(headers={"origin": "https://evil.example", "host": "localhost"})
    assert (await peer.open())["type"] == "websocket.accept"
    assert await peer.close_code() == (3507, "permission denied")
    await peer.leave()


async def test_a_malformed_frame_closes(world: World) -> None:
    """3501, with its reason."""
    peer = await Peer().connected()
    await peer.say("")
    assert await peer.close_code() == (3501, "bad request")
    await peer.leave()


async def test_connections_over_the_limit_are_closed(world: World) -> None:
    """3504, after the handshake; a left one makes room."""
    peers = [await Peer().connected() for _ in range(3)]
    late = Peer()
    await late.open()
    assert await late.close_code() == (3504, "connection limit")
    await late.leave()
    await peers.pop().leave()
    peers.append(await Peer().connected())
    for peer in peers:
        await peer.leave()


def known(monkeypatch: pytest.MonkeyPatch, identity: Identity | None = None) -> list[None]:
    """No database: tokens of the websocket name users, any other one is that identity.  The renewals of connections."""

    async def reread(identities: Sequence[Identity]) -> list[Identity | Lost]:
        return [replace(one, principal=_limited(one)) for one in identities]

    async def identify(scope: Any) -> Identity:
        assert identity is not None
        return identity

    renewed: list[None] = []
    monkeypatch.setattr(standing, "reread", reread)
    monkeypatch.setattr(standing, "applies", lambda: False)
    monkeypatch.setattr(access, "identify", identify)
    monkeypatch.setattr(access, "close_old_connections", lambda: renewed.append(None))
    return renewed


def _limited(identity: Identity) -> Principal:
    owner = user(identity.principal.user_id or "", scopes=frozenset({"read", "run"})).principal
    return owner if identity.at_most is None else access.with_scopes(owner, owner.scopes & identity.at_most)


def with_token(token: str) -> dict[str, Any]:
    return {"id": 1, "connect": {"token": token}}


async def test_connection_tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who it names is who asks; expired is an error, invalid a close; the principal's own limit holds."""

    known(monkeypatch)
    token = tokens.mint_connection("42", 600)
    peers = []
    for _ in range(2):
        peer = Peer()
        await peer.open()
        await peer.say(with_token(token), {"id": 2, "subscribe": {"channel": "a"}})
        heard: list[Any] = []
        while len(heard) < 2:
            heard += await peer.hears()
        assert 590 < heard[0]["connect"]["ttl"] <= 600
        assert world.asked[-1][1].user_id == "42"
        peers.append(peer)
    third = Peer()
    await third.open()
    await third.say(with_token(token))
    assert await third.close_code() == (3504, "connection limit")
    await third.leave()
    await peers.pop().leave()

    expired = Peer()
    await expired.open()
    await expired.say(with_token(tokens.mint_connection("42", -1)))
    assert await expired.hears() == [{"id": 1, "error": {"code": 109, "message": "token expired"}}]
    await expired.leave()
    invalid = Peer()
    await invalid.open()
    await invalid.say(with_token("x.y.z"))
    assert await invalid.close_code() == (3500, "invalid token")
    await invalid.leave()

    peer = peers.pop()
    await peer.say({"id": 3, "refresh": {"token": tokens.mint_connection("42", 900)}})
    (reply,) = await peer.hears()
    assert 890 < reply["refresh"]["ttl"] <= 900
    await peer.say({"id": 4, "refresh": {"token": tokens.mint_connection("43", 900)}})
    assert await peer.close_code() == (3500, "invalid token")
    await peer.leave()


async def test_a_token_may_allow_less_than_its_user_may(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more; without the claim it allows all of it.  A refresh gives back no right."""
    known(monkeypatch)
    for scopes, allowed in (({"read", "invalidate"}, {"read"}), (set(), set()), (None, {"read", "run"})):
        minted = tokens.mint_connection("42", 600, scopes=None if scopes is None else frozenset(scopes))
        peer = Peer()
        await peer.open()
        await peer.say(with_token(minted), {"id": 2, "rpc": {"method": "read", "data": {"topic": "a"}}})
        while not any(one["id"] == 2 for one in await peer.hears()):
            pass
        assert world.asked[-1][1].scopes == allowed
        await peer.leave()


async def test_a_deactivated_user_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """3500, at connect and at a refresh."""
    known(monkeypatch)
    peer = Peer()
    await peer.open()
    await peer.say(with_token(tokens.mint_connection("42", 600)))
    await peer.hears()

    async def deactivated(identities: Sequence[Identity]) -> list[Identity | Lost]:
        return [Lost.CREDENTIALS for _ in identities]

    monkeypatch.setattr(standing, "reread", deactivated)
    late = Peer()
    await late.open()
    await late.say(with_token(tokens.mint_connection("42", 600)))
    assert await late.close_code() == (3500, "invalid token")
    await late.leave()
    await peer.say({"id": 2, "refresh": {"token": tokens.mint_connection("42", 600)}})
    assert await peer.close_code() == (3500, "invalid token")
    await peer.leave()


async def test_a_connection_ends_with_its_api_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """3005 at its expiry; the next attempt is told that it is invalid."""
    known(monkeypatch, replace(user("u", token="t"), expires_at=time.time() + 0.1))
    peer = Peer(headers={"authorization": "Bearer mp_x"})
    await peer.open()
    await peer.say(CONNECT)
    assert "ttl" not in (await peer.hears())[0]["connect"]
    assert await peer.close_code() == (3005, "connection expired")
    await peer.leave()


async def test_a_revoked_api_token_ends_its_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """3500 as soon as one of its topics is looked at again, and nothing of that is told."""
    known(monkeypatch, user("u", token="t"))

    async def confirm(identity: Identity) -> None:
        raise Unauthenticated("revoked")

    monkeypatch.setattr(access, "confirm", confirm)
    world.topics["a"] = source = FakeSource("a")
    world.hub.judge._confirmed["t"] = time.monotonic()
    peer = await Peer(headers={"authorization": "Bearer mp_x"}).connected()
    await peer.say({"id": 2, "subscribe": {"channel": "a"}})
    await peer.hears()
    world.hub.judge._confirmed.clear()
    source.now = snapshot(2)
    world.feed.say(source.channel, b"C")
    last = await peer.output()
    assert (last["type"], last.get("code")) == ("websocket.close", 3500)
    await peer.leave()
    for command in ({"subscribe": {"channel": "a"}}, {"rpc": {"method": "read", "data": {"topic": "a"}}}):
        peer = await Peer(headers={"authorization": "Bearer mp_x"}).connected()
        await peer.say({"id": 2, **command})
        last = await peer.output()
        assert (last["type"], last.get("code")) == ("websocket.close", 3500)
        await peer.leave()


async def test_without_the_database_an_api_token_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was valid, and nobody has said otherwise; its expiry is known here."""
    known(monkeypatch, user("u", token="t"))

    async def confirm(identity: Identity) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(access, "confirm", confirm)
    world.topics["a"] = FakeSource("a")
    peer = await Peer(headers={"authorization": "Bearer mp_x"}).connected()
    await peer.say({"id": 2, "subscribe": {"channel": "a"}})
    assert "subscribe" in (await peer.hears())[0]
    await peer.leave()


async def test_a_login_that_hangs_is_refused_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the query goes on behind it: clients give up after five seconds."""
    known(monkeypatch)
    answer = threading.Event()

    async def identify(scope: Any) -> Identity:
        await sync_to_async(answer.wait)(5)
        return user("u")

    monkeypatch.setattr(access, "identify", identify)
    monkeypatch.setattr(connection, "_ANSWER_WITHIN", 0.05)
    peer = Peer(headers={"authorization": "Bearer mp_x"})
    await peer.open()
    await peer.say(CONNECT)
    (reply,) = await peer.hears()
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    await peer.leave()
    assert not answer.is_set()
    answer.set()
    while access._behind:
        await asyncio.sleep(0.01)


async def test_an_unsubscribe_right_behind_a_subscribe_ends_all_of_it(world: World) -> None:
    """Signals that a late joiner would hear do not come after the reply of the unsubscribe."""
    world.topics["a"] = source = FakeSource("a", snapshot(0, None))
    first, second = await Peer().connected(), await Peer().connected()
    await first.say({"id": 2, "subscribe": {"channel": "a"}})
    await first.hears()
    world.feed.say(source.channel, b'P{"done":1}')
    await second.say({"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "unsubscribe": {"channel": "a"}})
    assert [one["id"] for one in [*(await second.hears()), *(await second.hears())]] == [2, 3]
    assert await second.app.receive_nothing(0.05)
    for peer in (first, second):
        await peer.leave()


async def test_who_cannot_be_judged_comes_back(world: World) -> None:
    """2500: the rule itself failed, so the subscription ends, but not for good."""
    world.topics["a"] = source = FakeSource("a")
    peer = await Peer().connected()
    await peer.say({"id": 2, "subscribe": {"channel": "a"}})
    await peer.hears()
    source.verdict = RuntimeError("the rule failed")
    world.feed.say(source.channel, b"C")
    (push,) = await peer.hears()
    assert push["push"]["unsubscribe"] == {"code": 2500, "reason": "insufficient state"}
    await peer.leave()


async def test_refreshing_with_an_expired_token_closes(world: World) -> None:
    """3005: the client comes back with another one."""
    peer = Peer()
    await peer.open()
    await peer.say(with_token(tokens.mint_connection("", 600)))
    await peer.hears()
    await peer.say({"id": 2, "refresh": {"token": tokens.mint_connection("", -1)}})
    assert await peer.close_code() == (3005, "connection expired")
    await peer.leave()


async def test_draining_sends_everybody_elsewhere(world: World) -> None:
    """3001, also to those who come now."""
    peer = await Peer().connected()
    draining = asyncio.create_task(world.hub.connections.drain(within=0.5))
    assert await peer.close_code() == (3001, "shutdown")
    await peer.leave()
    await draining
    late = Peer()
    await late.open()
    assert await late.close_code() == (3001, "shutdown")
    await late.leave()


async def test_a_lost_topic_is_unsubscribed(world: World) -> None:
    """For good: 2000."""
    world.topics["a"] = source = FakeSource("a")
    peer = await Peer().connected()
    await peer.say({"id": 2, "subscribe": {"channel": "a"}})
    await peer.hears()
    source.now = Denied("revoked")
    world.feed.say(source.channel, b"C")
    (push,) = await peer.hears()
    assert push == {"push": {"channel": "a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}
    await peer.leave()


async def test_leaving_frees_everything(world: World) -> None:
    """Subscriptions under way too."""
    world.topics["a"], world.topics["b"] = first, second = FakeSource("a"), FakeSource("b")
    second.gate.clear()
    peer = await Peer().connected()
    await peer.say({"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "subscribe": {"channel": "b"}})
    await peer.hears()
    await peer.leave()
    assert all(line.idle for line in world.hub._lines.values())
    second.gate.set()
    assert first.reads == 1


async def test_pings_are_sent_and_silence_closes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the connection's own timer."""
    monkeypatch.setattr(clock, "PING", 0.04)
    monkeypatch.setattr(clock, "PONG_WITHIN", 0.03)
    peer = await Peer().connected()
    assert await peer.hears() == [{}]
    await peer.say({})
    assert await peer.hears() == [{}]
    assert await peer.close_code() == (3012, "no pong")
    await peer.leave()


async def test_another_path_is_no_websocket(world: World) -> None:
    """The handshake is refused."""
    app = Communicator(
        routing.application, {"type": "websocket", "path": "/elsewhere", "headers": [], "subprotocols": []}
    )
    await app.send_input({"type": "websocket.connect"})
    assert (await app.receive_output(1))["type"] == "websocket.close"
    await app.wait(1)


async def test_a_value_that_the_server_subscribes_follows_the_reply(world: World) -> None:
    """Clients read no publications there that are not recovered; who comes back holds it, and gets nothing."""
    world.topics["a"] = source = FakeSource("a", snapshot(3))
    world.topics["refused"] = Denied("no")
    token = tokens.mint_connection("", 600, channels=("a", "refused", "nowhere"))
    peer = Peer()
    await peer.open()
    await peer.say(with_token(token))
    subs = (await peer.answer(1))["subs"]
    assert set(subs) == {"a"}
    assert not {"publications", "offset", "recovered"} & set(subs["a"])
    assert await peer.pushes(1) == [{"channel": "a", "pub": {"data": 3, "offset": 3}}]
    world.feed.say(source.channel, published(4))
    assert await peer.pushes(1) == [{"channel": "a", "pub": {"data": 4, "offset": 4}}]
    await peer.leave()
    back = Peer()
    await back.open()
    known = {"a": {"recover": True, "offset": 4, "epoch": subs["a"]["epoch"]}}
    await back.say({"id": 1, "connect": {"token": token, "subs": known}})
    assert (await back.answer(1))["subs"]["a"]["recovered"] is True
    assert await back.app.receive_nothing(0.05)
    await back.leave()


async def test_what_the_server_subscribes_is_told_after_the_reply(world: World) -> None:
    """Though one of them is there long before the other, and goes on."""
    world.topics["a"], world.topics["b"] = fast, slow = FakeSource("a", snapshot(1)), FakeSource("b", snapshot(1))
    slow.gate.clear()
    peer = Peer()
    await peer.open()
    await peer.say(with_token(tokens.mint_connection("", 600, channels=("a", "b"))))
    while not (fast.reads and slow.reads):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    world.feed.say(fast.channel, published(2))
    world.feed.say(fast.channel, b'P{"done":1}')
    slow.gate.set()
    assert set((await peer.answer(1))["subs"]) == {"a", "b"}
    told = await peer.pushes(3)
    assert sorted((push["channel"], push["pub"]["data"]) for push in told if "offset" in push["pub"]) == [
        ("a", 2),
        ("b", 1),
    ]
    await peer.leave()


async def test_a_store_that_is_away_makes_a_client_with_topics_of_the_servers_come_back(world: World) -> None:
    """100, and nothing stays behind of those that were there."""
    world.topics["a"], world.topics["b"] = FakeSource("a"), StoreUnavailable("away")
    peer = Peer()
    await peer.open()
    await peer.say(with_token(tokens.mint_connection("", 600, channels=("a", "b"))))
    assert await peer.answer(1) == {"code": 100, "message": "internal server error", "temporary": True}
    assert all(line.idle for line in world.hub._lines.values())
    await peer.leave()


async def test_another_epoch_of_what_the_server_subscribed_closes(world: World) -> None:
    """3010: clients come back to it only by connecting again."""
    world.topics["a"] = source = FakeSource("a")
    peer = Peer()
    await peer.open()
    await peer.say(with_token(tokens.mint_connection("", 600, channels=("a",))))
    await peer.answer(1)
    await peer.pushes(1)
    world.feed.say(source.channel, published(1, epoch="bbbbbbbb"))
    assert await peer.close_code() == (3010, "insufficient state")
    await peer.leave()


async def test_leaving_while_the_server_subscribes_frees_everything(world: World) -> None:
    """Those that were there already too."""
    world.topics["a"], world.topics["b"] = _, slow = FakeSource("a"), FakeSource("b")
    slow.gate.clear()
    peer = Peer()
    await peer.open()
    await peer.say(with_token(tokens.mint_connection("", 600, channels=("a", "b"))))
    while len(world.hub._lines) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    await peer.leave()
    assert all(line.idle for line in world.hub._lines.values())
    slow.gate.set()


@pytest.mark.parametrize("where", ["receive", "subscribed"])
async def test_a_command_that_can_never_be_answered_ends_the_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """3004: the client comes back and begins anew."""

    def fail(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("a mistake of our own")

    world.topics["a"] = FakeSource("a")
    peer = await Peer().connected()
    monkeypatch.setattr(Session, where, fail)
    await peer.say({"id": 2, "subscribe": {"channel": "a"}})
    assert await peer.close_code() == (3004, "internal server error")
    await peer.leave()


async def test_what_is_lost_while_the_server_subscribes_is_left_out(world: World) -> None:
    """Its value was for somebody who may not see it any more."""
    world.topics["a"], world.topics["b"] = fast, slow = FakeSource("a"), FakeSource("b")
    slow.gate.clear()
    peer = Peer()
    await peer.open()
    await peer.say(with_token(tokens.mint_connection("", 600, channels=("a", "b"))))
    while not (fast.reads and slow.reads):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    fast.now = fast.verdict = Denied("revoked")
    world.feed.say(fast.channel, b"C")
    while any(not line.idle for line in world.hub._lines.values() if line.source is fast):
        await asyncio.sleep(0.01)
    slow.gate.set()
    assert set((await peer.answer(1))["subs"]) == {"b"}
    assert await peer.pushes(1) == [{"channel": "b", "pub": {"data": 1, "offset": 1}}]
    await peer.leave()
