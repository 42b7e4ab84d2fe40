"""A position: where in the life of a topic a value stands.

Invariant: within one epoch a larger offset is newer; positions of different epochs do not compare.
(The pair, and the reason for it, are Centrifuge's `StreamPosition`.)
"""

from __future__ import annotations

import re

import msgspec

_TEXT = re.compile(r"([A-Za-z0-9]{1,32})[-:]([0-9]{1,16})")


class Position(msgspec.Struct, frozen=True, gc=False):
    """An epoch and an offset.  One position is the ETag over HTTP, the `id:` of an event and the websocket offset."""

    #: Random text that lives as long as the topic's history; a new one says: what was held before means nothing now.
    epoch: str
    #: Number of the version within its epoch, from 1; 0 before the first value.
    offset: int

    def covers(self, other: Position) -> bool:
        """Whether a holder of this position has nothing to learn from `other`."""
        return self.epoch == other.epoch and self.offset >= other.offset

    def etag(self) -> str:
        """The strong entity tag, quotes included."""
        return f'"{self}"'

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Read `epoch-offset` or `epoch:offset`; None when the text is no position."""
        match = _TEXT.fullmatch(text)
        return cls(match[1], int(match[2])) if match else None
