"""Values in a cache that each process has for itself: memory (locmem), or nothing (dummy).

What is computed where, and for whom, the data store decides as ever; there a value lies only for as long as it takes to
be fetched.  A process that misses one, or hears that one of its own was computed anew, takes it into its cache.

Invariant (promise 2): what is taken is valid under versions that were read here before it was asked for; and a process
that is not sure to hear of invalidations takes nothing from its own cache.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from msgspec import structs

from asgi_app.stores.brief import briefly
from asgi_app.stores.django_cache import DjangoCache
from asgi_app.stores.rotating import Hearing
from asgi_app.stores.versioned import Versioned
from cache_layer.background import Background
from cache_layer.cache import Cache, Committed, Found
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.keys import Key
from cache_layer.outdated import EVERYTHING, Outdated
from cache_layer.redis import Store

#: Seconds a value lies in the data store to be fetched; where nothing is kept, it is not to outlast those who wait.
_FETCHED_WITHIN, _SHARED_FOR = 10.0, 2.0
#: Seconds before its end in which a value is not fetched: a soft invalidation of a single one ends it at once.
_ON_ITS_WAY_OUT = 0.1
#: Keys of which a copy may be here, so that it is renewed with the value.
_COPIES = 10_000


class OwnCache(Cache):
    """See `Cache`."""

    def __init__(self, store: Store, feed: Feed, kept: DjangoCache, secret: bytes = b"") -> None:
        self.invalidator = Hearing(store, feed, drop=self._drop)
        super().__init__(store, invalidator=self.invalidator, secret=secret)
        self._feed = feed
        self._kept = kept
        self._values = Versioned(store.names.everything(), secret)
        self._life = _FETCHED_WITHIN if kept.keeps else _SHARED_FOR
        #: Where every value that was stored is named, for those who have a copy of the one before.
        self._stored = f"{store.names.near()}:stored"
        self._copies: OrderedDict[str, Key] = OrderedDict()
        self._fetching = Background()
        if kept.keeps:
            feed.attach(self._stored, self._renew)
            feed.on_gap.append(partial(self._drop, EVERYTHING))

    async def lookup(self, key: Key, *, near: bool = True) -> Found:
        """As `Cache.lookup`; a fresh value of this process costs no round trip."""
        if not self._kept.keeps or not self._feed.confirmed(self.names.near()):
            return await super().lookup(key)
        await self.invalidator.settle()
        found = self._kept.run_here(partial(self._values.look, key=key))
        if found.entry is not None and found.age < found.entry.fresh and not found.softened:
            return found
        fetched = await self._fetch(key)
        if fetched.entry is not None:
            return fetched
        return structs.replace(found, failure=fetched.failure, nonce=fetched.nonce)

    async def commit(self, key: Key, payload: bytes, **how: Any) -> Committed:
        """As `Cache.commit`; what lies in the data store is there to be fetched, and no longer."""
        brief = replace(key, policy=briefly(key.policy, self._life))
        committed = await super().commit(brief, payload, **how)
        if committed.what == "stored" and self._kept.keeps:
            with suppress(StoreUnavailable):  # then the copies are as old as their freshness allows
                await self.store.command("PUBLISH", self._stored, key.digest)
        return committed

    async def _fetch(self, key: Key) -> Found:
        """What lies in the data store, and from now on here too."""
        versions = self._kept.run_here(partial(self._values.capture, key=key))
        fetched = await super().lookup(key)
        if fetched.entry is None or fetched.softened or fetched.age > self._life - _ON_ITS_WAY_OUT:
            return structs.replace(fetched, entry=None)
        entry = structs.replace(fetched.entry, tag_versions=versions, life=key.policy.life)
        self._kept.run_here(partial(self._values.keep, key=key, entry=entry, age=fetched.age))
        self._copies[key.digest] = key
        self._copies.move_to_end(key.digest)
        if len(self._copies) > _COPIES:
            self._copies.popitem(last=False)
        return structs.replace(fetched, entry=entry)

    def _renew(self, message: bytes) -> None:
        key = self._copies.get(message.decode("latin-1"))
        if key is not None:
            self._fetching.start(self._fetch_again(key))

    async def _fetch_again(self, key: Key) -> None:
        with suppress(StoreUnavailable):
            await self._fetch(key)

    def _drop(self, outdated: Outdated) -> None:
        if self._kept.keeps:
            self._kept.run_here(partial(self._values.outdate, outdated=outdated))

    def close(self) -> None:
        """End what runs behind; may be called twice."""
        self._fetching.cancel()
        self._kept.close()
