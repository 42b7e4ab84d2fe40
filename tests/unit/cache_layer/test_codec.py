"""The bytes of an entry: what is written is read, and nothing else is taken for an entry."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cache_layer.codec import Entry, decode, encode_tail
from tests.support.entries import ENTRIES, encoded

quick = settings(max_examples=80, deadline=None)


@quick
@given(ENTRIES)
def test_an_entry_is_read_back(entry: Entry) -> None:
    """Every field of an entry comes out as it went in."""
    assert decode(encoded(entry)) == entry


@quick
@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_entry(raw: bytes) -> None:
    """Bytes of anybody else decode to None."""
    assert decode(raw) is None
    assert decode(None) is None


@quick
@given(st.binary(min_size=28, max_size=200), st.text("0123456789", min_size=16, max_size=16))
def test_no_bytes_raise(rest: bytes, digits: str) -> None:
    """Behind a valid beginning anything may stand: it is a whole entry or None."""
    raw = b"nonce..." + b"epoch123" + digits.encode() + b"MPE1" + rest
    found = decode(raw)
    assert found is None or raw.endswith(found.payload)


@quick
@given(ENTRIES, st.data())
def test_a_truncated_entry_is_none(entry: Entry, data: st.DataObject) -> None:
    """No part of an entry is taken for the whole, wherever it was cut."""
    raw = encoded(entry)
    assert decode(raw[: data.draw(st.integers(0, len(raw) - 1))]) is None


@quick
@given(ENTRIES, st.binary(min_size=1, max_size=20))
def test_an_entry_with_something_behind_it_is_none(entry: Entry, more: bytes) -> None:
    """The payload ends where it was said to end."""
    assert decode(encoded(entry) + more) is None


@quick
@given(ENTRIES, st.data())
def test_a_flipped_bit_changes_no_payload_but_its_own(entry: Entry, data: st.DataObject) -> None:
    """With one bit wrong before the payload it is None or has the same payload; inside of it, just that bit differs."""
    raw = bytearray(encoded(entry))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    start = len(raw) - len(entry.payload)
    found = decode(bytes(raw))
    if bit // 8 >= start:
        assert found is not None
        assert found.payload == raw[start:]
    else:
        assert found is None or found.payload == entry.payload


def test_an_empty_payload_is_no_entry() -> None:
    """No JSON text is empty, so such bytes are somebody's mistake."""
    tail = encode_tail(fresh=1, life=2, compute_seconds=0, computed_at=0, tag_versions=(), size=0)
    assert decode(b"nonce...epoch123" + b"0" * 16 + tail) is None


def test_a_negative_time_is_written_as_zero() -> None:
    """A clock that was set back during a computation spoils no entry."""
    tail = encode_tail(fresh=1, life=2, compute_seconds=-0.5, computed_at=-1, tag_versions=(), size=1)
    found = decode(b"nonce...epoch123" + b"0" * 16 + tail + b"1")
    assert found is not None
    assert (found.compute_seconds, found.computed_at) == (0, 0)
