"""Messages of a channel: values, hints, signals, and what is none of ours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_layer.codec import Entry
from cache_layer.publication import Changed, Signal, Value, parse
from tests.support.entries import DIGEST, ENTRIES, encoded

quick = settings(max_examples=80, deadline=None)


@quick
@given(ENTRIES)
def test_a_value_travels_as_its_entry(entry: Entry) -> None:
    """A message that carries an entry is that value."""
    assert parse(b"V" + encoded(entry), DIGEST) == Value(entry)
    assert parse(b"V" + encoded(entry), "0" * 32) is None


def test_a_change_carries_nothing() -> None:
    """The hint to read again has no more than its kind."""
    assert parse(b"C") == Changed()


@pytest.mark.parametrize(("kind", "name"), [(b"P", "progress"), (b"E", "error"), (b"S", "stale")])
def test_a_signal_carries_json(kind: bytes, name: str) -> None:
    """The text of a signal is handed on as it is, and an empty one is an empty object."""
    signal = parse(kind + b'{"n":1}')
    assert isinstance(signal, Signal)
    assert (signal.kind, signal.data) == (name, b'{"n":1}')
    empty = parse(kind)
    assert isinstance(empty, Signal)
    assert empty.data == b"{}"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"V",
        b"Vx",
        b"CONNECTED",
        b"Pause",
        b'P{"n":1',
        b"E\xff\xfe{}",
        b"S" + b"[" * 100_000,
        b"x{}",
        b"v",
        b'{"n":1}',
    ],
)
def test_foreign_bytes_are_none(message: bytes) -> None:
    """What is no message of ours is told apart from one, whatever it begins with."""
    assert parse(message) is None


@quick
@given(st.sampled_from([b"V", b"C", b"P", b"E", b"S", b""]), st.binary(max_size=100))
def test_no_message_raises(kind: bytes, rest: bytes) -> None:
    """Any bytes are one of the three kinds or None."""
    assert parse(kind + rest) is None or isinstance(parse(kind + rest), Value | Changed | Signal)
