"""The cache-aside flow against the store: look up, take the lease, commit, invalidate.

Invariant (promise 2): what `commit` stores was computed from data no older than the last invalidation of its tags; tag
versions are captured before the computation and compared in the same atomic step that stores the value.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Literal

from cache_layer.codec import NONCE, TAG_VERSION, Entry, decode, encode_tail
from cache_layer.keys import Key, digest
from cache_layer.position import Position
from cache_layer.publication import TRAVEL_LIMIT
from cache_layer.redis import Arg, Store

#: Milliseconds a tag version outlives its last use at least.  A lost version invalidates, so a short life is safe.
_TAG_TTL = 7 * 24 * 3_600_000
#: Milliseconds a topic keeps its epoch and offset after its last entry at least.
_VERSION_TTL = 3_600_000
#: Milliseconds after which a waiting job is rung for again.
RING_AGAIN = 20_000
#: How often an invalidated computation starts over before it fails.
MAX_RERUNS = 5
#: Milliseconds a finished job of a computation can be looked at.
COMPUTATION_TTL = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one look-up found."""

    entry: Entry | None
    #: Seconds since the entry was written.
    age: float
    #: Problem of a remembered failure, as JSON.
    failure: bytes | None
    #: Nonce of whatever lies there, valid or outdated; b"" for nothing.
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """How a commit ended."""

    what: Literal["stored", "revoked", "superseded"]
    position: Position
    #: 1: ring the doorbell for the job again; -1: its reruns are used up.
    ring: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The answer to asking for the right to compute a key in this process."""

    what: Literal["hit", "failed", "busy", "begun"]
    position: Position
    tag_versions: tuple[bytes, ...]


def fresh_token() -> str:
    """Names one computation in a web process."""
    return "here:" + secrets.token_hex(8)


def fresh_nonce() -> bytes:
    return secrets.token_bytes(NONCE)


def fresh_epoch() -> str:
    """Eight letters of the alphabet of epochs."""
    return secrets.token_hex(4)


def version_ttl(key: Key) -> int:
    """Milliseconds the version of a key is kept."""
    return _VERSION_TTL + 2 * round(key.policy.life * 1000)


def tag_ttl(key: Key) -> int:
    """Milliseconds the version of one of the key's tags is kept."""
    return max(_TAG_TTL, 2 * round(key.policy.life * 1000))


class Cache:
    """Values of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.names = store.names

    @property
    def invalidations_channel(self) -> str:
        """Where invalidated tags are announced, as JSON {"tags": [...]}."""
        return self.names.invalidations()

    async def lookup(self, key: Key) -> Found:
        """Read entry, failure and tags of a key in one round trip.  Raises StoreUnavailable."""
        names = self.names
        wanted = [names.entry(key), names.failure(key), *names.tags(key)]
        (raw, failure, *tags), left = await self.store.transaction(("MGET", *wanted), ("PTTL", wanted[0]))
        entry = decode(raw)
        nonce = bytes(raw[:NONCE]) if raw else b""
        if entry is None or list(entry.tag_versions) != tags:
            return Found(entry=None, age=0.0, failure=failure, nonce=nonce)
        return Found(entry=entry, age=max(0.0, entry.life - max(0, left) / 1000), failure=failure, nonce=nonce)

    async def position(self, key: Key) -> Position:
        """The position of the newest value, offset 0 before the first; from now on its epoch lasts.

        Raises StoreUnavailable.
        """
        name = self.names.version(key)
        *_, (epoch, offset), _ = await self.store.transaction(
            ("HSETNX", name, "e", fresh_epoch()),
            ("HSETNX", name, "o", 0),
            ("HMGET", name, "e", "o"),
            ("PEXPIRE", name, version_ttl(key)),
        )
        return Position(epoch.decode(), int(offset))

    async def begin(self, key: Key, *, seen: bytes, token: str, lease: float, force: bool = False) -> Begun:
        """Ask for the right to compute `key` here for `lease` seconds; safe to repeat with the same `token`.

        Raises StoreUnavailable.
        """
        names = self.names
        keys = [names.entry(key), names.version(key), names.failure(key), names.lease(key), *names.tags(key)]
        fresh = [secrets.token_bytes(TAG_VERSION) for _ in key.tags]
        limits = (round(lease * 1000), fresh_epoch(), version_ttl(key), tag_ttl(key))
        args: list[Arg] = [seen, token, *limits, int(force), *fresh]
        what, epoch, offset, *versions = await self.store.script("begin", keys, args)
        return Begun(
            what=what.decode(),
            position=Position(epoch.decode(), int(offset)),
            tag_versions=tuple(versions),
        )

    async def hold(self, key: Key, token: str, lease: float) -> bool:
        """Keep the right of `begin` for `lease` more seconds, or let it go (0).  False: it was not ours (any more).

        Raises StoreUnavailable.
        """
        return bool(await self.store.script("hold", [self.names.lease(key)], [token, round(lease * 1000)]))

    async def commit(
        self,
        key: Key,
        payload: bytes,
        *,
        holder: str,
        tag_versions: tuple[bytes, ...],
        compute_seconds: float,
        computed_at: float,
        luck: float,
        job_id: str | None = None,
        fence: int | None = None,
    ) -> Committed:
        """Store a value if the lease and the tags still hold, version it, finish its job, tell everyone.

        `holder` is what the lease was taken with: the job's id, or the token of `begin`.  `luck` in [0, 1) jitters the
        freshness.  Safe to repeat: a second commit of the same attempt is `revoked`.  Raises StoreUnavailable.
        """
        names, policy = self.names, key.policy
        lease = names.lease(key)
        job = names.job(job_id) if job_id else lease
        live = names.live()
        keys = [names.entry(key), names.version(key), names.failure(key), lease, job, live, *names.tags(key)]
        tail = encode_tail(
            fresh=policy.jittered_fresh(luck),
            life=policy.life,
            compute_seconds=compute_seconds,
            computed_at=computed_at,
            tag_versions=tag_versions,
            size=len(payload),
        )
        args: list[Arg] = [
            holder,
            "" if fence is None else fence,
            fresh_nonce(),
            fresh_epoch(),
            version_ttl(key),
            max(1, round(policy.life * 1000)),
            digest(payload),
            tail,
            payload,
            names.channel(key),
            names.job_channel(job_id or ""),
            TRAVEL_LIMIT,
            COMPUTATION_TTL,
            MAX_RERUNS,
            RING_AGAIN,
            *tag_versions,
        ]
        what, epoch, offset, ring = await self.store.script("commit", keys, args)
        return Committed(what=what.decode(), position=Position(epoch.decode(), int(offset)), ring=ring)

    async def fail_in_place(self, key: Key, problem: bytes, *, token: str) -> None:
        """Remember that a computation in this process failed.  Raises StoreUnavailable."""
        names = self.names
        ttl = max(1, round(key.policy.error_ttl * 1000))
        await self.store.script(
            "fail_in_place", [names.lease(key), names.failure(key)], [token, problem, ttl, names.channel(key)]
        )

    async def invalidate(self, *tags: str) -> None:
        """Outdate every value that carries one of the tags, in O(tags).

        When this returns, no look-up anywhere finds a value computed before.  Safe to repeat.  Raises StoreUnavailable.
        """
        if not tags:
            return
        commands: list[tuple[Arg, ...]] = [
            ("SET", self.names.tag(tag), secrets.token_bytes(TAG_VERSION), "PX", _TAG_TTL) for tag in tags
        ]
        told = json.dumps({"tags": sorted(tags)}, separators=(",", ":"))
        await self.store.transaction(*commands, ("PUBLISH", self.invalidations_channel, told))
