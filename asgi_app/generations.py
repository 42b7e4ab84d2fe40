"""A memory of what is asked for again, in two generations: what is asked for while it is old becomes young again.

As good as least-recently-used for what is hot, at the price of one look into a dictionary.
Invariant: there are never more than twice `most` things, nor more than twice `most_bytes` and the two that went beyond.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    #: Bytes, about.
    size: int


T = TypeVar("T", bound=Sized)


class Generations(Generic[T]):
    """For one thread."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._young: dict[Hashable, T] = {}
        self._old: dict[Hashable, T] = {}
        #: Of the young ones.
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __iter__(self) -> Iterator[Hashable]:
        yield from self._young
        yield from self._old

    def get(self, name: Hashable) -> T | None:
        thing = self._young.get(name)
        if thing is None and name in self._old:
            thing = self._old.pop(name)
            self.keep(name, thing)
        return thing

    def keep(self, name: Hashable, thing: T) -> None:
        if len(self._young) >= self._most:
            self._turn()
        self._old.pop(name, None)
        before = self._young.get(name)
        if before is not None:
            self._bytes -= before.size
        self._young[name] = thing
        self._count(thing.size)

    def grown(self, thing: T, by: int) -> None:
        """A young thing is so much larger now."""
        thing.size += by
        self._count(by)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._most_bytes:
            self._turn()

    def _turn(self) -> None:
        self._old, self._young, self._bytes = self._young, {}, 0
