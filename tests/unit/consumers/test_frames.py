"""Text of the wire: what is a frame, and what is made."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_layer.position import Position
from consumers import frames
from consumers.frames import BadFrame, Closes, Code, Errors, Unsubscribes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=12), children, max_size=4),
    max_leaves=8,
)


def codes(table: type) -> list[Code]:
    return [code for code in vars(table).values() if isinstance(code, Code)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n",
        "\n \n",
        "x",
        "null",
        "[]",
        '"a"',
        "7",
        "{}{}",
        '{"id":1}',
        '{"foo":1}',
        '{"id":1,"foo":{}}',
        '{"connect":{}}',
        '{"id":0,"subscribe":{"channel":"a"}}',
        '{"id":-1,"rpc":{}}',
        '{"id":1.5,"rpc":{}}',
        '{"id":"1","rpc":{}}',
        '{"id":1,"rpc":[]}',
        '{"id":1,"rpc":null}',
        '{"id":1,"subscribe":{"channel":5}}',
        '{"id":1,"subscribe":{"channel":"a"},"rpc":{}}',
        '{"id":1,"connect":{}}\n{',
        '{"id":1,"rpc":' + '{"data":' * 5000,
        '{"id":1,"rpc":{"method":"\ud800"}}',
    ],
)
def test_what_is_no_frame_is_refused(text: str) -> None:
    """Empty frames, foreign JSON, commands without id or with another number of methods than one: all bad."""
    with pytest.raises(BadFrame):
        frames.decode(text)


def test_a_frame_of_the_javascript_client() -> None:
    """Connect and the waiting subscribes come in one frame, the id last; unknown keys are skipped."""
    text = (
        '{"connect":{"token":"t","name":"js","subs":{}},"id":1}\n'
        '{"subscribe":{"channel":"a","flag":1,"recover":true,"epoch":"e","offset":3},"id":2}\n'
    )
    first, second = frames.decode(text)
    assert (first.id, first.method) == (1, "connect")
    assert first.connect is not None
    assert first.connect.token == "t"
    assert (second.id, second.method) == (2, "subscribe")
    assert second.subscribe == frames.Subscribe(channel="a", recover=True, epoch="e", offset=3)


@pytest.mark.parametrize("text", ["{}", " { } ", "{}\n"])
def test_a_pong_is_an_empty_object(text: str) -> None:
    """It has neither id nor method."""
    (pong,) = frames.decode(text)
    assert (pong.id, pong.method) == (0, "")


def test_a_send_needs_no_id() -> None:
    """It is the one command without a reply."""
    (command,) = frames.decode('{"send":{"data":1}}')
    assert command.method == "send"


@given(st.text() | JSON.map(json.dumps) | st.lists(JSON.map(json.dumps)).map("\n".join))
def test_any_text_is_a_frame_or_a_bad_frame(text: str) -> None:
    """Nothing a client sends raises anything else."""
    try:
        commands = frames.decode(text)
    except BadFrame:
        return
    assert commands


@pytest.mark.parametrize("table", [Errors, Unsubscribes, Closes])
def test_codes_say_what_clients_do_with_them(table: type) -> None:
    """The ranges of the protocol and `again` agree, and a reason is text that is no JSON and fits a close frame."""
    for code in codes(table):
        if table is Closes:
            assert code.again == (3000 <= code.number < 3500), code
        if table is Unsubscribes:
            assert code.again == (code.number >= 2500), code
        if table is Errors:
            assert code.number >= 100
        with pytest.raises(ValueError):
            json.loads(code.reason)
        assert 0 < len(code.reason.encode()) <= 123


def test_replies_always_carry_the_object_of_their_method() -> None:
    """The Python client raises a KeyError without it."""
    assert json.loads(frames.reply(4, "unsubscribe")) == {"id": 4, "unsubscribe": {}}


def test_errors_always_carry_a_message() -> None:
    """`temporary` only where a retry makes sense."""
    assert json.loads(frames.error_reply(1, Errors.INTERNAL)) == {
        "id": 1,
        "error": {"code": 100, "message": "internal server error", "temporary": True},
    }
    assert json.loads(frames.error_reply(1, Errors.BAD_REQUEST, "days: too many")) == {
        "id": 1,
        "error": {"code": 107, "message": "days: too many"},
    }


def test_a_value_is_pushed_without_being_read() -> None:
    """Its bytes go through as they are, under the client's own spelling."""
    pushed = frames.push_value('a?b="ü"', b'{"x":1.0}', 13)
    assert pushed == '{"push":{"channel":"a?b=\\"ü\\"","pub":{"data":{"x":1.0},"offset":13}}}'


def test_a_signal_has_tags_and_no_offset() -> None:
    """So that it moves no position."""
    pushed = json.loads(frames.push_signal("a", "progress", b'{"done":1}'))
    assert pushed == {"push": {"channel": "a", "pub": {"data": {"done": 1}, "tags": {"kind": "progress"}}}}


def test_an_unsubscribe_carries_code_and_reason() -> None:
    """Both, or the Python client stops."""
    pushed = json.loads(frames.push_unsubscribe("a", Unsubscribes.SERVER))
    assert pushed == {"push": {"channel": "a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}


def test_a_subscribe_reply_carries_the_value_as_a_publication() -> None:
    """One handler of the client serves snapshot and updates."""
    result = frames.Subscribed(
        position=Position("e", 3),
        publication=(b'{"x":1}', 3),
        was_recovering=False,
        recovered=False,
        data={"state": "fresh", "age": 0.1, "job": None},
    )
    assert json.loads(frames.subscribe_reply(7, result)) == {
        "id": 7,
        "subscribe": {
            "recoverable": True,
            "positioned": True,
            "epoch": "e",
            "offset": 3,
            "publications": [{"data": {"x": 1}, "offset": 3}],
            "data": {"state": "fresh", "age": 0.1, "job": None},
        },
    }
