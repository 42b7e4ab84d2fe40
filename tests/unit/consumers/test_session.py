"""The protocol as transcripts, connecting, calling and time: frames in, replies and effects out."""

from __future__ import annotations

from typing import Any

import pytest

from cache_layer.position import Position
from consumers import commands, effects
from consumers.effects import Call
from consumers.frames import Closes, Errors, Unsubscribes
from consumers.limits import CALLS, Limits
from tests.unit.consumers.talk import VALUE, Talk, log, publications, subscribe

# Connecting


def test_a_connect_is_answered_once_it_is_authenticated() -> None:
    """With the client's id, a version, and pings that want pongs."""
    talk = Talk().say({"id": 1, "connect": {"token": "t", "name": "js"}})
    assert talk.does == [effects.Authenticate("t")]
    assert talk.frames == []
    talk.took(talk.session.authenticated(now=0.5, expires_in=None, refreshable=True))
    assert talk.frames == [{"id": 1, "connect": {"client": "c1", "version": "v", "ping": 25, "pong": True}}]


def test_commands_in_the_frame_of_the_connect_wait_for_it() -> None:
    """They are answered after it, in their order."""
    talk = Talk().say({"id": 1, "connect": {}}, subscribe("a"), {"id": 3, "unsubscribe": {"channel": "b"}})
    assert talk.session.crowded
    talk.took(talk.session.authenticated(now=0.0, expires_in=None, refreshable=False))
    assert [frame["id"] for frame in talk.frames] == [1, 3]
    assert talk.does == [effects.Authenticate(""), effects.Subscribe("a")]
    assert not talk.session.crowded


def test_an_expired_token_is_an_error_and_ends_the_use_of_the_connection() -> None:
    """The client reconnects with a new one; the rest of its frame is dropped, and so is what follows."""
    talk = Talk().say({"id": 1, "connect": {"token": "t"}}, subscribe("a"))
    talk.took(talk.session.refused(Errors.TOKEN_EXPIRED, now=3.0)).say(subscribe("b"))
    assert talk.frames == [{"id": 1, "error": {"code": 109, "message": "token expired"}}]
    assert talk.closed is None
    assert talk.say({"id": 2, "connect": {}}).closed is Closes.BAD_REQUEST


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "rpc", "publish", "history", "send", "refresh"])
def test_whatever_comes_before_connect_is_a_bad_request(method: str) -> None:
    """3501."""
    assert Talk().say({"id": 1, method: {}}).closed is Closes.BAD_REQUEST


def test_a_second_connect_is_a_bad_request() -> None:
    """While the first is under way, and after it."""
    assert Talk().say({"id": 1, "connect": {}}, {"id": 2, "connect": {}}).closed is Closes.BAD_REQUEST
    assert Talk().connected().say({"id": 2, "connect": {}}).closed is Closes.BAD_REQUEST


@pytest.mark.parametrize("text", ["", "\n", "x", "[]", '{"id":5}', '{"rpc":{}}', '{"id":5,"dance":{}}'])
def test_a_malformed_frame_is_a_bad_request(text: str) -> None:
    """3501, and nothing is answered any more."""
    talk = Talk().connected().say(text)
    assert talk.closed is Closes.BAD_REQUEST
    assert talk.say({"id": 6, "rpc": {"method": "read"}}).frames == []
    assert talk.session.next_deadline is None


def test_a_frame_over_the_limit_closes_1009() -> None:
    """The limit counts bytes."""
    assert Talk().connected().say({"id": 2, "rpc": {"method": "x" * 1900}}).closed is None
    assert Talk().connected().say({"id": 2, "rpc": {"method": "x" * 2000}}).closed is Closes.TOO_BIG
    assert Talk().connected().say('{"id":2,"rpc":{"method":"' + "ü" * 1000 + '"}}').closed is Closes.TOO_BIG


# What the server subscribes by itself


def welcome(*channels: str, **connect: Any) -> Talk:
    """A client that connects and is to follow these."""
    talk = Talk().say({"id": 1, "connect": connect}, {"id": 2, "history": {"channel": "z"}})
    return talk.took(talk.session.authenticated(now=0.0, expires_in=None, refreshable=False, channels=channels))


def test_the_reply_to_connect_carries_what_the_server_subscribes() -> None:
    """The first time only the position; what came behind the connect waits for it."""
    talk = welcome("inbox#1", "v")
    assert talk.does == [
        effects.Authenticate(""),
        effects.Welcome((effects.Subscribe("inbox#1"), effects.Subscribe("v"))),
    ]
    assert talk.frames == []
    talk.took(talk.session.welcomed({"inbox#1": log(7), "v": VALUE}, now=0.0))
    state = {"state": "fresh", "age": 0.5, "job": None}
    assert talk.last["connect"]["subs"] == {
        "inbox#1": {"recoverable": True, "positioned": True, "epoch": "e", "offset": 7},
        "v": {"recoverable": True, "positioned": True, "epoch": "e", "data": state},
    }
    assert isinstance(talk.does[-1], Call)


def test_a_client_that_comes_back_recovers_what_the_server_subscribes() -> None:
    """From the position in its connect, which may leave out what is 0 or empty."""
    subs = {"inbox#1": {"recover": True, "offset": 5, "epoch": "e"}, "b": {"recover": True}, "c": {"offset": 5}}
    talk = welcome("inbox#1", "b", "c", subs=subs)
    assert talk.does[1] == effects.Welcome(
        (
            effects.Subscribe("inbox#1", since=Position("e", 5)),
            effects.Subscribe("b", since=Position("", 0)),
            effects.Subscribe("c"),
        )
    )
    held = {"inbox#1": log(7, publications(6, 7)), "b": log(7), "c": log(7)}
    result = talk.took(talk.session.welcomed(held, now=0.0)).last["connect"]["subs"]
    assert (result["inbox#1"]["offset"], result["inbox#1"]["recovered"]) == (5, True)
    assert [one["offset"] for one in result["inbox#1"]["publications"]] == [6, 7]
    assert (result["b"]["offset"], result["b"]["was_recovering"]) == (7, True)
    assert not {"recovered", "publications"} & (set(result["b"]) | set(result["c"]))


def test_what_the_server_cannot_subscribe_is_left_out() -> None:
    """It stands no more than what was never asked for."""
    talk = welcome("a", "b")
    talk.took(talk.session.welcomed({"b": log(1)}, now=0.0))
    assert set(talk.last["connect"]["subs"]) == {"b"}
    assert talk.say(subscribe("b")).error[0] == Errors.ALREADY_SUBSCRIBED.number
    assert talk.say(subscribe("a")).does[-1] == effects.Subscribe("a")


def test_what_the_server_subscribed_comes_back_by_a_reconnect() -> None:
    """Clients cannot subscribe it again by themselves; what has ended for good is pushed."""
    talk = welcome("a", "b")
    talk.took(talk.session.welcomed({"a": log(1), "b": log(1)}, now=0.0))
    talk.took(talk.session.expelled("b", Unsubscribes.SERVER))
    assert talk.last["push"] == {"channel": "b", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
    talk.took(talk.session.expelled("a", Unsubscribes.INSUFFICIENT_STATE))
    assert talk.closed is Closes.INSUFFICIENT_STATE


def test_more_channels_than_subscriptions_are_refused() -> None:
    """3505: a token that names them all will not do better the next time."""
    assert welcome("a", "b", "c", "d").closed is Closes.CHANNEL_LIMIT


def test_a_greeting_goes_along() -> None:
    """Streams have to say where their client's commands shall go."""
    talk = Talk(greeting={"session": "s", "node": "n"}).say({"id": 1, "connect": {}})
    talk.took(talk.session.authenticated(now=0.0, expires_in=None, refreshable=False))
    assert (talk.last["connect"]["session"], talk.last["connect"]["node"]) == ("s", "n")


# Calls


def rpc(command_id: int, method: str = "read", data: Any = None) -> Call:
    return Call(command_id, "rpc", commands.Rpc(method=method, data=data))


def test_an_rpc_is_called_and_answered() -> None:
    """The result goes through as JSON text."""
    talk = Talk().connected().say({"id": 4, "rpc": {"method": "read", "data": {"topic": "a"}}})
    assert talk.does == [rpc(4, "read", {"topic": "a"})]
    talk.took(talk.session.answered(rpc(4), b'{"data":{"x":1}}'))
    assert talk.last == {"id": 4, "rpc": {"data": {"x": 1}}}


@pytest.mark.parametrize(
    ("command", "body"),
    [
        ({"publish": {"channel": "a", "data": {"x": 1}}}, commands.Publish(channel="a", data={"x": 1})),
        ({"history": {"channel": "a"}}, commands.History(channel="a")),
        (
            {"history": {"channel": "a", "limit": -1, "since": {"offset": 3, "epoch": "e"}, "reverse": True}},
            commands.History(channel="a", limit=-1, since=commands.Since(offset=3, epoch="e"), reverse=True),
        ),
        ({"presence": {"channel": "a"}}, commands.OfChannel(channel="a")),
        ({"presence_stats": {"channel": "a"}}, commands.OfChannel(channel="a")),
    ],
)
def test_what_is_asked_of_a_topic_is_called_and_answered(command: dict[str, Any], body: Any) -> None:
    """Subscribed or not; the reply carries the object of its method, also when it is empty."""
    (method,) = command
    talk = Talk().connected().say({"id": 4, **command})
    call = Call(4, method, body)
    assert talk.does == [call]
    assert talk.took(talk.session.answered(call, b"{}")).last == {"id": 4, method: {}}
    refused = talk.say({"id": 5, **command}).took(talk.session.call_failed(call, Errors.NOT_AVAILABLE))
    assert refused.error == (108, "not available")


def test_calls_about_a_topic_wait_for_its_subscribe_under_way() -> None:
    """So that who publishes behind a subscribe hears of it, and finds itself among those who are there."""
    talk = Talk().connected().say(subscribe("a"), {"id": 3, "publish": {"channel": "a", "data": 1}})
    talk.say({"id": 4, "presence": {"channel": "a"}}, {"id": 5, "publish": {"channel": "b", "data": 1}})
    assert [effect.id for effect in talk.does if isinstance(effect, Call)] == [5]
    talk.took(talk.session.subscribed("a", VALUE, now=0.0))
    assert [effect.id for effect in talk.does if isinstance(effect, Call)] == [5, 3, 4]


def test_calls_under_way_are_limited() -> None:
    """More of them are too many requests, until some are answered."""
    talk = Talk(limits=Limits(subscriptions=3, command_rate=50, message=10_000, replies=100)).connected()
    talk.say(*[{"id": n, "rpc": {"method": "m"}} for n in range(1, CALLS + 1)], {"id": 98, "history": {"channel": "a"}})
    assert talk.error[0] == Errors.TOO_MANY_REQUESTS.number
    talk.took(talk.session.call_failed(rpc(1), Errors.NOT_AVAILABLE))
    assert talk.say({"id": 99, "rpc": {"method": "m"}}).does[-1] == rpc(99, "m")


def test_answers_that_wait_to_be_written_are_bounded() -> None:
    """A client that does not read cannot pile up values here; what it takes makes room, and one answer always fits."""
    talk = Talk().connected().say(*[{"id": n, "rpc": {"method": "read"}} for n in range(1, 6)])
    large = b'{"data":"%b"}' % (b"x" * 150)
    held = talk.session.answered(rpc(1), large)
    assert talk.took(talk.session.answered(rpc(2), b"1")).error == (111, "too many requests")
    talk.took(held)
    assert talk.last == {"id": 1, "rpc": {"data": "x" * 150}}
    waiting = [
        *talk.session.answered(rpc(3), b'{"data":"%b"}' % (b"a" * 50)),
        *talk.session.answered(rpc(4), b'{"data":"%b"}' % (b"b" * 20)),
    ]
    assert talk.took(talk.session.answered(rpc(5), b"123456789")).error[0] == 111
    assert talk.took(waiting).frames[-2:] == [
        {"id": 3, "rpc": {"data": "a" * 50}},
        {"id": 4, "rpc": {"data": "b" * 20}},
    ]


def test_a_send_has_no_handler() -> None:
    """3508."""
    assert Talk().connected().say({"send": {"data": 1}}).closed is Closes.NOT_AVAILABLE


def test_too_many_commands() -> None:
    """Over the burst 111, which clients retry; who goes on for another burst is closed, and has to calm down."""
    talk = Talk(limits=Limits(subscriptions=3, command_rate=5, message=10_000, replies=100)).connected()
    unsubscribe = {"id": 3, "unsubscribe": {"channel": "z"}}
    talk.say(*[unsubscribe] * 9)
    assert "error" not in talk.last
    talk.say(unsubscribe)
    assert talk.last["error"] == {"code": 111, "message": "too many requests", "temporary": True}
    talk.say(unsubscribe, now=0.5)
    assert "error" not in talk.last
    assert talk.say(*[unsubscribe] * 20, now=0.5).closed is Closes.TOO_MANY_REQUESTS


# Time


def test_a_connection_without_connect_goes_stale() -> None:
    """3502 after 10 seconds."""
    talk = Talk()
    assert talk.session.next_deadline == 10.0
    assert talk.tick(9.9).closed is None
    assert talk.tick(10.0).closed is Closes.STALE


def test_a_connection_whose_login_takes_its_time_is_not_stale() -> None:
    """The connect is there; a refused client that stays nevertheless is sent away, and may come back."""
    talk = Talk().say({"id": 1, "connect": {}}, now=9.0)
    assert talk.session.next_deadline is None
    assert talk.tick(12.0).closed is None
    talk.took(talk.session.refused(Errors.INTERNAL, now=13.0))
    assert talk.tick(22.9).closed is None
    assert talk.tick(23.0).closed is Closes.EXPIRED


@pytest.mark.parametrize(("luck", "first"), [(0.0, 12.5), (0.5, 18.75), (0.999, 24.9875)])
def test_the_first_ping_comes_spread_over_half_an_interval(luck: float, first: float) -> None:
    """So that those who connected together are not pinged together."""
    talk = Talk(luck=luck).connected()
    assert talk.session.next_deadline == first
    assert talk.tick(first - 0.01).frames == []
    assert talk.tick(first).frames == [{}]


def test_pings_are_never_left_out() -> None:
    """Every 25 seconds, whatever else was sent: the Python client listens for nothing else."""
    talk = Talk().connected()
    for now in (12.5, 37.5, 62.5):
        talk.say({"id": 3, "unsubscribe": {"channel": "z"}}, now=now - 0.1).frames.clear()
        assert talk.tick(now).frames == [{}]
        assert talk.say({}, now=now + 1).closed is None
    assert talk.session.next_deadline == 87.5


def test_where_no_pong_is_wanted_its_absence_is_nothing() -> None:
    """Streams notice a client that has gone by what they write."""
    talk = Talk(pong=False).say({"id": 1, "connect": {}})
    talk.took(talk.session.authenticated(now=0.0, expires_in=None, refreshable=False))
    assert talk.last == {"id": 1, "connect": {"client": "c1", "version": "v", "ping": 25}}
    assert talk.tick(12.5).last == {}
    assert talk.tick(30.0).closed is None
    assert talk.say({}).closed is Closes.BAD_REQUEST


def test_no_pong_closes() -> None:
    """3012 after 10 seconds."""
    talk = Talk().connected().tick(12.5)
    assert talk.session.next_deadline == 22.5
    assert talk.tick(22.4).closed is None
    assert talk.tick(22.5).closed is Closes.NO_PONG


def test_a_pong_without_a_ping_is_a_bad_request() -> None:
    """3501; a second pong as well."""
    assert Talk().connected().say({}).closed is Closes.BAD_REQUEST
    assert Talk().connected().tick(12.5).say({}, {}).closed is Closes.BAD_REQUEST


def test_an_expired_connection_has_a_grace() -> None:
    """3005 not at the expiry, when clients refresh, but 25 seconds later."""
    talk = Talk().say({"id": 1, "connect": {"token": "t"}})
    talk.took(talk.session.authenticated(now=0.0, expires_in=0.5, refreshable=True))
    assert (talk.last["connect"]["expires"], talk.last["connect"]["ttl"]) == (True, 1)
    talk.tick(12.5).say({}, now=12.5)
    assert talk.tick(25.4).closed is None
    assert talk.tick(25.5).closed is Closes.EXPIRED


def test_what_cannot_be_refreshed_ends_at_its_expiry() -> None:
    """An API token: 3005 without a grace, and the client, who could only give up, is not told of it before."""
    talk = Talk().say({"id": 1, "connect": {}})
    talk.took(talk.session.authenticated(now=0.0, expires_in=5.0, refreshable=False))
    assert set(talk.last["connect"]) == {"client", "version", "ping", "pong"}
    assert talk.tick(4.9).closed is None
    assert talk.tick(5.0).closed is Closes.EXPIRED


def test_a_refresh_lengthens_the_life() -> None:
    """The reply names client and version, and the new ttl."""
    talk = Talk().connected(expires_in=1.0, refreshable=True).say({"id": 5, "refresh": {"token": "n"}})
    assert talk.does == [effects.Refresh(5, "n")]
    talk.took(talk.session.refreshed(5, expires_in=60.0, now=1.0))
    assert talk.last == {"id": 5, "refresh": {"client": "c1", "version": "v", "expires": True, "ttl": 60}}
    talk.tick(12.5).say({}, now=12.5)
    assert talk.tick(30.0).closed is None


def test_nothing_happens_after_a_close() -> None:
    """Late answers of the outside are dropped."""
    talk = Talk().connected().subscribed("b").say(subscribe("a"), {"id": 4, "rpc": {"method": "read"}})
    talk.took(talk.session.close(Closes.SHUTDOWN))
    late = [
        talk.session.subscribed("a", VALUE, now=0.0),
        talk.session.subscribe_failed("a", Errors.INTERNAL),
        talk.session.answered(rpc(4), b"{}"),
        talk.session.refreshed(4, expires_in=None, now=0.0),
        talk.session.call_failed(rpc(5), Errors.INTERNAL),
        talk.session.refresh_failed(5, Errors.INTERNAL),
        talk.session.sub_refreshed(5, "a", expires_in=None, now=0.0),
        talk.session.expelled("a", Unsubscribes.SERVER),
        talk.session.authenticated(now=0.0, expires_in=None, refreshable=False),
        talk.session.welcomed({}, now=0.0),
        talk.session.refused(Errors.INTERNAL, now=0.0),
        talk.session.close(Closes.STALE),
        talk.session.tick(1000.0),
    ]
    assert late == [[]] * len(late)
