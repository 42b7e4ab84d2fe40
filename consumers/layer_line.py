"""Channels that any process may read (`send("resize")`, read by `runworker`): a line in the store, one reader for each.

Invariant: a message is given to one reader at most, and one that was taken for a reader who is cancelled meanwhile goes
back to the front of the line.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from cache_layer import metrics
from cache_layer.errors import StoreUnavailable
from cache_layer.redis import Arg
from consumers.layer_post import Post

#: Seconds between two looks when nobody rings, and after the store did not answer.
_LOOK_AGAIN = 5.0
_PAUSE = 0.5
#: Bytes in front of a message: when it expires.
_HEAD = 15


class _Bell:
    """Wakes the readers of one channel on one event loop."""

    def __init__(self) -> None:
        self.rings = 0
        self.readers = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self, _: bytes = b"") -> None:
        self.rings += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def heard(self, since: int, within: float) -> None:
        """Return when it has rung after `since`, or the seconds are over."""
        if self.rings != since:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            async with asyncio.timeout(within):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(waiter)


class Lines:
    """The lines, as one event loop reads and fills them."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self._bells: dict[str, _Bell] = {}
        post.on_gap.append(self._ring_all)

    async def put(self, channel: str, data: bytes, capacity: int) -> bool:
        """At the end, if there is room.  Raises StoreUnavailable."""
        return bool(await self._put(channel, data, capacity))

    async def take(self, channel: str) -> bytes | None:
        """The next message; waits for it, and for the store.  None when the post was closed meanwhile."""
        bell = await self._bell(channel)
        try:
            while True:
                rings = bell.rings
                try:
                    item = await self._taken(channel)
                    pause = _LOOK_AGAIN
                except StoreUnavailable:
                    item, pause = None, _PAUSE
                if item is not None:
                    return item[_HEAD:]
                if self.post.closed:
                    return None
                await bell.heard(rings, pause)
        finally:
            self._leave(channel, bell)

    async def _bell(self, channel: str) -> _Bell:
        bell = self._bells.setdefault(channel, _Bell())
        bell.readers += 1
        try:
            await self.post.hold_anyway(self.post.shard(channel), self.post.shop.names.bell(channel), bell.ring)
        except BaseException:
            self._leave(channel, bell)
            raise
        return bell

    def _leave(self, channel: str, bell: _Bell) -> None:
        bell.readers -= 1
        if not bell.readers:
            del self._bells[channel]
            self.post.let_go(self.post.shop.names.bell(channel))

    async def _taken(self, channel: str) -> bytes | None:
        taking = self.post.background.start(self._take(channel))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # The reader is gone and the message on its way: it goes back.  Bounded by the store's deadlines.
            with suppress(StoreUnavailable, asyncio.CancelledError):
                item = await taking
                if item is not None:
                    await self._put(channel, item, 0, "back")
            raise

    async def _take(self, channel: str) -> bytes | None:
        key = self.post.shop.names.line(channel)
        item, expired = await self.post.shard(channel).store.script("layer_take", [key], [])
        if expired:
            metrics.layer["expired"] += int(expired)
        return None if item is None else bytes(item)

    async def _put(self, channel: str, data: bytes, capacity: int, *back: str) -> int:
        names, store = self.post.shop.names, self.post.shard(channel).store
        args: list[Arg] = [data, capacity, int(self.post.shop.expiry * 1000), names.bell(channel), *back]
        return int(await store.script("layer_put", [names.line(channel)], args))

    def _ring_all(self) -> None:
        for bell in self._bells.values():
            bell.ring()
