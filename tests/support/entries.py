"""Entries and their bytes, as a commit leaves them in the store."""

from __future__ import annotations

from hypothesis import strategies as st

from cache_layer.codec import TAG_VERSION, Entry, encode
from cache_layer.position import Position

#: Of the key all of these entries are of.
DIGEST = "0123456789abcdef" * 2
_MILLISECONDS = st.integers(0, 10**13).map(lambda ms: ms / 1000)

ENTRIES = st.builds(
    Entry,
    nonce=st.binary(min_size=8, max_size=8),
    position=st.builds(Position, st.text("0123456789abcdef", min_size=8, max_size=8), st.integers(0, 10**16 - 1)),
    fresh=_MILLISECONDS,
    life=_MILLISECONDS,
    compute_seconds=_MILLISECONDS,
    computed_at=_MILLISECONDS,
    tag_versions=st.lists(st.binary(min_size=TAG_VERSION, max_size=TAG_VERSION), max_size=4).map(tuple),
    payload=st.binary(min_size=1, max_size=64),
)


def encoded(entry: Entry, digest: str = DIGEST, secret: bytes = b"") -> bytes:
    """Head, tail and payload, put together as `commit.lua` does."""
    head = entry.nonce + entry.position.epoch.encode() + b"%016d" % entry.position.offset
    tail, stored = encode(
        entry.payload,
        digest=digest,
        fresh=entry.fresh,
        life=entry.life,
        compute_seconds=entry.compute_seconds,
        computed_at=entry.computed_at,
        tag_versions=entry.tag_versions,
        secret=secret,
    )
    return head + tail + stored
