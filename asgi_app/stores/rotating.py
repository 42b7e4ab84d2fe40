"""Invalidations of values that lie in one of Django's caches.

Invariant (promise 2): when `invalidate` returns, the versions in a shared cache are others, and every process with
values of its own has said that it dropped them, or serves none because it does not hear.  They change before anybody is
told: who hears of it and looks finds nothing old.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cache_layer.feed import Feed
from cache_layer.invalidating import Invalidator
from cache_layer.outdated import Outdated
from cache_layer.redis import Store


class Rotating(Invalidator):
    """For a cache that all processes share."""

    def __init__(self, store: Store, feed: Feed | None, *, rotate: Callable[[Outdated], Awaitable[None]]) -> None:
        """`rotate` gives other versions to what is outdated; raises StoreUnavailable."""
        super().__init__(store, feed)
        self._rotate = rotate
        self._unrotated = Outdated()

    async def settle_versions(self) -> None:
        """As `settle`, where versions are still to be changed; what only was not told yet outdates no read."""
        if self._unrotated:
            await self._settling.do("versions", self._rotate_what_is_left)

    async def _rotate_what_is_left(self) -> None:
        while pending := self._unrotated:
            await self._rotate(pending)
            if self._unrotated == pending:
                self._unrotated = Outdated()

    async def _send(self, outdated: Outdated) -> None:
        try:
            await self._rotate(outdated)
        except BaseException:  # a cancellation too: nobody knows how far it came
            self._unrotated |= outdated
            raise
        await super()._send(outdated)


class Hearing(Invalidator):
    """For caches that each process has for itself: each hears, drops, and says so."""

    def __init__(self, store: Store, feed: Feed | None, *, drop: Callable[[Outdated], None]) -> None:
        super().__init__(store, feed)
        self._drop = drop

    def start(self) -> None:
        super().start()
        if self._feed is not None:
            self._feed.attach(self._names.near(), self._must_forget)

    async def _send(self, outdated: Outdated) -> None:
        await super()._send(outdated)
        self._drop(outdated)  # what was fetched since it was dropped first

    def _forget_here(self, outdated: Outdated) -> None:
        self._drop(outdated)
