"""Bytes in one of Django's caches: read whatever lies there, written or refused aloud.

Invariant: what is not bytes, or cannot be read at all, counts as not there, and goes.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from pickle import PickleError
from typing import IO, Any, cast

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.files import locks

#: What Django's back ends raise for bytes that are not what they once stored.
_UNREADABLE = (PickleError, zlib.error, EOFError, ValueError, AttributeError, ImportError, IndexError, TypeError)
#: Entries above this many bytes are read back: memcached refuses those above its limit (1 MiB by default), and the
#: database back end says nothing of what its server refused.
_LARGE = 512 * 1024
#: In the directory of a file cache; its name ends otherwise than those of values, so that it is not culled.
_LOCK = "millpond.lock"
#: Seconds to wait for others that add, and between two looks; adding takes a millisecond.
_PATIENCE, _AGAIN = 1.0, 0.001


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
    """As Django's `add`: False, and nothing is written, where something lies already; of many at once, one writes."""
    with _alone(cache):
        try:
            return bool(cache.add(name, raw, life))
        except _UNREADABLE:
            cache.delete(name)
            return bool(cache.add(name, raw, life))


@contextmanager
def _alone(cache: BaseCache) -> Iterator[None]:
    """Nobody else on this machine adds meanwhile, where the back end itself looks and writes in two steps (files).

    Raises OSError when somebody is at it for too long.
    """
    if not isinstance(cache, FileBasedCache):
        yield
        return
    folder = Path(cast(Any, cache)._dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / _LOCK).open("wb") as file:
        until = time.monotonic() + _PATIENCE
        while not _locked(file):
            if time.monotonic() > until:
                raise OSError(f"another process has held {_LOCK} for {_PATIENCE:g} s")
            time.sleep(_AGAIN)
        yield


def _locked(file: IO[bytes]) -> bool:
    """Whether nobody else has the lock now; nobody has where the file system knows none."""
    try:
        return locks.lock(file, locks.LOCK_EX | locks.LOCK_NB)
    except OSError:
        return True


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
