"""Entries as they were read last, so that the same bytes are not read twice: for processes that hold no values.

Invariant: an entry is given for exactly the bytes it was made of, which the store has just sent.
"""

from __future__ import annotations

from cache_layer.codec import Entry, decode

#: Bytes remembered, and of one entry; all are forgotten when there are more.
_BUDGET, _LARGEST = 8 * 1024 * 1024, 65_536


class Decoder:
    """`codec.decode` with a memory."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._known: dict[str, tuple[bytes, Entry]] = {}
        self._size = 0

    def decode(self, raw: bytes | None, digest: str) -> Entry | None:
        """See `codec.decode`."""
        known = self._known.get(digest)
        if known is not None and known[0] == raw:
            return known[1]
        entry = decode(raw, digest, self._secret)
        if entry is not None and raw is not None and len(raw) <= _LARGEST:
            self._size += 2 * len(raw)
            if self._size > _BUDGET:
                self._known.clear()
                self._size = 2 * len(raw)
            self._known[digest] = (raw, entry)
        return entry
