"""What an invalidation outdates: values by tag, values by key, or everything.  Pure.

Invariant: merging loses nothing, and what is merged is bounded: beyond `MOST` names it becomes `everything`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from cache_layer.keys import Key

#: Names in one invalidation at the most; beyond, all of the namespace is outdated instead.
MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdated:
    """Values that are outdated; all parts apply."""

    tags: frozenset[str] = frozenset()
    #: Single values, as (name of the resource, digest of the key).
    keys: frozenset[tuple[str, str]] = frozenset()
    #: All values of the namespace.
    everything: bool = False
    #: They count as stale instead of gone: served within their windows while they are computed anew.
    soft: bool = False
    #: Of the keys; thousands of values may be asked for one after the other.
    _digests: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_digests", frozenset(digest for _, digest in self.keys))

    def __bool__(self) -> bool:
        return bool(self.tags or self.keys or self.everything)

    def __or__(self, other: Outdated) -> Outdated:
        """Both; hard if one of them is."""
        if not self or not other:
            return self or other
        soft, tags, keys = self.soft and other.soft, self.tags | other.tags, self.keys | other.keys
        if len(tags) + len(keys) > MOST:
            return Outdated(everything=True, soft=soft)
        return Outdated(tags=tags, keys=keys, everything=self.everything or other.everything, soft=soft)

    def covers(self, digest: str, tags: Iterable[str]) -> bool:
        """Whether the value of the key with this digest and these tags is outdated by it."""
        return self.everything or digest in self._digests or not self.tags.isdisjoint(tags)

    def to_json(self) -> bytes:
        text = _Text(tags=sorted(self.tags), keys=sorted(self.keys), everything=self.everything, soft=self.soft)
        return msgspec.json.encode(text)

    @classmethod
    def from_json(cls, text: bytes | str) -> Outdated | None:
        """What `to_json` wrote; None for anything else."""
        try:
            read = msgspec.json.decode(text, type=_Text)
        except (msgspec.DecodeError, RecursionError):
            return None
        return cls(tags=frozenset(read.tags), keys=frozenset(read.keys), everything=read.everything, soft=read.soft)


def of_tags(*tags: str, soft: bool = False) -> Outdated:
    """All values that carry one of the tags."""
    return Outdated(tags=frozenset(tags), soft=soft)


def of_keys(*keys: Key, soft: bool = False) -> Outdated:
    """The values of these keys."""
    return Outdated(keys=frozenset((key.name, key.digest) for key in keys), soft=soft)


EVERYTHING = Outdated(everything=True)


class _Text(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    tags: list[str] = []
    keys: list[tuple[str, str]] = []
    everything: bool = False
    soft: bool = False
