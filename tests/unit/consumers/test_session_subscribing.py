"""The protocol as transcripts, subscriptions: what is asked, what is told first, and what ends them."""

from __future__ import annotations

from typing import Any

import pytest

from cache_layer.position import Position
from consumers import effects
from consumers.effects import Held
from consumers.frames import Closes, Code, Errors, Unsubscribes
from tests.unit.consumers.talk import NOTHING, VALUE, Talk, log, publications, subscribe


def test_a_subscription_is_answered_with_the_value() -> None:
    """And with state, age and job beside it."""
    talk = Talk().connected().say(subscribe("a?b=1"))
    assert talk.does == [effects.Subscribe("a?b=1")]
    talk.took(talk.session.subscribed("a?b=1", VALUE, now=0.0))
    assert talk.last["subscribe"]["publications"] == [{"data": {"x": 5}, "offset": 5}]
    assert talk.last["subscribe"]["data"] == {"state": "fresh", "age": 0.5, "job": None}
    assert "recovered" not in talk.last["subscribe"]


def test_a_pending_topic_is_answered_at_once() -> None:
    """Without a value, with the job."""
    talk = Talk().connected().say(subscribe("a"))
    talk.took(talk.session.subscribed("a", NOTHING, now=0.0))
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
    talk.took(talk.session.subscribed("a", held, now=0.0))
    result = talk.last["subscribe"]
    assert result["was_recovering"] is True
    assert result.get("offset", 0) == offset
    assert ("publications" in result) is given
    assert result.get("recovered", False) is recovered


def test_unsubscribe_and_subscribe_in_one_frame() -> None:
    """The old subscription ends before the new one begins."""
    talk = Talk().connected().subscribed()
    talk.say({"id": 3, "unsubscribe": {"channel": "a"}}, subscribe("a"))
    assert talk.does == [effects.Unsubscribe("a"), effects.Subscribe("a")]
    assert talk.last == {"id": 3, "unsubscribe": {}}


def test_what_follows_a_subscribe_under_way_waits_for_it() -> None:
    """For the same channel; others go on."""
    talk = Talk().connected().say(subscribe("a"), {"id": 3, "unsubscribe": {"channel": "a"}}, subscribe("a"))
    talk.say(subscribe("b"), {"id": 4, "unsubscribe": {"channel": "a"}})
    assert talk.does == [effects.Subscribe("a"), effects.Subscribe("b")]
    talk.does.clear()
    talk.took(talk.session.subscribed("a", VALUE, now=0.0))
    assert talk.does == [effects.Unsubscribe("a"), effects.Subscribe("a")]
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


def test_compaction_is_an_offer_that_is_not_taken() -> None:
    """Left out of the reply, so the client does without."""
    assert "id" not in Talk().connected().resubscribed(VALUE, flag=1)


def test_deltas_are_granted_by_the_outside() -> None:
    """Which makes the publications of the reply as well; who did not ask gets none."""
    talk = Talk().connected().say(subscribe("a", delta="fossil"))
    assert talk.does == [effects.Subscribe("a", delta="fossil")]
    told = talk.session.subscribed(
        "a", VALUE, now=0.0, delta=True, replay=lambda missed: [b'{"data":"5"}' for _ in missed]
    )
    assert talk.took(told).last["subscribe"]["delta"] is True
    assert talk.last["subscribe"]["publications"] == [{"data": "5"}]
    assert "delta" not in Talk().connected().resubscribed(VALUE)


def test_subscriptions_are_limited() -> None:
    """Those under way count."""
    talk = Talk().connected().say(subscribe("a"), subscribe("b"), subscribe("c"), subscribe("d"))
    assert talk.error[0] == Errors.LIMIT_EXCEEDED.number


def test_a_refused_subscription_leaves_nothing_behind() -> None:
    """Its reason is told, and it may be tried again."""
    talk = Talk().connected().say(subscribe("a"))
    talk.took(talk.session.subscribe_failed("a", Errors.BAD_REQUEST, "days: too many"))
    assert talk.error == (107, "days: too many")
    assert talk.say(subscribe("a")).does == [effects.Subscribe("a")] * 2


@pytest.mark.parametrize(
    "command",
    [
        subscribe(""),
        {"id": 9, "unsubscribe": {}},
        {"id": 9, "refresh": {}},
        {"id": 9, "publish": {"data": 1}},
        {"id": 9, "history": {}},
        {"id": 9, "presence": {}},
        {"id": 9, "presence_stats": {}},
        {"id": 9, "sub_refresh": {"token": "t"}},
        {"id": 9, "sub_refresh": {"channel": "a"}},
    ],
)
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


# Logs


def test_the_first_subscribe_to_a_log_is_told_where_it_stands() -> None:
    """Nothing of what was, and an epoch also when nothing was."""
    assert Talk().connected().resubscribed(log(5)) == {
        "recoverable": True,
        "positioned": True,
        "epoch": "e",
        "offset": 5,
    }
    assert Talk().connected().resubscribed(log(0)) == {"recoverable": True, "positioned": True, "epoch": "e"}


@pytest.mark.parametrize(
    ("asked", "since"),
    [
        ({}, None),
        ({"offset": 3, "epoch": "e"}, None),
        ({"recover": False, "offset": 3, "epoch": "e"}, None),
        ({"recover": True}, Position("", 0)),
        ({"recover": True, "offset": 0, "epoch": "_"}, Position("_", 0)),
        ({"recover": True, "offset": 3, "epoch": "e"}, Position("e", 3)),
        ({"recover": True, "offset": -3, "epoch": None}, Position("", 0)),
    ],
)
def test_from_where_a_client_wants_to_recover(asked: dict[str, Any], since: Position | None) -> None:
    """What is 0 or empty may be left out; without `recover` a position is nothing."""
    assert Talk().connected().say(subscribe("a", **asked)).does == [effects.Subscribe("a", since=since)]


def test_a_recovered_log_tells_all_that_was_missed_in_its_order() -> None:
    """At the offset of the request: told the top, a client that stops in between would lose the rest."""
    result = Talk().connected().resubscribed(log(7, publications(4, 7)), recover=True, offset=3, epoch="e", flag=1)
    assert (result["recovered"], result["was_recovering"]) == (True, True)
    assert (result["offset"], result["epoch"]) == (3, "e")
    told = [{"data": n, "offset": n, "info": {"user": "u"}} for n in range(4, 8)]
    assert result["publications"] == told


def test_recovery_without_an_epoch_tells_the_epoch() -> None:
    """And the whole ring, from offset 0."""
    result = Talk().connected().resubscribed(log(2, publications(1, 2)), recover=True)
    assert (result["recovered"], result["epoch"], len(result["publications"])) == (True, "e", 2)
    assert "offset" not in result


def test_a_client_that_has_missed_nothing_is_recovered() -> None:
    """Without publications."""
    result = Talk().connected().resubscribed(log(7, []), recover=True, offset=7, epoch="e", flag=3)
    assert (result["recovered"], result["offset"]) == (True, 7)
    assert "publications" not in result


def test_what_cannot_be_recovered_is_told_and_never_told_in_part() -> None:
    """The top, and nothing else."""
    result = Talk().connected().resubscribed(log(7), recover=True, offset=3, epoch="_")
    assert result == {"recoverable": True, "positioned": True, "epoch": "e", "offset": 7, "was_recovering": True}


def test_who_wants_to_be_refused_is_refused() -> None:
    """112, and the subscription is gone, so that it may be tried anew; never of a value, whose newest is enough."""
    talk = Talk().connected()
    assert talk.resubscribed(log(7), recover=True, offset=3, flag=2) == {
        "code": 112,
        "message": "unrecoverable position",
    }
    assert talk.does[-1] == effects.Unsubscribe("a")
    assert talk.resubscribed(log(7), flag=3)["offset"] == 7
    nothing = Talk().connected().resubscribed(NOTHING, recover=True, offset=3, flag=3)
    assert "recovered" not in nothing
    assert nothing["data"]["state"] == "pending"


def test_a_refused_recovery_lets_go_on_what_waited_for_it() -> None:
    """In its order."""
    talk = Talk().connected().say(subscribe("a", recover=True, offset=3, flag=2), subscribe("a"))
    talk.took(talk.session.subscribed("a", log(7), now=0.0))
    assert talk.does[1:] == [effects.Unsubscribe("a"), effects.Subscribe("a")]


def test_a_log_without_history_has_no_positions() -> None:
    """Clients keep none, and do not believe they could come back to them."""
    assert Talk().connected().resubscribed(log(0, recoverable=False), recover=True, flag=1) == {}
    refused = Talk().connected().resubscribed(log(0, recoverable=False), recover=True, flag=2)
    assert refused["code"] == 112


# Tokens


def test_a_subscription_token_goes_to_the_outside_and_its_end_is_told() -> None:
    """At its expiry the client refreshes; 25 seconds later the subscription ends, and it may come back."""
    talk = Talk().connected().say(subscribe("a", token="t"))
    assert talk.does == [effects.Subscribe("a", token="t")]
    talk.took(talk.session.subscribed("a", VALUE, now=0.0, refreshable=True, expires_in=5.5))
    assert (talk.last["subscribe"]["expires"], talk.last["subscribe"]["ttl"]) == (True, 5)
    talk.tick(12.5).say({}, now=12.5)
    assert talk.session.next_deadline == 30.5
    assert talk.tick(30.5).does[-1] == effects.Unsubscribe("a")
    assert talk.last["push"] == {"channel": "a", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}
    assert talk.say(subscribe("a"), now=31.0).does[-1] == effects.Subscribe("a")


def test_a_token_without_expiry_says_nothing_of_one() -> None:
    """Clients want a ttl where there is an expiry, and else none."""
    talk = Talk().connected().subscribed("a", refreshable=True)
    assert not {"expires", "ttl"} & set(talk.last["subscribe"])


def test_a_subscription_is_refreshed() -> None:
    """Its new end counts."""
    talk = Talk().connected().subscribed("a", refreshable=True, expires_in=5.0)
    talk.say({"id": 3, "sub_refresh": {"channel": "a", "token": "n"}})
    assert talk.does == [effects.SubRefresh(3, "a", "n")]
    talk.took(talk.session.sub_refreshed(3, "a", expires_in=100.0, now=4.0))
    assert talk.last == {"id": 3, "sub_refresh": {"expires": True, "ttl": 100}}
    talk.tick(12.5).say({}, now=12.5)
    assert talk.tick(31.0).does == [effects.SubRefresh(3, "a", "n")]


def test_a_refused_refresh_is_answered() -> None:
    """Also when the subscription has gone in the meantime."""
    talk = Talk().connected().subscribed("a", refreshable=True, expires_in=5.0)
    assert talk.took(talk.session.refresh_failed(3, Errors.TOKEN_EXPIRED)).error == (109, "token expired")
    talk.say({"id": 4, "unsubscribe": {"channel": "a"}})
    assert talk.took(talk.session.sub_refreshed(5, "a", expires_in=9.0, now=0.0)).error[0] == 103
    assert talk.session.next_deadline == 12.5


def test_a_subscription_that_was_left_does_not_expire() -> None:
    """No push for what the client has left: it would subscribe anew."""
    talk = Talk().connected().subscribed("a", refreshable=True, expires_in=-20.0)
    talk.say({"id": 4, "unsubscribe": {"channel": "a"}}).frames.clear()
    assert talk.tick(6.0).frames == []
