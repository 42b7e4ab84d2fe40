"""Values in one of Django's caches, each with the versions of what it depends on.

    e entry      8 bytes: unix milliseconds it was written at, then an entry as `cache_layer.codec` has it
    v version    8 random bytes: of the namespace, of a tag, of one key; another after every hard invalidation
    w version    the same for soft ones; missing: never
    p position   epoch, offset and digest of the newest value of a key
    l lease      token of the one computation of a key

Such a cache can compare nothing in the step that stores: so an entry carries the versions that were read before its
computation began, and every look reads the current ones with it.  Invariant: an entry whose computation began before an
invalidation is never given out after it, in whatever order the writes arrive, and wherever an entry or a version is
lost.  All of this blocks; everything is safe to repeat, and to be done late.

Names are digests: at most 250 bytes without blanks, as memcached wants them; `e` sorts first, because the database back
end drops what sorts first when it is full.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from django.core.cache.backends.base import BaseCache

from asgi_app.stores.raw import add, read, seconds, write
from cache_layer import metrics
from cache_layer.cache import Found, fresh_epoch, fresh_nonce, tag_ttl, version_ttl
from cache_layer.codec import NONCE, TAG_VERSION, Entry, decode, encode
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key, digest
from cache_layer.outdated import Outdated
from cache_layer.position import Position
from cache_layer.redis import TAG_TTL

Versions = tuple[bytes, ...]
_CLOCK = 8
_HALF = TAG_VERSION // 2
_NEVER = bytes(_HALF)
#: How many versions are prolonged are remembered, and the share of its life after which one is prolonged again.
_PROLONGED_MOST = 10_000
_PROLONG = 0.25
#: Of a value that was not stored.
NOWHERE = Position("", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """The answer to asking for the right to compute a key."""

    what: Literal["hit", "busy", "begun"]
    position: Position
    #: Nobody has asked for the key lately.
    new: bool = False
    versions: Versions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """How storing ended."""

    what: Literal["stored", "revoked", "superseded"]
    position: Position = NOWHERE
    nonce: bytes = b""
    #: Bytes that were stored.
    size: int = 0


class Versioned:
    """The values of one namespace; `cache` is always the same cache, as the calling thread has it."""

    def __init__(self, namespace: str, secret: bytes = b"") -> None:
        """With `secret` every entry is signed, and unsigned ones are no entries."""
        self._namespace = namespace
        self._secret = secret
        self._prolonged: dict[str, float] = {}

    # --- looking

    def look(self, cache: BaseCache, key: Key) -> Found:
        """The entry of a key, if it may still be served; says nothing of failures.  One `get_many`."""
        name, hard, soft = self._entry(key), *self._depends_on(key)
        found = read(cache, [name, *hard, *soft])
        raw = found.get(name)
        entry = decode(raw[_CLOCK:], key.digest, self._secret) if raw is not None else None
        if raw is None or entry is None:
            metrics.lookups["absent" if raw is None else "unreadable"] += 1
            return Found(entry=None, age=0.0, failure=None, nonce=_nonce(raw))
        current = _versions(found, hard, soft)
        if not _same(entry.tag_versions, current, _HALF):
            metrics.lookups["outdated"] += 1
            return Found(entry=None, age=0.0, failure=None, nonce=entry.nonce)
        metrics.lookups["stored"] += 1
        age = max(0.0, time.time() - int.from_bytes(raw[:_CLOCK]) / 1000)
        softened = not _same(entry.tag_versions, current, TAG_VERSION)
        return Found(entry=entry, age=age, failure=None, nonce=entry.nonce, softened=softened)

    def position(self, cache: BaseCache, key: Key) -> Position:
        """The position of the newest value; where there was none, its epoch begins."""
        name = self._name("p", key.name, key.digest)
        first = f"{fresh_epoch()} 0 ".encode()
        if add(cache, name, first, seconds(version_ttl(key))):
            return _position(first)[0]
        return _position(read(cache, [name]).get(name, first))[0]

    def capture(self, cache: BaseCache, key: Key) -> Versions:
        """The versions of all that a value of `key` depends on, for a computation that begins after this."""
        hard, soft = self._depends_on(key)
        found = read(cache, [*hard, *soft])
        ttl = seconds(tag_ttl(key))
        lacking = [name for name in hard if len(found.get(name, b"")) != _HALF]
        for name in lacking:
            if name in found:
                cache.delete(name)  # foreign
            add(cache, name, secrets.token_bytes(_HALF), ttl)
        if lacking:
            found |= read(cache, lacking)
        self._prolong(cache, (name for name in hard if name not in lacking), ttl)
        # One that was lost again at once: a version nobody else has, so that nothing computed under it is served.
        return tuple(now or secrets.token_bytes(TAG_VERSION) for now in _versions(found, hard, soft))

    def _prolong(self, cache: BaseCache, names: Iterable[str], ttl: int) -> None:
        now = time.monotonic()
        if len(self._prolonged) > _PROLONGED_MOST:
            self._prolonged.clear()
        for name in names:
            if now >= self._prolonged.get(name, -ttl) + ttl * _PROLONG:
                self._prolonged[name] = now
                cache.touch(name, ttl)

    # --- the right to compute

    def begin(self, cache: BaseCache, key: Key, *, seen: bytes, token: str, lease: float, force: bool) -> Right:
        """Take the lease of a key, unless it is held, or a value came whose nonce is not what the caller has `seen`."""
        name, entry, place = self._lease(key), self._entry(key), self._name("p", key.name, key.digest)
        taken = add(cache, name, token.encode(), seconds(lease * 1000))
        found = read(cache, [name, entry, place])
        if not taken and found.get(name) != token.encode():
            return Right(what="busy", position=_position(found.get(place, b""))[0])
        nonce = _nonce(found.get(entry))
        position, new = _position(found.get(place, f"{fresh_epoch()} 0 ".encode()))[0], place not in found
        if nonce and nonce != seen and not force:
            cache.delete(name)
            return Right(what="hit", position=position)
        return Right(what="begun", position=position, new=new, versions=self.capture(cache, key))

    def hold(self, cache: BaseCache, key: Key, token: str, lease: float) -> bool:
        """Keep a lease for `lease` more seconds, or let it go (0).  False: it was not ours (any more)."""
        name = self._lease(key)
        if read(cache, [name]).get(name) != token.encode():
            return False
        return bool(cache.touch(name, seconds(lease * 1000)) if lease else cache.delete(name))

    # --- storing

    def put(
        self,
        cache: BaseCache,
        key: Key,
        payload: bytes,
        *,
        versions: Versions,
        known: bytes = b"",
        holder: str | None = None,
        compute_seconds: float,
        computed_at: float,
        luck: float,
    ) -> Put:
        """Store a value that was computed under `versions`, unless one of them has changed or `holder` lost its lease.

        `known`: its position as another place knows it, in case none is known here.  Raises TooLarge.
        """
        lease, place = self._lease(key), self._name("p", key.name, key.digest)
        hard, soft = self._depends_on(key)
        found = read(cache, [lease, place, *hard, *soft])
        if holder is not None and found.get(lease) != holder.encode():
            return Put(what="revoked")
        if not _same(versions, _versions(found, hard, soft), TAG_VERSION):
            return Put(what="superseded")
        before, of = _position(found.get(place) or known or f"{fresh_epoch()} 0 ".encode())
        bytes_of = digest(payload)
        position = before if before.offset and of == bytes_of else Position(before.epoch, before.offset + 1)
        policy = key.policy
        entry = Entry(
            nonce=fresh_nonce(),
            position=position,
            fresh=policy.fresh_for(payload, luck),
            life=policy.life,
            compute_seconds=compute_seconds,
            computed_at=computed_at,
            tag_versions=versions,
            payload=payload,
        )
        line = f"{position.epoch} {position.offset} {bytes_of}".encode()
        cache.set(place, line, seconds(version_ttl(key)))
        return Put(what="stored", position=position, nonce=entry.nonce, size=self.keep(cache, key, entry))

    def keep(self, cache: BaseCache, key: Key, entry: Entry, age: float = 0.0) -> int:
        """Store an entry as it is; the bytes it takes.  Raises TooLarge."""
        tail, stored = encode(
            entry.payload,
            digest=key.digest,
            fresh=entry.fresh,
            life=entry.life,
            compute_seconds=entry.compute_seconds,
            computed_at=entry.computed_at,
            tag_versions=entry.tag_versions,
            secret=self._secret,
        )
        written = round((time.time() - age) * 1000).to_bytes(_CLOCK)
        place = entry.position.epoch.encode() + b"%016d" % entry.position.offset
        raw = b"".join((written, entry.nonce, place, tail, stored))
        write(cache, self._entry(key), raw, seconds(key.policy.life * 1000))
        return len(raw)

    # --- outdating

    def outdate(self, cache: BaseCache, outdated: Outdated) -> None:
        """Give another version to all that is outdated.  Raises StoreUnavailable when one of them did not take it.

        Hard and soft ones are separate, because nothing here is compared: a soft one that is late undoes no hard one.
        """
        kind = "w" if outdated.soft else "v"
        parts = [("tag", tag) for tag in outdated.tags] + [("key", *single) for single in outdated.keys]
        names = [self._name(kind, *part) for part in parts] + ([self._name(kind, "all")] if outdated.everything else [])
        before = read(cache, names)
        refused = cache.set_many({name: secrets.token_bytes(_HALF) for name in names}, seconds(TAG_TTL))
        after = read(cache, before)
        # Some back ends say nothing when they could not write.
        if refused or any(after.get(name) == version for name, version in before.items()):
            raise StoreUnavailable("the cache kept the versions it had")

    # --- names

    def _depends_on(self, key: Key) -> tuple[list[str], list[str]]:
        """Names of the hard and of the soft versions: of the namespace, of the tags, of the key itself."""
        parts = [("all",), *(("tag", tag) for tag in key.tags), ("key", key.name, key.digest)]
        return [self._name("v", *part) for part in parts], [self._name("w", *part) for part in parts]

    def _entry(self, key: Key) -> str:
        return self._name("e", key.name, key.digest)

    def _lease(self, key: Key) -> str:
        return self._name("l", key.name, key.digest)

    def _name(self, kind: str, *parts: str) -> str:
        return f"millpond:{kind}:{digest(self._namespace, *parts)}"


def _versions(found: dict[str, bytes], hard: list[str], soft: list[str]) -> list[bytes | None]:
    """The current versions; None for one that is not there."""
    pairs = [(found.get(name, b""), found.get(other, _NEVER)) for name, other in zip(hard, soft, strict=True)]
    return [one + other if len(one) == len(other) == _HALF else None for one, other in pairs]


def _same(stored: Versions, current: list[bytes | None], size: int) -> bool:
    """Whether these versions are the current ones, as far as their first `size` bytes go."""
    return len(stored) == len(current) and all(
        now is not None and was[:size] == now[:size] for was, now in zip(stored, current, strict=True)
    )


def _nonce(raw: bytes | None) -> bytes:
    return raw[_CLOCK : _CLOCK + NONCE] if raw is not None else b""


def _position(line: bytes) -> tuple[Position, str]:
    """Position and digest of a `p`; a new epoch for foreign bytes."""
    epoch, _, rest = line.decode("latin-1").partition(" ")
    offset, _, bytes_of = rest.partition(" ")
    if len(epoch) == 8 and epoch.isascii() and epoch.isalnum() and offset.isdecimal() and len(offset) <= 16:
        return Position(epoch, int(offset)), bytes_of
    return Position(fresh_epoch(), 0), ""
