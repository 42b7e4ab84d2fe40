"""Entries and their bytes, as a commit leaves them in the store."""

from __future__ import annotations

from hypothesis import strategies as st

from cache_layer.codec import Entry, encode_tail
from cache_layer.position import Position

_MILLISECONDS = st.integers(0, 10**13).map(lambda ms: ms / 1000)

ENTRIES = st.builds(
    Entry,
    nonce=st.binary(min_size=8, max_size=8),
    position=st.builds(Position, st.text("0123456789abcdef", min_size=8, max_size=8), st.integers(0, 10**16 - 1)),
    fresh=_MILLISECONDS,
    life=_MILLISECONDS,
    compute_seconds=_MILLISECONDS,
    computed_at=_MILLISECONDS,
    tag_versions=st.lists(st.binary(min_size=8, max_size=8), max_size=4).map(tuple),
    payload=st.binary(min_size=1, max_size=64),
)


def encoded(entry: Entry) -> bytes:
    """Head, tail and payload, put together as `commit.lua` does."""
    head = entry.nonce + entry.position.epoch.encode() + b"%016d" % entry.position.offset
    tail = encode_tail(
        fresh=entry.fresh,
        life=entry.life,
        compute_seconds=entry.compute_seconds,
        computed_at=entry.computed_at,
        tag_versions=entry.tag_versions,
        size=len(entry.payload),
    )
    return head + tail + entry.payload
