"""The copies of `near.py`: what they depend on, and the room they have.

Invariant: the copies on a shelf never cost more bytes than its budget, overhead included.
"""

from __future__ import annotations

from typing import Any

import msgspec
from cachetools import LRUCache

# Copies are left alone by the collector of cycles (`gc=False`; there are none through them): with a hundred thousand,
# a walk over all took three times as long.

#: Bytes that a copy costs beside its payload: measured 615 with one name of its own and shared tags (CPython 3.11).
OVERHEAD = 800


class Mark:
    """Stands until something is told of its name."""

    __slots__ = ("__weakref__", "standing")

    def __init__(self) -> None:
        self.standing = True


class Fetch(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """What has to be true still for the result of a read to be kept, and as long as it is given out."""

    #: Another one reigns when anything may have changed.
    epoch: object
    #: Of all names the result was read from.
    marks: tuple[Mark, ...]


class Copy(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """A value with what it depends on."""

    value: Any
    #: Bytes, with the overhead.
    cost: int
    #: Monotonic time from which it is not given out.
    until: float
    fetch: Fetch


class Shelf(LRUCache[str, Copy]):
    """Copies by name; the least recently used leave first.

    cachetools and not theine: its better admission policy bounds the number of entries and knows no bytes.
    """

    def __init__(self, budget: int) -> None:
        super().__init__(budget, getsizeof=lambda copy: copy.cost)
        self.evictions = 0

    def popitem(self) -> tuple[str, Copy]:
        self.evictions += 1
        return super().popitem()
