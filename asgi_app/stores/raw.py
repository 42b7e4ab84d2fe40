"""Bytes in one of Django's caches: read whatever lies there, written or refused aloud.

Invariant: what is not bytes, or cannot be read at all, counts as not there, and goes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from math import ceil
from pickle import PickleError
from typing import Any

from django.core.cache.backends.base import BaseCache

#: What Django's back ends raise for bytes that are not what they once stored.
_UNREADABLE = (PickleError, zlib.error, EOFError, ValueError, AttributeError, ImportError, IndexError, TypeError)
#: Entries above this many bytes are read back: memcached refuses those above its limit (1 MiB by default), and the
#: database back end says nothing of what its server refused.
_LARGE = 512 * 1024


class TooLarge(Exception):
    """The cache takes no value of this size."""


def read(cache: BaseCache, names: Iterable[str]) -> dict[str, bytes]:
    """What is there and is bytes.  Whatever else lies there is foreign, and goes."""
    names = list(names)
    try:
        found = cache.get_many(names)
    except _UNREADABLE:
        found = {name: value for name in names if (value := _get(cache, name)) is not None}
    for name in [name for name, value in found.items() if not isinstance(value, bytes)]:
        cache.delete(name)
        del found[name]
    return found


def _get(cache: BaseCache, name: str) -> Any:
    try:
        return cache.get(name)
    except _UNREADABLE:
        cache.delete(name)
        return None


def add(cache: BaseCache, name: str, raw: bytes, life: int) -> bool:
    """As Django's `add`: False, and nothing is written, where something lies already."""
    try:
        return bool(cache.add(name, raw, life))
    except _UNREADABLE:
        cache.delete(name)
        return bool(cache.add(name, raw, life))


def write(cache: BaseCache, name: str, raw: bytes, life: int) -> None:
    """Raises TooLarge, and what the back end raises."""
    try:
        cache.set(name, raw, life)
    except OSError:
        raise
    except Exception as error:
        if len(raw) > _LARGE:
            raise TooLarge(f"{len(raw):,} bytes") from error
        raise
    if len(raw) > _LARGE and cache.get(name) != raw:
        raise TooLarge(f"{len(raw):,} bytes")


def seconds(ms: float) -> int:
    """A timeout for Django: whole seconds, because some back ends cut off the rest, and 0 would be "at once"."""
    return max(1, ceil(ms / 1000))
