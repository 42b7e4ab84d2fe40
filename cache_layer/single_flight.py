"""Callers of one key in one process share one run of the work.

Invariants: a caller that is cancelled leaves the shared run to the others; the run is never cancelled by a caller; and
with `since` nobody shares a run that began before that moment, so that what it read is not older than who asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs of coroutines, at most one at a time for each key.  For one event loop."""

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Task[T]] = {}
        self._began: dict[asyncio.Task[T], float] = {}

    async def do(self, key: str, work: Callable[[], Coroutine[Any, Any, T]], *, since: float = 0.0) -> T:
        """The result of a run for `key` that began at `since` (monotonic seconds) or later, shared or new."""
        return await asyncio.shield(self.start(key, work, since=since))

    def start(self, key: str, work: Callable[[], Coroutine[Any, Any, T]], *, since: float = 0.0) -> asyncio.Task[T]:
        """The run itself, for callers that do not wait.  It sees none of the caller's context variables."""
        flight = self._flights.get(key)
        if flight is None or self._began[flight] < since:
            flight = asyncio.get_running_loop().create_task(work(), context=Context())
            self._flights[key] = flight
            self._began[flight] = time.monotonic()
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    def __len__(self) -> int:
        return len(self._began)

    def __contains__(self, key: str) -> bool:
        return key in self._flights

    async def finish(self) -> None:
        """Wait for all runs to end by themselves."""
        await asyncio.gather(*self._began, return_exceptions=True)

    async def close(self) -> None:
        """End all runs; may be called twice."""
        flights = list(self._began)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: str, flight: asyncio.Task[T]) -> None:
        del self._began[flight]
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # read, so that a run nobody waits for is no warning
