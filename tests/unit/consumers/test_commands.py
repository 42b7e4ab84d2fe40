"""Text of the wire: what is a frame of a client."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_layer.position import Position
from consumers import commands
from consumers.commands import BadFrame

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=12), children, max_size=4),
    max_leaves=8,
)


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
        commands.decode(text)


def test_a_frame_of_the_javascript_client() -> None:
    """Connect and the waiting subscribes come in one frame, the id last; unknown keys are skipped."""
    text = (
        '{"connect":{"token":"t","name":"js","subs":{}},"id":1}\n'
        '{"subscribe":{"channel":"a","flag":1,"recover":true,"epoch":"e","offset":3},"id":2}\n'
    )
    first, second = commands.decode(text)
    assert (first.id, first.method) == (1, "connect")
    assert first.connect is not None
    assert first.connect.token == "t"
    assert (second.id, second.method) == (2, "subscribe")
    assert second.subscribe == commands.Subscribe(channel="a", flag=1, recover=True, epoch="e", offset=3)


@pytest.mark.parametrize("text", ["{}", " { } ", "{}\n"])
def test_a_pong_is_an_empty_object(text: str) -> None:
    """It has neither id nor method."""
    (pong,) = commands.decode(text)
    assert (pong.id, pong.method) == (0, "")


def test_a_send_needs_no_id() -> None:
    """It is the one command without a reply."""
    (command,) = commands.decode('{"send":{"data":1}}')
    assert command.method == "send"


@given(st.text() | JSON.map(json.dumps) | st.lists(JSON.map(json.dumps)).map("\n".join))
def test_any_text_is_a_frame_or_a_bad_frame(text: str) -> None:
    """Nothing a client sends raises anything else."""
    try:
        found = commands.decode(text)
    except BadFrame:
        return
    assert found


def test_what_is_left_out_or_null_is_as_if_it_were_not_said() -> None:
    """The Python client sends what is empty, the JavaScript client leaves it out; null is nobody's value."""
    told = '{"id":1,"subscribe":{"channel":"a","recover":true,"offset":0,"epoch":"","token":null,"tf":null}}'
    left_out = '{"id":1,"subscribe":{"recover":true,"channel":"a"}}'
    for text in (told, left_out):
        (command,) = commands.decode(text)
        assert command.subscribe is not None
        assert command.subscribe.since == Position("", 0)


def test_positions_from_before_come_with_the_connect() -> None:
    """By channel; unknown members are skipped."""
    text = '{"id":1,"connect":{"subs":{"a":{"recover":true,"offset":4,"epoch":"e","x":1},"b":{}},"data":{"y":2}}}'
    (command,) = commands.decode(text)
    assert command.connect is not None
    subs = command.connect.subs or {}
    assert {name: known.since for name, known in subs.items()} == {"a": Position("e", 4), "b": None}
