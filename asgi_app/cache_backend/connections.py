"""The connections behind all caches of a process: Django makes a cache object per thread and per request.

Invariant: a forked child never touches its parent's connections; it makes its own, and leaves those alone.

Connections of an event loop are closed when the loop ends: an asynchronous generator waits on it, and asyncio's runners
(also those of Django, uvicorn and pytest) close the generators of a loop before the loop itself.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from weakref import WeakKeyDictionary

from asgi_app.cache_backend.driving import LoopFlights, Side, ThreadFlights
from cache_layer.blocking import BlockingStore
from cache_layer.kv import Space
from cache_layer.near import Near
from cache_layer.redis import Store

#: What tells one store from another: its URL and the seconds one operation may take.
Where = tuple[str, float]


class _Loop:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.sides: dict[Where, Side] = {}
        self._keepers: dict[Where, AsyncGenerator[None]] = {}

    async def open(self, where: Where) -> Side:
        url, deadline = where
        store = Store(url, deadline=deadline)
        self.sides[where] = side = Side(carrier=store, flights=LoopFlights())
        keeper = self._keepers[where] = self._until_the_loop_ends(where, store)
        await anext(keeper)
        return side

    async def _until_the_loop_ends(self, where: Where, store: Store) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            # both refer to the loop, which would never be collected
            del self.sides[where], self._keepers[where]
            await store.close()


class Connections:
    """All of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocking: dict[Where, tuple[BlockingStore, Side]] = {}
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()
        self._nears: dict[tuple[str, str, int], Near] = {}

    def blocking(self, where: Where) -> Side:
        """For threads."""
        found = self._blocking.get(where)
        if found is None:
            with self._lock:
                found = self._blocking.get(where) or self._open_blocking(where)
        return found[1]

    async def of_loop(self, where: Where) -> Side:
        """For the running event loop."""
        loop = asyncio.get_running_loop()
        connections = self._loops.get(loop)
        if connections is None:
            with self._lock:
                self._forget_closed_loops()
                connections = self._loops[loop] = _Loop()
        return connections.sides.get(where) or await connections.open(where)

    def near(self, url: str, space: Space, budget: int) -> Near:
        """The copies of a namespace in this process."""
        key = (url, space.prefix, budget)
        found = self._nears.get(key)
        if found is None:
            with self._lock:
                found = self._nears.get(key) or self._open_near(key)
        return found

    def close(self) -> None:
        """Close what belongs to no loop; may be called twice, and used again."""
        with self._lock:
            for store, _ in self._blocking.values():
                store.close()
            for near in self._nears.values():
                near.stop()
            self._blocking.clear()
            self._nears.clear()

    def _open_blocking(self, where: Where) -> tuple[BlockingStore, Side]:
        url, deadline = where
        store = BlockingStore(url, deadline=deadline)
        found = self._blocking[where] = (store, Side(carrier=store, flights=ThreadFlights()))
        return found

    def _open_near(self, key: tuple[str, str, int]) -> Near:
        url, prefix, budget = key
        near = self._nears[key] = Near(url, [prefix], budget=budget)
        near.start()
        return near

    def _forget_closed_loops(self) -> None:
        # their connections refer to them, so that they would never be collected
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            del self._loops[loop]


#: By process id.  A parent's stay referenced in its child: collecting them would close what the parent uses.
_of_process: dict[int, Connections] = {}


def connections() -> Connections:
    """Those of this process."""
    pid = os.getpid()
    return _of_process.get(pid) or _of_process.setdefault(pid, Connections())
