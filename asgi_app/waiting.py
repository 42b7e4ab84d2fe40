"""A reader that waits: woken by what happens on the channel of its key.

Invariant: a waiter never sleeps past its deadline, nor longer than `_LOOK_AGAIN` without looking: what it waits for may
have happened where nobody could tell it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from types import TracebackType

from cache_layer.feed import Feed
from cache_layer.position import Position
from cache_layer.publication import Publication, Signal, Value

#: Seconds after which a waiting reader looks again although nobody woke it, jittered.
_LOOK_AGAIN = 1.0


class Waiter:
    """`async with Waiter(...) as waiter: ... await waiter.woken()`.  Raises StoreUnavailable when it cannot listen."""

    def __init__(
        self,
        feed: Feed,
        channel: str,
        parse: Callable[[bytes], Publication | None],
        deadline: float,
        newer_than: Position | None,
    ) -> None:
        """`parse` reads the messages of `channel`; `deadline` in monotonic seconds; values that the holder of
        `newer_than` knows wake nobody."""
        self._feed = feed
        self._channel = channel
        self._parse = parse
        self._deadline = deadline
        self._newer_than = newer_than
        self._event = asyncio.Event()
        #: False: the deadline was over before the store confirmed the subscription.
        self.listening = False

    async def __aenter__(self) -> Waiter:
        try:
            async with asyncio.timeout(self._left()):
                await self._feed.subscribe(self._channel, self._hear)
            self.listening = True
        except TimeoutError:
            pass
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.unsubscribe(self._channel, self._hear)

    async def woken(self) -> bool:
        """Wait until something happened, or it is time to look again; False when the deadline is over."""
        if self._left() <= 0:
            return False
        try:
            async with asyncio.timeout(min(self._left(), _LOOK_AGAIN * random.uniform(0.8, 1.2))):
                await self._event.wait()
        except TimeoutError:
            return self._left() > 0
        self._event.clear()
        return True

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _hear(self, message: bytes) -> None:
        publication, known = self._parse(message), self._newer_than
        if isinstance(publication, Signal) and publication.kind == "progress":
            return
        if isinstance(publication, Value) and known is not None and known.covers(publication.entry.position):
            return
        self._event.set()
