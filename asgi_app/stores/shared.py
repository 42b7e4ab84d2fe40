"""Values in a cache that all processes share: files, a database, memcached.

A hit asks that cache alone; values, their versions, and the leases of what web processes compute live there, and
outlive the data store, which has the jobs, the failures, the quotas and the channels.  A value does not travel on its
channel: whoever hears that it came reads it, and compares its versions.

Invariant (promise 2): a value is stored and served only under the versions that were captured before its computation.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal

from msgspec import structs

from asgi_app.computing import problem_bytes
from asgi_app.errors import ValueTooLarge
from asgi_app.stores.brief import briefly
from asgi_app.stores.django_cache import DjangoCache
from asgi_app.stores.raw import TooLarge
from asgi_app.stores.rotating import Rotating
from asgi_app.stores.versioned import NOWHERE, Put, Versioned, Versions
from cache_layer.cache import Begun, Cache, Committed, Found, version_ttl
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.keys import Key, digest
from cache_layer.outdated import Outdated
from cache_layer.position import Position
from cache_layer.publication import Changed, Publication
from cache_layer.queues import Limits
from cache_layer.records import Records
from cache_layer.redis import Store

#: Seconds the data store remembers that a value came, by its nonce: a reader who looked just before looks again.
_REMEMBERED, _MOMENT = 5.0, 0.1
#: Milliseconds of the window in which quotas count.
_MINUTE = 60_000
#: Names of an invalidation that are done at once, in one deadline.
_AT_ONCE = 100


class SharedCache(Cache):
    """See `Cache`; `tag_versions` are those of the data store (a job's), then those of `capture`."""

    def __init__(self, store: Store, feed: Feed | None, kept: DjangoCache, secret: bytes = b"") -> None:
        self.invalidator = Rotating(store, feed, rotate=self._rotate)
        super().__init__(store, invalidator=self.invalidator, secret=secret)
        self._kept = kept
        self._values = Versioned(store.names.everything(), secret)
        self._records = Records(store, Limits(queue=0))

    async def lookup(self, key: Key, *, near: bool = True) -> Found:
        """As `Cache.lookup`.  A failure is asked for only where no fresh value is."""
        await self.invalidator.settle_versions()
        found = await self._kept.run(partial(self._values.look, key=key))
        if found.entry is not None and found.age < found.entry.fresh and not found.softened:
            return found
        with suppress(StoreUnavailable):  # whatever has to ask it next says so
            return structs.replace(found, failure=await self._failure(key))
        return found

    def parse(self, digest: str, message: bytes) -> Publication | None:
        """As `Cache.parse`; a value is only told to have come."""
        return Changed() if message[:1] == b"V" else super().parse(digest, message)

    async def position(self, key: Key) -> Position:
        return await self._kept.run(partial(self._values.position, key=key))

    async def capture(self, key: Key) -> Versions:
        """The versions under which a job that begins now may store its value.  Raises StoreUnavailable."""
        return await self._kept.run(partial(self._values.capture, key=key))

    # --- computed in a web process

    async def begin(
        self,
        key: Key,
        *,
        seen: bytes,
        token: str,
        lease: float,
        force: bool = False,
        asker: str = "",
        key_rate: int = 0,
        key_bytes: int = 0,
    ) -> Begun:
        ask = partial(self._values.begin, key=key, seen=seen, token=token, lease=lease, force=force)
        right = await self._kept.run(ask)
        what: Literal["hit", "failed", "busy", "quota", "begun"] = right.what
        if right.what == "begun":
            if not force and await self._failed(key):
                what = "failed"
            elif right.new and key_rate and not await self._may_bring(asker, key_rate, key_bytes):
                what = "quota"
            if what != "begun":
                await self.hold(key, token, 0)
        return Begun(what=what, position=right.position, tag_versions=right.versions)

    async def hold(self, key: Key, token: str, lease: float) -> bool:
        return await self._kept.run(partial(self._values.hold, key=key, token=token, lease=lease))

    async def fail_in_place(self, key: Key, problem: bytes, *, token: str) -> None:
        names, ttl = self.names, max(1, round(key.policy.error_ttl * 1000))
        if await self.hold(key, token, 1.0):
            await self.store.transaction(
                ("SET", names.failure(key), problem, "PX", ttl), ("PUBLISH", names.channel(key), b"E" + problem)
            )
            await self.hold(key, token, 0)

    # --- storing

    async def commit(
        self,
        key: Key,
        payload: bytes,
        *,
        holder: str,
        tag_versions: Versions,
        compute_seconds: float,
        computed_at: float,
        luck: float,
        job_id: str | None = None,
        fence: int | None = None,
        worker: str = "",
        asker: str | None = None,
    ) -> Committed:
        put = partial(
            self._values.put,
            key=key,
            payload=payload,
            compute_seconds=compute_seconds,
            computed_at=computed_at,
            luck=luck,
        )
        try:
            if job_id is None:
                return await self._commit_here(key, put, holder, tag_versions, asker)
            return await self._commit_job(key, put, job_id, fence, worker, tag_versions)
        except TooLarge as error:
            problem = problem_bytes(ValueTooLarge(f"the cache {self._kept.alias!r} takes no value of {error}"))
            return await self._too_large(key, problem, holder, job_id, fence, worker)

    async def _commit_here(
        self, key: Key, put: partial[Put], token: str, versions: Versions, asker: str | None
    ) -> Committed:
        done = await self._kept.run(partial(put, versions=versions, holder=token))
        if done.what == "stored":
            # The value is there: the data store is told if it hears it, and without it nobody waits.
            with suppress(StoreUnavailable):
                await self._tell(key, asker, done.size)
        if done.what != "revoked":
            await self.hold(key, token, 0)
        return Committed(what=done.what, position=done.position, ring=0)

    async def _tell(self, key: Key, asker: str | None, size: int) -> None:
        names = self.names
        await self.store.transaction(("UNLINK", names.failure(key)), ("PUBLISH", names.channel(key), "C"))
        if asker is not None:
            await self._count(f"{asker} bytes", size)

    async def _commit_job(
        self, key: Key, put: partial[Put], job_id: str, fence: int | None, worker: str, versions: Versions
    ) -> Committed:
        """First the value, then the end of its job: whoever is woken by it finds the value."""
        names, shared = self.names, 1 + len(key.tags)
        (status, now, outdated, new), (epoch, offset, of, run), current = await self.store.transaction(
            ("HMGET", names.job(job_id), "status", "fence", "outdated", "new"),
            ("HMGET", names.version(key), "e", "o", "d", "r"),
            ("GET", names.run()),
        )
        if status != b"running" or now != b"%d" % (fence or 0):
            return Committed(what="revoked", position=NOWHERE, ring=0)
        known = b" ".join((epoch, offset, of or b"")) if epoch and run == (current or b"") else b""
        done = Put(what="superseded")
        if not outdated:
            done = await self._kept.run(partial(put, versions=versions[shared:], known=known))
        if done.what == "stored":
            await self._agree(key, done.position, current or b"")
        ended = await super().commit(
            replace(key, policy=briefly(key.policy, _MOMENT)),
            b"",  # what lies there for a moment is no entry
            holder=job_id,
            # Versions that nobody has: a job whose value was not stored starts over.
            tag_versions=versions[:shared] if done.what == "stored" else (b"",) * shared,
            compute_seconds=0.0,
            computed_at=0.0,
            luck=0.5,
            job_id=job_id,
            fence=fence,
            worker=worker,
        )
        if ended.what == "stored":
            with suppress(StoreUnavailable):
                await self._remember(key, done, new)
        return ended

    async def _agree(self, key: Key, position: Position, run: bytes) -> None:
        """The data store gives those who wait a position, too: the same as the value's."""
        name = self.names.version(key)
        await self.store.transaction(
            ("HSET", name, "e", position.epoch, "o", position.offset, "d", digest(b""), "r", run),
            ("PEXPIRE", name, version_ttl(key)),
        )

    async def _remember(self, key: Key, done: Put, new: bytes | None) -> None:
        """The nonce, for who looked just before the value came; its bytes, where `submit.lua` has counted its key."""
        await self.store.command("SET", self.names.entry(key), done.nonce, "PX", round(_REMEMBERED * 1000))
        if new:
            _, left = await self.store.transaction(("HINCRBY", new, "b", done.size), ("PTTL", new))
            if left < 0:  # the minute was over: begun anew by nobody
                await self.store.command("UNLINK", new)

    async def _too_large(
        self, key: Key, problem: bytes, holder: str, job_id: str | None, fence: int | None, worker: str
    ) -> Committed:
        if job_id is None:
            await self.fail_in_place(key, problem, token=holder)
        else:
            await self._records.end(job_id, fence or 0, "failed", worker=worker, problem=problem)
        return Committed(what="revoked", position=NOWHERE, ring=0)

    # --- failures, quotas

    async def _failure(self, key: Key) -> bytes | None:
        failure: bytes | None = await self.store.command("GET", self.names.failure(key))
        return failure

    async def _failed(self, key: Key) -> bool:
        with suppress(StoreUnavailable):
            return await self._failure(key) is not None
        return False

    async def _may_bring(self, asker: str, key_rate: int, key_bytes: int) -> bool:
        with suppress(StoreUnavailable):  # no quota while nobody counts
            if await self._count(f"{asker} keys", 1) > key_rate:
                return False
            return await self._count(f"{asker} bytes", 0) < key_bytes
        return True

    async def _count(self, what: str, more: int) -> int:
        """Add to what a principal has brought in the current minute."""
        name = self.names.brought(f"here {what}")
        counted = await self.store.transaction(("SET", name, 0, "NX", "PX", _MINUTE), ("INCRBY", name, more))
        return int(counted[1])

    async def _rotate(self, outdated: Outdated) -> None:
        tags, keys = sorted(outdated.tags), sorted(outdated.keys)
        parts = [replace(outdated, tags=frozenset(), keys=frozenset())] if outdated.everything else []
        parts += [
            Outdated(tags=frozenset(tags[at : at + _AT_ONCE]), soft=outdated.soft)
            for at in range(0, len(tags), _AT_ONCE)
        ]
        parts += [
            Outdated(keys=frozenset(keys[at : at + _AT_ONCE]), soft=outdated.soft)
            for at in range(0, len(keys), _AT_ONCE)
        ]
        for part in parts:
            await self._kept.run(partial(self._values.outdate, outdated=part))

    def close(self) -> None:
        """End what belongs to the cache; may be called twice."""
        self._kept.close()
