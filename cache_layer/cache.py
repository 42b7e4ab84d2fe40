"""The cache-aside flow: look up, take the lease, commit, invalidate.

Invariant (promise 2): what `commit` stores was computed from data no older than the last invalidation of its key and
its tags; tag versions are captured before the computation and compared in the same atomic step that stores the value.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec

from cache_layer import metrics
from cache_layer.chance import drawn
from cache_layer.codec import NONCE, TAG_VERSION, Entry, decode, encode
from cache_layer.decoded import Decoder
from cache_layer.invalidating import Invalidator
from cache_layer.keys import Key, digest
from cache_layer.near import Near
from cache_layer.outdated import Outdated
from cache_layer.pipeline import packed
from cache_layer.position import Position
from cache_layer.publication import TRAVEL_LIMIT, Publication, parse
from cache_layer.redis import TAG_TTL, Arg, Store

#: Milliseconds a topic keeps its epoch and offset after its last entry at least.
_VERSION_TTL = 3_600_000
#: Look-ups whose commands are remembered; all are forgotten when there are more.
_QUESTIONS = 10_000
#: Attempts that are kept in a job's history.
HISTORY = 10
#: Milliseconds after which somebody looks after a job that lives.
LOOK_AFTER = 10_000
#: How often an invalidated computation starts over before it fails.
MAX_RERUNS = 5
#: Milliseconds a finished job of a computation can be looked at.
COMPUTATION_TTL = 3_600_000


class Found(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one look-up found; made for every one, which a frozen dataclass costs thrice as much for."""

    entry: Entry | None
    #: Seconds since the entry was written.
    age: float
    #: Problem of a remembered failure, as JSON.
    failure: bytes | None
    #: Nonce of whatever lies there, valid or outdated; b"" for nothing.
    nonce: bytes
    #: The entry was declared stale before its time.
    softened: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """How a commit ended."""

    what: Literal["stored", "revoked", "superseded"]
    position: Position
    #: 1: ring the doorbell for the job again; -1: its reruns are used up.
    ring: int
    #: Another queue that must be rung for, "" for none.
    going_on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The answer to asking for the right to compute a key in this process."""

    what: Literal["hit", "failed", "busy", "quota", "begun"]
    position: Position
    tag_versions: tuple[bytes, ...]


def fresh_token() -> str:
    """Names one computation in a web process."""
    return "here:" + secrets.token_hex(8)


def fresh_nonce() -> bytes:
    return secrets.token_bytes(NONCE)


def fresh_versions(key: Key) -> list[bytes]:
    """A version for the namespace and for each tag of a key, in case the store has none."""
    return [secrets.token_bytes(TAG_VERSION) for _ in range(1 + len(key.tags))]


def fresh_epoch() -> str:
    """Eight letters of the alphabet of epochs."""
    return drawn(4).hex()


def version_ttl(key: Key) -> int:
    """Milliseconds the version of a key is kept."""
    return _VERSION_TTL + 2 * round(key.policy.life * 1000)


def tag_ttl(key: Key) -> int:
    """Milliseconds the version of one of the key's tags is kept."""
    return max(TAG_TTL, 2 * round(key.policy.life * 1000))


class Cache:
    """Values of one store, and of what this process holds of them (`near`)."""

    def __init__(
        self, store: Store, *, invalidator: Invalidator | None = None, near: Near | None = None, secret: bytes = b""
    ) -> None:
        """With `secret` every entry is signed, and unsigned ones are no entries."""
        self.store = store
        self.names = store.names
        self._near = near
        self._secret = secret
        self._invalidator = invalidator or Invalidator(store, near=near)
        self._decode = partial(decode, secret=secret) if near is not None else Decoder(secret).decode
        self._questions: dict[tuple[str, tuple[str, ...]], tuple[tuple[str, ...], bytes]] = {}

    @property
    def invalidations_channel(self) -> str:
        """Where invalidations are announced, as `Outdated.to_json`."""
        return self.names.invalidations()

    def known_outdated(self, key: Key) -> bool:
        """Whether an invalidation of this process, which the store has not heard yet, covers the key."""
        return self._invalidator.kept.covers(key.digest, key.tags)

    def at_hand(self, key: Key) -> Found | None:
        """What this process holds of a key, if it may be given out: without a round trip, and without waiting."""
        if self._near is None or not self._invalidator.hears or self._invalidator.kept:
            return None
        held: _Held | None = self._near.get(self.names.entry(key))
        if held is None:
            return None
        metrics.lookups["near"] += 1
        return held.found(time.monotonic())

    async def lookup(self, key: Key, *, near: bool = True) -> Found:
        """Find entry, failure and tags of a key: in this process without a round trip, or in the store with one.

        `near=False` asks the store.  Raises StoreUnavailable.
        """
        if near and (found := self.at_hand(key)) is not None:
            return found
        if self._invalidator.kept:
            await self._invalidator.settle()
        wanted, question = self._question(key)
        entry_name = wanted[0]
        fetch = self._near.fetch(wanted) if self._near is not None and self._invalidator.hears else None
        began = time.monotonic()
        left, (raw, failure, *tags) = await self.store.read(question, 2)
        found = self._found(key, raw, failure, tags, left)
        if fetch is not None and self._near is not None and found.entry is not None and failure is None:
            kept = _Held(found.entry, began - found.age, found.softened)
            self._near.keep(fetch, entry_name, kept, cost=len(found.entry.payload), until=kept.born + found.entry.life)
        return found

    def _question(self, key: Key) -> tuple[tuple[str, ...], bytes]:
        """The names a look-up reads, and its commands as they travel.  The life is asked first: should the entry be
        replaced in between, the new one looks older than it is, never younger."""
        known = self._questions.get((key.digest, key.tags))
        if known is None:
            names = self.names
            wanted = (names.entry(key), names.failure(key), *names.tags(key))
            known = wanted, packed(("PTTL", wanted[0]), ("MGET", *wanted))
            if len(self._questions) >= _QUESTIONS:
                self._questions.clear()
            self._questions[key.digest, key.tags] = known
        return known

    def _found(self, key: Key, raw: bytes | None, failure: bytes | None, tags: list[bytes], left: int) -> Found:
        entry = self._decode(raw, key.digest)
        if entry is None:
            metrics.lookups["absent" if raw is None else "unreadable"] += 1
            return Found(entry=None, age=0.0, failure=failure, nonce=bytes(raw[:NONCE]) if raw else b"")
        softened = [*entry.tag_versions] != tags
        if softened and not _same(entry.tag_versions, tags, _HARD):
            metrics.lookups["outdated"] += 1
            return Found(entry=None, age=0.0, failure=failure, nonce=entry.nonce)
        metrics.lookups["stored"] += 1
        return Found(
            entry=entry,
            age=max(0.0, entry.life - max(0, left) / 1000),
            failure=failure,
            nonce=entry.nonce,
            softened=softened,
        )

    def parse(self, digest: str, message: bytes) -> Publication | None:
        """Read a message of the channel of the key with this digest; None when it is not ours."""
        return parse(message, digest, self._secret)

    async def position(self, key: Key) -> Position:
        """The position of the newest value, offset 0 before the first; from now on its epoch lasts.

        Raises StoreUnavailable.
        """
        args: list[Arg] = [fresh_epoch(), version_ttl(key)]
        epoch, offset = await self.store.script("position", [self.names.version(key), self.names.run()], args)
        return Position(epoch.decode(), int(offset))

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
        """Ask for the right to compute `key` here for `lease` seconds; safe to repeat with the same `token`.

        `asker`, `key_rate`, `key_bytes` as in `Records.submit`.  Raises StoreUnavailable.
        """
        names = self.names
        keys = [
            *(names.entry(key), names.version(key), names.failure(key), names.lease(key)),
            *(names.brought(asker), names.run()),
            *names.tags(key),
        ]
        limits = (round(lease * 1000), fresh_epoch(), version_ttl(key), tag_ttl(key))
        budget = (key_rate, key_bytes)
        args: list[Arg] = [seen, token, *limits, int(force), *budget, names.job(""), *fresh_versions(key)]
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
        worker: str = "",
        asker: str | None = None,
    ) -> Committed:
        """Store a value if the lease and the tags still hold, version it, finish its job, tell everyone.

        `holder` is what the lease was taken with: the job's id, or the token of `begin`; `worker` holds the job.
        `luck` in [0, 1) jitters the freshness; `asker` is whose budget the bytes are of, where no job says it.  Safe
        to repeat: a second commit of the same attempt is `revoked`.  Raises StoreUnavailable.
        """
        names, policy = self.names, key.policy
        lease = names.lease(key)
        job = names.job(job_id) if job_id else lease
        places = (names.entry(key), names.version(key), names.failure(key), lease, job, names.live(), names.run())
        keys = [*places, names.held(worker) if job_id else lease, *names.tags(key)]
        tail, stored = encode(
            payload,
            digest=key.digest,
            fresh=policy.fresh_for(payload, luck),
            life=policy.life,
            compute_seconds=compute_seconds,
            computed_at=computed_at,
            tag_versions=tag_versions,
            secret=self._secret,
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
            stored,
            names.channel(key),
            names.job_channel(job_id or ""),
            TRAVEL_LIMIT,
            COMPUTATION_TTL,
            MAX_RERUNS,
            names.queues(),
            names.brought(asker) if asker is not None else "",
            LOOK_AFTER,
            HISTORY,
            *tag_versions,
        ]
        what, epoch, offset, ring, going_on = await self.store.script("commit", keys, args)
        if self._near is not None:
            self._near.forget(names.entry(key))
        position = Position(epoch.decode(), int(offset))
        return Committed(what=what.decode(), position=position, ring=ring, going_on=going_on.decode())

    async def fail_in_place(self, key: Key, problem: bytes, *, token: str) -> None:
        """Remember that a computation in this process failed.  Raises StoreUnavailable."""
        names = self.names
        ttl = max(1, round(key.policy.error_ttl * 1000))
        await self.store.script(
            "fail_in_place", [names.lease(key), names.failure(key)], [token, problem, ttl, names.channel(key)]
        )

    async def invalidate(self, outdated: Outdated) -> None:
        """See `Invalidator.invalidate`."""
        await self._invalidator.invalidate(outdated)


class _Held(msgspec.Struct, frozen=True, gc=False):
    """A value as this process holds it."""

    entry: Entry
    #: Monotonic time at which its age was zero.
    born: float
    softened: bool

    def found(self, now: float) -> Found:
        age = max(0.0, now - self.born)
        return Found(entry=self.entry, age=age, failure=None, nonce=self.entry.nonce, softened=self.softened)


#: Bytes of a tag version that only a hard invalidation changes.
_HARD = TAG_VERSION // 2


def _same(stored: tuple[bytes, ...], current: list[bytes], size: int) -> bool:
    """Whether the versions of a value are the current ones, as far as their first `size` bytes go."""
    return len(stored) == len(current) and all(
        now is not None and was[:size] == now[:size] for was, now in zip(stored, current, strict=True)
    )
