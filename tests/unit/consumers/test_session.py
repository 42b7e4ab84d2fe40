"""The protocol as transcripts: frames and time in, replies and effects out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_layer.position import Position
from consumers import effects, session
from consumers.effects import Close, Effect, Held, Send
from consumers.frames import Closes, Code, Errors, Unsubscribes
from consumers.session import Limits, Session

LIMITS = Limits(subscriptions=3, command_rate=50, message=2000, replies=100)
VALUE = Held(position=Position("e", 5), payload=b'{"x":5}', state="fresh", age=0.5, job=None)
NOTHING = Held(position=Position("e", 0), payload=None, state="pending", age=0.0, job="j")


class Talk:
    """A session with the test at both ends: `say` is the client, `does` what came out besides frames."""

    def __init__(self, *, limits: Limits = LIMITS, luck: float = 0.0) -> None:
        self.session = Session(client="c1", version="v", limits=limits, now=0.0, luck=luck)
        self.frames: list[dict[str, Any]] = []
        self.does: list[Effect] = []

    def say(self, *commands: dict[str, Any] | str, now: float = 0.0) -> Talk:
        text = "\n".join(c if isinstance(c, str) else json.dumps(c) for c in commands)
        return self.took(self.session.receive(text, now))

    def took(self, effects: list[Effect]) -> Talk:
        for effect in effects:
            if isinstance(effect, Send):
                self.frames.append(json.loads(effect.frame if isinstance(effect.frame, str) else effect.frame()))
            else:
                self.does.append(effect)
        return self

    def connected(self, **how: Any) -> Talk:
        self.say({"id": 1, "connect": {}})
        how = {"now": 0.0, "expires_in": None, "refreshable": False, **how}
        self.took(self.session.authenticated(**how))
        self.frames.clear()
        self.does.clear()
        return self

    def subscribed(self, channel: str = "a", **fields: Any) -> Talk:
        self.say({"id": 2, "subscribe": {"channel": channel, **fields}})
        self.took(self.session.subscribed(channel, VALUE))
        self.does.clear()
        return self

    def tick(self, now: float) -> Talk:
        return self.took(self.session.tick(now))

    @property
    def closed(self) -> Code | None:
        return next((effect.code for effect in self.does if isinstance(effect, Close)), None)

    @property
    def last(self) -> dict[str, Any]:
        return self.frames[-1]

    @property
    def error(self) -> tuple[int, str]:
        error = self.last["error"]
        return error["code"], error["message"]


def subscribe(channel: str, **fields: Any) -> dict[str, Any]:
    return {"id": 9, "subscribe": {"channel": channel, **fields}}


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
    assert talk.does == [effects.Authenticate(""), effects.Subscribe(9, "a")]
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


# Subscribing


def test_a_subscription_is_answered_with_the_value() -> None:
    """And with state, age and job beside it."""
    talk = Talk().connected().say(subscribe("a?b=1"))
    assert talk.does == [effects.Subscribe(9, "a?b=1")]
    talk.took(talk.session.subscribed("a?b=1", VALUE))
    assert talk.last["subscribe"]["publications"] == [{"data": {"x": 5}, "offset": 5}]
    assert talk.last["subscribe"]["data"] == {"state": "fresh", "age": 0.5, "job": None}
    assert "recovered" not in talk.last["subscribe"]


def test_a_pending_topic_is_answered_at_once() -> None:
    """Without a value, with the job."""
    talk = Talk().connected().say(subscribe("a"))
    talk.took(talk.session.subscribed("a", NOTHING))
    assert talk.last["subscribe"] == {
        "recoverable": True,
        "positioned": True,
        "epoch": "e",
        "data": {"state": "pending", "age": 0.0, "job": "j"},
    }


@pytest.mark.parametrize(
    ("asked", "held", "offset", "given", "recovered"),
    [
        ({"offset": 5, "epoch": "e"}, VALUE, 5, False, True),
        ({"offset": 3, "epoch": "e"}, VALUE, 3, True, True),
        ({}, VALUE, 0, True, True),
        ({"offset": 9, "epoch": "e"}, VALUE, 4, True, True),
        ({"offset": 5, "epoch": "other"}, VALUE, 0, True, True),
        ({"offset": 0, "epoch": "_"}, VALUE, 0, True, True),
        ({"offset": 5, "epoch": "e"}, NOTHING, 0, False, False),
        ({"offset": -7, "epoch": "e"}, VALUE, 0, True, True),
    ],
)
def test_recovery_of_a_value(asked: dict[str, Any], held: Held, offset: int, given: bool, recovered: bool) -> None:
    """Recovered when the newest value is in the reply or held already; the offset is the request's, never the top."""
    talk = Talk().connected().say(subscribe("a", recover=True, flag=3, **asked))
    talk.took(talk.session.subscribed("a", held))
    result = talk.last["subscribe"]
    assert result["was_recovering"] is True
    assert result.get("offset", 0) == offset
    assert ("publications" in result) is given
    assert result.get("recovered", False) is recovered


def test_unsubscribe_and_subscribe_in_one_frame() -> None:
    """The old subscription ends before the new one begins."""
    talk = Talk().connected().subscribed()
    talk.say({"id": 3, "unsubscribe": {"channel": "a"}}, subscribe("a"))
    assert talk.does == [effects.Unsubscribe("a"), effects.Subscribe(9, "a")]
    assert talk.last == {"id": 3, "unsubscribe": {}}


def test_what_follows_a_subscribe_under_way_waits_for_it() -> None:
    """For the same channel; others go on."""
    talk = Talk().connected().say(subscribe("a"), {"id": 3, "unsubscribe": {"channel": "a"}}, subscribe("a"))
    talk.say(subscribe("b"), {"id": 4, "unsubscribe": {"channel": "a"}})
    assert talk.does == [effects.Subscribe(9, "a"), effects.Subscribe(9, "b")]
    talk.does.clear()
    talk.took(talk.session.subscribed("a", VALUE))
    assert talk.does == [effects.Unsubscribe("a"), effects.Subscribe(9, "a")]
    assert [next(iter(set(frame) - {"id"})) for frame in talk.frames] == ["subscribe", "unsubscribe"]
    assert talk.session.crowded
    talk.took(talk.session.subscribe_failed("a", Errors.UNKNOWN_CHANNEL))
    assert [frame["id"] for frame in talk.frames[2:]] == [9, 4]
    assert not talk.session.crowded


def test_two_spellings_are_two_subscriptions() -> None:
    """The session compares names as they are written."""
    talk = Talk().connected().say(subscribe("a?x=1&y=2"), subscribe("a?y=2&x=1"))
    assert len(talk.does) == 2


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (subscribe("a"), Errors.ALREADY_SUBSCRIBED),
        (subscribe("x" * 256), Errors.BAD_REQUEST),
        (subscribe("b", tf={"key": "k", "cmp": "eq", "val": "v"}), Errors.BAD_REQUEST),
        (subscribe("b", type=1), Errors.NOT_AVAILABLE),
        (subscribe("b", type=4), Errors.NOT_AVAILABLE),
        ({"id": 9, "publish": {"channel": "a", "data": 1}}, Errors.NOT_AVAILABLE),
        ({"id": 9, "history": {"channel": "a"}}, Errors.NOT_AVAILABLE),
        ({"id": 9, "presence": {"channel": "a"}}, Errors.NOT_AVAILABLE),
        ({"id": 9, "presence_stats": {"channel": "a"}}, Errors.NOT_AVAILABLE),
        ({"id": 9, "sub_refresh": {"channel": "a", "token": "t"}}, Errors.NOT_AVAILABLE),
        ({"id": 9, "sub_refresh": {"channel": "b", "token": "t"}}, Errors.PERMISSION_DENIED),
        ({"id": 9, "refresh": {"token": "t"}}, Errors.NOT_AVAILABLE),
    ],
)
def test_refused_commands(command: dict[str, Any], code: Code) -> None:
    """Each with its code; the connection goes on."""
    talk = Talk().connected().subscribed().say(command)
    assert (talk.last["id"], talk.error[0]) == (9, code.number)
    assert talk.closed is None


def test_delta_and_compaction_are_offers_that_are_not_taken() -> None:
    """Left out of the reply, so the client does without."""
    talk = Talk().connected().say(subscribe("a", delta="fossil", flag=1))
    talk.took(talk.session.subscribed("a", VALUE))
    assert not {"delta", "id"} & set(talk.last["subscribe"])


def test_subscriptions_are_limited() -> None:
    """Those under way count."""
    talk = Talk().connected().say(subscribe("a"), subscribe("b"), subscribe("c"), subscribe("d"))
    assert talk.error[0] == Errors.LIMIT_EXCEEDED.number


def test_a_refused_subscription_leaves_nothing_behind() -> None:
    """Its reason is told, and it may be tried again."""
    talk = Talk().connected().say(subscribe("a"))
    talk.took(talk.session.subscribe_failed("a", Errors.BAD_REQUEST, "days: too many"))
    assert talk.error == (107, "days: too many")
    assert talk.say(subscribe("a")).does == [effects.Subscribe(9, "a")] * 2


@pytest.mark.parametrize("command", [subscribe(""), {"id": 9, "unsubscribe": {}}, {"id": 9, "refresh": {}}])
def test_empty_names_and_tokens_are_bad_requests(command: dict[str, Any]) -> None:
    """3501."""
    assert Talk().connected().say(command).closed is Closes.BAD_REQUEST


def test_unsubscribing_what_is_not_subscribed_is_fine() -> None:
    """An error would make the client reconnect."""
    talk = Talk().connected().say({"id": 3, "unsubscribe": {"channel": "z"}})
    assert talk.last == {"id": 3, "unsubscribe": {}}
    assert talk.does == []


def test_a_subscription_the_server_ends_is_pushed_once() -> None:
    """And never for one that the client left already."""
    talk = Talk().connected().subscribed()
    talk.took(talk.session.expelled("a", Unsubscribes.SERVER))
    assert talk.last["push"]["unsubscribe"]["code"] == 2000
    assert talk.session.expelled("a", Unsubscribes.SERVER) == []
    assert talk.session.expelled("never", Unsubscribes.SERVER) == []


# Calls


def test_an_rpc_is_called_and_answered() -> None:
    """The result goes through as JSON text."""
    talk = Talk().connected().say({"id": 4, "rpc": {"method": "read", "data": {"topic": "a"}}})
    assert talk.does == [effects.Call(4, "read", {"topic": "a"})]
    assert talk.took(talk.session.answered(4, b'{"x":1}')).last == {"id": 4, "rpc": {"data": {"x": 1}}}


def test_calls_under_way_are_limited() -> None:
    """More of them are too many requests, until some are answered."""
    talk = Talk(limits=Limits(subscriptions=3, command_rate=50, message=10_000, replies=100)).connected()
    talk.say(*[{"id": n, "rpc": {"method": "m"}} for n in range(1, session.CALLS + 2)])
    assert talk.error[0] == Errors.TOO_MANY_REQUESTS.number
    talk.took(talk.session.call_failed(1, Errors.NOT_AVAILABLE))
    assert talk.say({"id": 99, "rpc": {"method": "m"}}).does[-1] == effects.Call(99, "m", None)


def test_answers_that_wait_to_be_written_are_bounded() -> None:
    """A client that does not read cannot pile up values here; what it takes makes room, and one answer always fits."""
    talk = Talk().connected().say(*[{"id": n, "rpc": {"method": "read"}} for n in range(1, 6)])
    large = b'"' + b"x" * 150 + b'"'
    held = talk.session.answered(1, large)
    assert talk.took(talk.session.answered(2, b"1")).error == (111, "too many requests")
    talk.took(held)
    assert talk.last == {"id": 1, "rpc": {"data": "x" * 150}}
    waiting = [*talk.session.answered(3, b'"%s"' % (b"a" * 60)), *talk.session.answered(4, b'"%s"' % (b"b" * 30))]
    assert talk.took(talk.session.answered(5, b"12345678")).error[0] == 111
    assert talk.took(waiting).frames[-2:] == [
        {"id": 3, "rpc": {"data": "a" * 60}},
        {"id": 4, "rpc": {"data": "b" * 30}},
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
    talk = Talk().connected().say(subscribe("a"), {"id": 4, "rpc": {"method": "read"}})
    talk.took(talk.session.close(Closes.SHUTDOWN))
    late = [
        talk.session.subscribed("a", VALUE),
        talk.session.subscribe_failed("a", Errors.INTERNAL),
        talk.session.answered(4, b"1"),
        talk.session.refreshed(4, expires_in=None, now=0.0),
        talk.session.authenticated(now=0.0, expires_in=None, refreshable=False),
        talk.session.refused(Errors.INTERNAL, now=0.0),
        talk.session.close(Closes.STALE),
        talk.session.tick(1000.0),
    ]
    assert late == [[]] * len(late)


# Anything

_NAMES = st.sampled_from(["", "a", "b", "x" * 256])
_COMMANDS = st.one_of(
    st.builds(lambda n, c: {"id": n, "subscribe": {"channel": c}}, st.integers(0, 9), _NAMES),
    st.builds(lambda n, c: {"id": n, "unsubscribe": {"channel": c}}, st.integers(0, 9), _NAMES),
    st.builds(lambda n: {"id": n, "connect": {}}, st.integers(0, 9)),
    st.builds(lambda n: {"id": n, "rpc": {"method": "m"}}, st.integers(1, 9)),
    st.builds(lambda n, m: {"id": n, m: {"channel": "a"}}, st.integers(1, 9), st.sampled_from(["publish", "history"])),
    st.sampled_from([{}, {"send": {}}, {"id": 1}]),
).map(json.dumps)


@given(st.lists(st.one_of(_COMMANDS, st.text()), max_size=30), st.lists(st.booleans(), min_size=30, max_size=30))
def test_every_command_is_answered_once_or_the_connection_is_closed(texts: list[str], luck: list[bool]) -> None:
    """Whatever comes, in whatever order the outside answers."""
    talk = Talk()
    opened = talk.session
    for text, answer in zip(["{" + '"id":1,"connect":{}' + "}", *texts], luck, strict=False):
        talk.say(text)
        while talk.does and answer and not talk.closed:
            effect = talk.does.pop(0)
            match effect:
                case effects.Authenticate():
                    talk.took(opened.authenticated(now=0.0, expires_in=None, refreshable=False))
                case effects.Subscribe():
                    talk.took(opened.subscribed(effect.channel, VALUE))
                case effects.Call():
                    talk.took(opened.answered(effect.id, b"1"))
    if talk.closed:
        assert opened.next_deadline is None
        return
    pending = [effect for effect in talk.does if not isinstance(effect, effects.Unsubscribe)]
    assert len(talk.frames) <= len(texts) + 1
    assert pending or len(talk.frames) == sum(text.strip() != "" for text in texts) + 1
