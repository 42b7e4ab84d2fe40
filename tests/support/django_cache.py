"""Caches of Django's kind for tests: each test's own namespace, and what is left behind is looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from asgi_app.cache_backend import MillpondCache
from asgi_app.cache_backend.connections import connections
from tests.support.store import StoreServer


class MakeCache(Protocol):
    """Makes a cache of the test's namespace, of the same one each time; options are those of CACHES."""

    def __call__(self, *, prefix: str = "", timeout: float | None = 300, **options: Any) -> MillpondCache: ...


def caches(server: StoreServer, namespace: str) -> Iterator[MakeCache]:
    """For a fixture.  A key without a TTL at the end fails the test."""

    def make(*, prefix: str = "", timeout: float | None = 300, **options: Any) -> MillpondCache:
        params = {"KEY_PREFIX": namespace + prefix, "TIMEOUT": timeout, "OPTIONS": {"deadline": 10, **options}}
        return MillpondCache(server.url, params)

    yield make
    connections().close()
    eternal = asyncio.run(server.eternal_keys(f"d*{namespace}*"))
    assert not eternal, f"keys without a TTL: {eternal}"


def raw_name(cache: MillpondCache, key: str) -> str:
    """Where a key lies in the store."""
    return cache._space.name(cache.make_key(key))


def until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Poll until something is true; fails saying what was not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.005)
