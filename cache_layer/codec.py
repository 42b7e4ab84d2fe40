"""The bytes of an entry.

    nonce 8 | epoch 8 | offset 16 decimal digits | magic "MPE1" | fresh ms | life ms | compute ms | computed at ms |
    tag count | payload length | tag versions, 8 each | payload

The first 32 bytes are written by `commit.lua`, which alone knows the position; the rest is made here.

Invariant: bytes that are not a whole entry of this format decode to None, never to an exception, and never to a part
of a payload or to more than it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cache_layer.position import Position

NONCE = 8
_POSITION = 24
_MAGIC = b"MPE1"
_FIXED = struct.Struct(">4sQQQQHQ")
_HEAD = NONCE + _POSITION + _FIXED.size
TAG_VERSION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A value as it lies in the store."""

    #: Random 8 bytes of this very write; tells two writes of the same bytes apart.
    nonce: bytes
    position: Position
    #: Seconds it is fresh, jitter included.
    fresh: float
    #: Seconds from its writing until the store drops it.
    life: float
    #: How long the computation took, in seconds.
    compute_seconds: float
    #: When it was computed, unix seconds by the clock of the computing process; for display only.
    computed_at: float
    #: Versions of its tags when the computation began, in the order of the key's tags.
    tag_versions: tuple[bytes, ...]
    #: The value as compact JSON without a raw newline.
    payload: bytes


def encode_tail(
    *, fresh: float, life: float, compute_seconds: float, computed_at: float, tag_versions: tuple[bytes, ...], size: int
) -> bytes:
    """What stands between the position and the payload of `size` bytes."""
    times = (_ms(fresh), _ms(life), _ms(compute_seconds), _ms(computed_at))
    return _FIXED.pack(_MAGIC, *times, len(tag_versions), size) + b"".join(tag_versions)


def decode(raw: bytes | None) -> Entry | None:
    """Read an entry; None for nothing and for foreign, truncated or older bytes."""
    if raw is None or len(raw) < _HEAD:
        return None
    magic, fresh, life, compute, computed, count, size = _FIXED.unpack_from(raw, NONCE + _POSITION)
    start = _HEAD + count * TAG_VERSION
    digits = raw[16:32]
    if magic != _MAGIC or not digits.isdigit() or not raw[8:16].isalnum() or not size or len(raw) != start + size:
        return None
    return Entry(
        nonce=raw[:NONCE],
        position=Position(raw[8:16].decode("ascii"), int(digits)),
        fresh=fresh / 1000,
        life=life / 1000,
        compute_seconds=compute / 1000,
        computed_at=computed / 1000,
        tag_versions=tuple(raw[i : i + TAG_VERSION] for i in range(_HEAD, start, TAG_VERSION)),
        payload=raw[start:],
    )


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
