"""The bytes of an entry: what is written is read, and nothing else is taken for an entry."""

from __future__ import annotations

import secrets
import struct
from typing import Any

import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from cache_layer.codec import COMPRESS_ABOVE, Entry, decode, encode
from tests.support.entries import DIGEST, ENTRIES, encoded

SECRET = b"k" * 32
HEAD = b"nonce...epoch123" + b"0" * 16
BIG = st.integers(COMPRESS_ABOVE + 1, 4 * COMPRESS_ABOVE).map(lambda size: b'"%s"' % (b"sale" * size)[: size - 2])

quick = settings(max_examples=80, deadline=None)


@quick
@given(ENTRIES)
def test_an_entry_is_read_back(entry: Entry) -> None:
    """Every field of an entry comes out as it went in."""
    assert decode(encoded(entry), DIGEST) == entry


@quick
@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_entry(raw: bytes) -> None:
    """Bytes of anybody else decode to None."""
    assert decode(raw, DIGEST) is None
    assert decode(None, DIGEST) is None


@quick
@given(st.binary(min_size=28, max_size=200), st.text("0123456789", min_size=16, max_size=16))
def test_no_bytes_raise(rest: bytes, digits: str) -> None:
    """Behind a valid beginning anything may stand: it is a whole entry or None."""
    raw = b"nonce..." + b"epoch123" + digits.encode() + b"MPE2" + rest
    found = decode(raw, rest[1:17].hex())
    assert found is None or rest[0] & 1 or raw.endswith(found.payload)


@quick
@given(ENTRIES, st.data())
def test_a_truncated_entry_is_none(entry: Entry, data: st.DataObject) -> None:
    """No part of an entry is taken for the whole, wherever it was cut."""
    raw = encoded(entry)
    assert decode(raw[: data.draw(st.integers(0, len(raw) - 1))], DIGEST) is None


@quick
@given(ENTRIES, st.binary(min_size=1, max_size=20))
def test_an_entry_with_something_behind_it_is_none(entry: Entry, more: bytes) -> None:
    """The payload ends where it was said to end."""
    assert decode(encoded(entry) + more, DIGEST) is None


@quick
@given(ENTRIES, st.data())
def test_a_flipped_bit_changes_no_payload_but_its_own(entry: Entry, data: st.DataObject) -> None:
    """With one bit wrong before the payload it is None or has the same payload; inside of it, just that bit differs."""
    raw = bytearray(encoded(entry))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    start = len(raw) - len(entry.payload)
    found = decode(bytes(raw), DIGEST)
    if bit // 8 >= start:
        assert found is not None
        assert found.payload == raw[start:]
    else:
        assert found is None or found.payload == entry.payload


def test_an_empty_payload_is_no_entry() -> None:
    """No JSON text is empty, so such bytes are somebody's mistake."""
    assert decode(HEAD + b"".join(made(b"")), DIGEST) is None


def test_a_negative_time_is_written_as_zero() -> None:
    """A clock that was set back during a computation spoils no entry."""
    found = decode(HEAD + b"".join(made(b"1", compute_seconds=-0.5, computed_at=-1)), DIGEST)
    assert found is not None
    assert (found.compute_seconds, found.computed_at) == (0, 0)


@quick
@given(ENTRIES)
def test_an_entry_of_another_key_is_none(entry: Entry) -> None:
    """Bytes that were moved to another key, another principal's say, are not served there."""
    assert decode(encoded(entry), "0" * 32) is None
    assert decode(encoded(entry), DIGEST) == entry


@quick
@given(ENTRIES, BIG)
def test_a_large_payload_is_stored_small_and_read_back(entry: Entry, payload: bytes) -> None:
    """Above the threshold it is compressed, and comes out as it went in, signed or not."""
    large = structs.replace(entry, payload=payload)
    for secret in (b"", SECRET):
        raw = encoded(large, secret=secret)
        assert len(raw) < len(payload) // 2
        assert decode(raw, DIGEST, secret) == large


def test_what_cannot_be_compressed_is_stored_as_it_is() -> None:
    """Compression that saves nothing would cost each reader."""
    payload = b'"' + secrets.token_hex(COMPRESS_ABOVE).encode() + b'"'
    noise = secrets.token_bytes(4 * COMPRESS_ABOVE)
    assert made(noise)[1] == noise
    assert len(made(payload)[1]) < len(payload)  # hex digits are half as dense


def test_a_payload_cannot_grow_beyond_what_was_said() -> None:
    """A frame that unpacks to more than the header says is refused before it is unpacked."""
    tail, stored = made(b"0" * 100_000)
    lying = tail.replace(struct.pack(">Q", 100_000), struct.pack(">Q", 10))
    assert lying != tail
    assert decode(HEAD + lying + stored, DIGEST) is None
    assert decode(HEAD + tail + zstandard.compress(b"0" * 10**6)[: len(stored)], DIGEST) is None
    for size in (2**29, 2**40, 2**62):
        bomb = b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"
        assert zstandard.frame_content_size(bomb) == size
        huge = tail.replace(struct.pack(">QQ", len(stored), 100_000), struct.pack(">QQ", len(bomb), size))
        assert huge != tail
        assert decode(HEAD + huge + bomb, DIGEST) is None


@quick
@given(ENTRIES, st.data())
def test_with_a_secret_only_whole_signed_entries_are_taken(entry: Entry, data: st.DataObject) -> None:
    """Unsigned, signed with another secret, or with one bit wrong behind the position: None."""
    raw = bytearray(encoded(entry, secret=SECRET))
    assert decode(bytes(raw), DIGEST, SECRET) == entry
    assert decode(bytes(raw), DIGEST, b"other") is None
    assert decode(encoded(entry), DIGEST, SECRET) is None
    bit = data.draw(st.integers(32 * 8, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert decode(bytes(raw), DIGEST, SECRET) is None


def made(payload: bytes, **times: float) -> tuple[bytes, bytes]:
    """Tail and stored payload of an entry."""
    given_times: dict[str, Any] = {"fresh": 1, "life": 2, "compute_seconds": 0, "computed_at": 0, **times}
    return encode(payload, digest=DIGEST, tag_versions=(), **given_times)
