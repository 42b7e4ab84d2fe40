"""What the processes of a deployment have of the cache: several of them in one test."""

from __future__ import annotations

import asyncio
import time

from cache_layer.cache import Cache, Committed, fresh_token
from cache_layer.feed import Feed
from cache_layer.invalidating import MAX_STALENESS, Invalidator
from cache_layer.keys import Key
from cache_layer.near import Near
from cache_layer.redis import Store
from tests.support.watcher import eventually

_BUDGET = 1 << 22


class Process:
    """The cache of one process, that hears of invalidations and holds values of its own."""

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        near: bool = True,
        feed: str = "",
        tracking: str = "",
        max_staleness: float = MAX_STALENESS,
    ) -> None:
        """`near=False`: it holds none; `feed` and `tracking`: where those connections go, if not to `url`."""
        self.store = Store(url, namespace, deadline=2.0)
        self.names = self.store.names
        self.feed = Feed(feed or url)
        self.near = Near(tracking or url, self.names.tracked(), budget=_BUDGET, max_staleness=max_staleness)
        self.holds = near
        held = self.near if near else None
        self.invalidator = Invalidator(self.store, self.feed, held)
        self.cache = Cache(self.store, invalidator=self.invalidator, near=held)

    async def __aenter__(self) -> Process:
        self.invalidator.start()
        await self.feed.start()
        await eventually(lambda: self.feed.healthy, "it hears")
        if self.holds:
            self.near.start()
            await eventually(lambda: self.near.open, "it is told")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.invalidator.stop()
        await asyncio.to_thread(self.near.stop)
        await self.feed.stop()
        await self.store.close()

    async def told(self) -> None:
        """Return when all that has changed in the store was told to the values here."""
        probe = self.names.tracked()[0] + "probe"
        if not self.holds:
            return
        await eventually(lambda: self.near.open, "it is told")
        fetch = self.near.fetch([probe])
        await self.store.command("SET", probe, "", "PX", 60_000)
        if fetch is not None:
            await eventually(lambda: not _stands(self.near, fetch, probe), "it is told")


def _stands(near: Near, fetch: object, name: str) -> bool:
    return near.keep(fetch, name, b"", cost=1, until=time.monotonic() + 60.0)  # type: ignore[arg-type]


async def fill(cache: Cache, what: Key, payload: bytes, *, force: bool = False, luck: float = 0.5) -> Committed:
    """Compute `what` in place."""
    token = fresh_token()
    found = await cache.lookup(what, near=False)
    begun = await cache.begin(what, seen=found.nonce, token=token, lease=60.0, force=force)
    assert begun.what == "begun", begun.what
    return await cache.commit(
        what,
        payload,
        holder=token,
        tag_versions=begun.tag_versions,
        compute_seconds=0.0,
        computed_at=time.time(),
        luck=luck,
    )


async def copied(process: Process, what: Key) -> None:
    """Look until the value is a copy of the process's own."""
    hits = process.near.stats.hits

    async def look() -> bool:
        await process.cache.lookup(what)
        return process.near.stats.hits > hits

    deadline = asyncio.get_running_loop().time() + 20.0
    while not await look():
        assert asyncio.get_running_loop().time() < deadline, "no copy was kept"
        await asyncio.sleep(0.002)
