"""The bytes of an entry.

    nonce 8 | epoch 8 | offset 16 decimal digits | magic "MPE2" | flags | digest of the key 16 | fresh ms | life ms |
    compute ms | computed at ms | tag count | stored length | plain length | [signature 32] | tag versions, 16 each |
    payload

The first 32 bytes are written by `commit.lua`, which alone knows the position; the rest is made here.  Flags: 1 the
payload is compressed (zstd), 2 signed (HMAC-SHA256 over everything behind the position).  The digest binds an entry to
its key, and so to the principal the key was made for.

Invariant: bytes that are not a whole entry of this format, of this key and, where a secret is given, signed with it,
decode to None, never to an exception, and never to a part of a payload or to more than it.
"""

from __future__ import annotations

import hmac
import struct

import msgspec
import zstandard

from cache_layer.position import Position

NONCE = 8
#: 8 random bytes that every hard invalidation changes, and 8 that also a soft one changes.
TAG_VERSION = 16
_POSITION = 24
_MAGIC = b"MPE2"
_FIXED = struct.Struct(">4sB16sQQQQHQQ")
_START = NONCE + _POSITION
_HEAD = _START + _FIXED.size
#: Where `outdate.lua` finds fresh and life, in bytes from the beginning.
TIMES = _START + struct.calcsize(">4sB16s")
_COMPRESSED, _SIGNED = 1, 2
_SIGNATURE = 32
#: No payload is larger, whatever bytes say: `MILLPOND_MAX_VALUE` allows 256 MiB.
_LARGEST = 2**28
#: Payloads of more bytes than this are compressed, if an eighth is saved.
COMPRESS_ABOVE = 4096
_LEVEL = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    #: Versions of the namespace and of its tags when the computation began, in the order of the key's tags.
    tag_versions: tuple[bytes, ...]
    #: The value as compact JSON without a raw newline.
    payload: bytes


def encode(
    payload: bytes,
    *,
    digest: str,
    fresh: float,
    life: float,
    compute_seconds: float,
    computed_at: float,
    tag_versions: tuple[bytes, ...],
    secret: bytes = b"",
) -> tuple[bytes, bytes]:
    """What stands between the position and the payload, and the payload as it is stored."""
    stored = _compressed(payload)
    flags = (_COMPRESSED if stored is not payload else 0) | (_SIGNED if secret else 0)
    times = (_ms(fresh), _ms(life), _ms(compute_seconds), _ms(computed_at))
    sizes = (len(tag_versions), len(stored), len(payload))
    fixed = _FIXED.pack(_MAGIC, flags, bytes.fromhex(digest), *times, *sizes)
    versions = b"".join(tag_versions)
    signature = _signature(secret, fixed, versions, stored) if secret else b""
    return fixed + signature + versions, stored


def decode(raw: bytes | None, digest: str, secret: bytes = b"") -> Entry | None:
    """Read the entry of the key with this digest; None for nothing and for foreign, truncated or older bytes."""
    if raw is None or len(raw) < _HEAD:
        return None
    magic, flags, owner, fresh, life, compute, computed, count, size, plain = _FIXED.unpack_from(raw, _START)
    begin = _HEAD + (_SIGNATURE if flags & _SIGNED else 0)
    start = begin + count * TAG_VERSION
    if magic != _MAGIC or owner.hex() != digest or flags > 3:
        return None
    if not size or len(raw) != start + size or plain > _LARGEST:
        return None
    if not raw[16:32].isdigit() or not raw[8:16].isalnum() or not raw[8:16].isascii():
        return None
    if secret and not (flags & _SIGNED and _signed(raw, begin, start, secret)):
        return None
    payload = _plain(raw[start:], plain) if flags & _COMPRESSED else raw[start:]
    if payload is None or len(payload) != plain:
        return None
    return Entry(
        nonce=raw[:NONCE],
        position=Position(raw[8:16].decode("ascii"), int(raw[16:32])),
        fresh=fresh / 1000,
        life=life / 1000,
        compute_seconds=compute / 1000,
        computed_at=computed / 1000,
        tag_versions=tuple(raw[i : i + TAG_VERSION] for i in range(begin, start, TAG_VERSION)),
        payload=payload,
    )


def _compressed(payload: bytes) -> bytes:
    if len(payload) <= COMPRESS_ABOVE:
        return payload
    smaller = zstandard.compress(payload, _LEVEL)
    return smaller if len(smaller) <= len(payload) * 7 // 8 else payload


def _plain(stored: bytes, size: int) -> bytes | None:
    """The payload; its size is known beforehand, so that a few foreign bytes cannot become gigabytes."""
    try:
        if zstandard.frame_content_size(stored) != size:
            return None
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=size, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError):
        return None


def _signature(secret: bytes, fixed: bytes, versions: bytes, stored: bytes) -> bytes:
    return hmac.digest(secret, fixed + versions + stored, "sha256")


def _signed(raw: bytes, begin: int, start: int, secret: bytes) -> bool:
    made = _signature(secret, raw[_START:_HEAD], raw[begin:start], raw[start:])
    return hmac.compare_digest(made, raw[_HEAD:begin])


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
