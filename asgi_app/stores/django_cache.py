"""One of Django's caches, called from an event loop.

Invariants: no call takes longer than `deadline` seconds of its caller's time, none runs on asgiref's shared thread, and
only `StoreUnavailable` and `TooLarge` leave.  A call that is late goes on behind; whatever is done here may be late.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import close_old_connections

from asgi_app.stores.raw import TooLarge
from cache_layer.breaker import Breaker
from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds a call may take; a page that waits longer for its cache had better do without.
DEADLINE = 1.5
#: Calls at once: a cache on a disk or in a database serves few at a time, and each thread may cost a connection.
_THREADS = 8
#: Calls that may wait for a thread.
_WAITING = 1000


class DjangoCache:
    """The cache of an alias.  Its back ends are not made for several threads, so each thread has one of its own."""

    def __init__(self, alias: str, *, deadline: float = DEADLINE) -> None:
        """Raises what Django raises for an alias it cannot make a cache of."""
        self.alias = alias
        self._deadline = deadline
        self._made: list[BaseCache] = []
        self._here = threading.local()
        #: Of this process alone: nobody else can read what is put there.
        self.private = isinstance(self._cache(), (LocMemCache, DummyCache))
        self.keeps = not isinstance(self._cache(), DummyCache)
        self._threads = None if self.private else ThreadPoolExecutor(_THREADS, f"cache {alias}")
        self._breaker = Breaker()
        self._pending = 0

    async def run(self, work: Callable[[BaseCache], T]) -> T:
        """The result of `work` with the cache.  Raises StoreUnavailable, and TooLarge when `work` does."""
        if self._threads is None:
            return self.run_here(work)
        if self._breaker.open(time.monotonic()) or self._pending >= _WAITING:
            raise StoreUnavailable(f"the cache {self.alias!r} is away")
        self._pending += 1
        try:
            async with asyncio.timeout(self._deadline):
                result = await asyncio.wrap_future(self._threads.submit(self._in_thread, work))
        except TooLarge:
            self._breaker.succeeded()
            raise
        except Exception as error:  # each back end has errors of its own, and all mean the same here
            self._breaker.failed(time.monotonic())
            log.warning("the cache %r: %s", self.alias, error or type(error).__name__)
            raise StoreUnavailable(f"the cache {self.alias!r} did not answer: {type(error).__name__}") from error
        finally:
            self._pending -= 1
        self._breaker.succeeded()
        return result

    def run_here(self, work: Callable[[BaseCache], T]) -> T:
        """As `run`, at once on this thread: for a cache in memory."""
        return work(self._cache())

    def close(self) -> None:
        """End the threads and close what they have opened; may be called twice."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        while self._made:
            self._made.pop().close()

    def _in_thread(self, work: Callable[[BaseCache], T]) -> T:
        close_old_connections()
        try:
            return work(self._cache())
        finally:
            close_old_connections()

    def _cache(self) -> BaseCache:
        made: BaseCache | None = getattr(self._here, "cache", None)
        if made is None:
            made = self._here.cache = caches.create_connection(self.alias)
            self._made.append(made)
        return made
