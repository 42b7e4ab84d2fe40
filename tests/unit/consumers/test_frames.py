"""Text of the wire: what the server says, and its codes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from cache_layer.position import Position
from consumers import frames
from consumers.frames import Closes, Code, Errors, Unsubscribes


def codes(table: type) -> list[Code]:
    return [code for code in vars(table).values() if isinstance(code, Code)]


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


def test_a_publication_is_pushed_without_being_read() -> None:
    """Its bytes go through as they are, under the client's own spelling."""
    made = frames.publication(b'{"x":1.0}', 13)
    assert frames.push('a?b="ü"', "pub", made) == (
        '{"push":{"channel":"a?b=\\"ü\\"","pub":{"data":{"x":1.0},"offset":13}}}'
    )


def test_a_publication_without_offset_moves_no_position() -> None:
    """So offset 0 is left out, and so is what is empty."""
    assert frames.publication(b"1") == b'{"data":1}'
    made = json.loads(frames.publication(b'"a"', 2, info=b'{"user":"u"}', tags=b'{"k":"v"}', delta=True))
    assert made == {"data": "a", "offset": 2, "info": {"user": "u"}, "tags": {"k": "v"}, "delta": True}


def test_the_end_of_a_connection_is_pushed_where_the_transport_cannot_say_it() -> None:
    """With code and reason."""
    pushed = json.loads(frames.push_disconnect(Closes.SHUTDOWN))
    assert pushed == {"push": {"disconnect": {"code": 3001, "reason": "shutdown"}}}


def test_an_unsubscribe_carries_code_and_reason() -> None:
    """Both, or the Python client stops."""
    pushed = json.loads(frames.push_unsubscribe("a", Unsubscribes.SERVER))
    assert pushed == {"push": {"channel": "a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}


def test_a_subscribe_reply_carries_publications_in_their_order() -> None:
    """One handler of the client serves snapshot, replay and updates; empty members are left out."""
    result = frames.Subscribed(position=Position("e", 3), was_recovering=True, recovered=True, data={"state": "fresh"})
    made = frames.subscribe_result(result, [frames.publication(b"%d" % n, n) for n in (4, 5)])
    assert json.loads(frames.raw_reply(7, "subscribe", made)) == {
        "id": 7,
        "subscribe": {
            "recoverable": True,
            "positioned": True,
            "epoch": "e",
            "offset": 3,
            "was_recovering": True,
            "recovered": True,
            "publications": [{"data": 4, "offset": 4}, {"data": 5, "offset": 5}],
            "data": {"state": "fresh"},
        },
    }
    assert json.loads(frames.subscribe_result(frames.Subscribed(position=None))) == {}


@pytest.mark.parametrize(
    ("seconds", "told"), [(None, {}), (0.3, {"expires": True, "ttl": 1}), (9.9, {"expires": True, "ttl": 9})]
)
def test_expires_and_ttl_come_together(seconds: float | None, told: dict[str, object]) -> None:
    """Or not at all; a ttl of 0 would be left out by clients."""
    assert frames.lifetime(seconds) == told


#: Of the protocol's notes: error codes, then of unsubscribes, then of closes.
KNOWN: dict[type, Sequence[int]] = {
    Errors: range(100, 114),
    Unsubscribes: (2000, 2500, 2501, 2502),
    Closes: (1009, 3000, 3001, 3004, 3005, 3006, *range(3008, 3015), *range(3500, 3510)),
}


@pytest.mark.parametrize("table", [Errors, Unsubscribes, Closes])
def test_every_code_of_the_protocol_is_there_once(table: type) -> None:
    """Under its number, which is what clients know."""
    assert [code.number for code in codes(table)] == list(KNOWN[table])
