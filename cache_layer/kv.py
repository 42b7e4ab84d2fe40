"""Plain values under keys: their names, their bytes, and what can be done with them, each in one round trip.

Invariant: what is read is a whole value of the present generation or nothing.  The generation is random, so one that
was cleared, evicted or lost never comes back; foreign, shortened and changed bytes are nothing, never an exception.

Nothing here talks to the store.  A `Trip` says what to send and how to read the reply; whoever carries it out, on an
event loop or in a thread, does the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha1
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote
from zlib import crc32

from cache_layer.redis import Arg

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Kind of a value that `incr` can count: decimal digits.  They carry no checksum, for the store changes them itself.
INTEGER = b"i"
_GENERATION = 8
_MAGIC = b"MPD1"
_HEAD = 31
_NO_CHECKSUM = b"00000000"


class Carrier(Protocol):
    """Sends to the store; `Store` answers with awaitables, `BlockingStore` with replies."""

    def script(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any: ...

    def transaction(self, *commands: tuple[Arg, ...]) -> Any: ...

    def command(self, *command: Arg) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip(Generic[T_co]):
    """One round trip."""

    #: One is sent as it is, several as a transaction; none: the script instead.
    commands: tuple[tuple[Arg, ...], ...] = ()
    keys: tuple[str, ...] = ()
    args: tuple[Arg, ...] = ()
    #: Makes the result of the reply, a list of a transaction's.
    read: Callable[[Any], T_co]

    def start(self, carrier: Carrier) -> Any:
        """Send it: the replies, or an awaitable of them, for `read`."""
        if not self.commands:
            return carrier.script("kv", self.keys, self.args)
        if len(self.commands) > 1:
            return carrier.transaction(*self.commands)
        return carrier.command(*self.commands[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A value as it lies in the store."""

    #: One byte that says how to decode the payload.
    kind: bytes
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was found under one key."""

    kept: Kept | None
    #: The bytes there are no value of ours.
    corrupt: bool = False
    #: The bytes, for `drop`.
    raw: bytes = b""
    #: Milliseconds it will still be there, -1 for ever; 0 when it was not asked for.
    left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to fill a key."""

    token: str
    #: Of the time of the grant: what was cleared since is not filled.
    generation: bytes


def body(kept: Kept) -> bytes:
    """The bytes of a value without its generation, which the store puts in front."""
    checksum = _NO_CHECKSUM if kept.kind == INTEGER else b"%08x" % crc32(kept.payload)
    return _MAGIC + kept.kind + b"%010d" % len(kept.payload) + checksum + kept.payload


def judge(raw: Any, generation: Any) -> Reading:
    """Read the bytes under a key; nothing, or a value of another generation, is no corruption."""
    if not isinstance(raw, bytes):
        return Reading(kept=None)
    kept = Kept(kind=raw[12:13], payload=raw[_HEAD:])
    if raw[_GENERATION:_HEAD] != body(kept)[: _HEAD - _GENERATION]:
        return Reading(kept=None, corrupt=True, raw=raw)
    return Reading(kept=kept if raw[:_GENERATION] == generation else None, raw=raw)


class Space:
    """The keys of one namespace, which are cleared together.  A life is in milliseconds, None for ever, 0 for gone."""

    def __init__(self, namespace: str) -> None:
        quoted = quote(namespace, safe="")
        #: What the names of values and of the generation begin with; leases are elsewhere, nobody tracks them.
        self.prefix = f"d:{{{quoted}}}:"
        self.generation = f"{self.prefix}g"
        self._leases = f"dl:{{{quoted}}}:"

    def name(self, key: str) -> str:
        """Where the value of a key lies."""
        return f"{self.prefix}e:{key}"

    def lease(self, key: str) -> str:
        """Where the right to fill a key lies."""
        return f"{self._leases}{key}"

    def read(self, keys: Sequence[str], *, left: bool = False) -> Trip[list[Reading]]:
        """The values of keys, in order; with `left`, how long they stay too."""
        names = [self.name(key) for key in keys]
        together: tuple[Arg, ...] = ("MGET", self.generation, *names)

        def readings(reply: list[Any]) -> list[Reading]:
            generation, *found = reply
            return [judge(raw, generation) for raw in found]

        def with_lives(replies: list[Any]) -> list[Reading]:
            values, *lives = replies
            return [replace(one, left=ms) for one, ms in zip(readings(values), lives, strict=True)]

        if not left:
            return Trip(commands=(together,), read=readings)
        return Trip(commands=(together, *(("PTTL", name) for name in names)), read=with_lives)

    def write(self, values: Mapping[str, Kept], life: int | None) -> Trip[None]:
        """Set values, whatever was there, and revoke who computes them."""
        return self._script("set", self._pairs(values), life, *map(body, values.values()), read=_nothing)

    def add(self, key: str, kept: Kept, life: int | None) -> Trip[bool]:
        """Set a value if there is none, and then revoke who computes it; whether there was none."""
        return self._script("add", self._pairs([key]), life, body(kept), read=bool)

    def touch(self, key: str, life: int | None) -> Trip[bool]:
        """Give a value another life; whether there is one.  No life at all revokes who computes it."""
        return self._script("touch", self._pairs([key]), life, read=bool)

    def remove(self, keys: Sequence[str]) -> Trip[int]:
        """Delete values and revoke who computes them; how many there were."""
        return self._script("delete", self._pairs(keys), 0, read=int)

    def count(self, key: str, delta: int) -> Trip[int]:
        """Add to an integer, exactly, and keep its life.  Raises KeyError, TypeError or OverflowError."""
        return self._script("incr", [self.name(key)], 0, delta, read=_counted)

    def acquire(self, key: str, token: str, life: int) -> Trip[Lease | bool]:
        """Ask for the lease of a key; True: somebody else has it; False: there is a value."""

        def granted(reply: list[bytes]) -> Lease | bool:
            return Lease(token=token, generation=reply[1]) if reply[0] == b"granted" else reply[0] == b"busy"

        return self._script("acquire", self._pairs([key]), life, token, life, read=granted)

    def fill(self, key: str, lease: Lease, kept: Kept, life: int | None) -> Trip[Reading]:
        """Store what was computed under a lease and give the lease back; what lies there then.

        Nothing lies there when the key was deleted, or written for a time that is over, or all keys cleared, since the
        lease was granted.
        """

        def filled(reply: list[bytes]) -> Reading:
            if reply[0] == b"there":
                return judge(reply[1], reply[1][:_GENERATION])
            return Reading(kept=kept if reply[0] == b"stored" else None)

        args = (lease.token, lease.generation, body(kept))
        return self._script("fill", self._pairs([key]), life, *args, read=filled)

    def release(self, key: str, lease: Lease) -> Trip[None]:
        """Give a lease back without a value."""
        return self._script("release", self._pairs([key]), 0, lease.token, lease.generation, read=_nothing)

    def drop(self, key: str, raw: bytes) -> Trip[None]:
        """Remove bytes that were no value, unless others took their place."""
        digest = sha1(raw, usedforsecurity=False).hexdigest()
        return self._script("drop", [self.name(key)], 0, digest, read=_nothing)

    def clear(self) -> Trip[None]:
        """Outdate all values of the namespace, however many."""
        return Trip(commands=(("UNLINK", self.generation),), read=_nothing)

    def _pairs(self, keys: Iterable[str]) -> list[str]:
        return [name for key in keys for name in (self.name(key), self.lease(key))]

    def _script(
        self, what: str, names: Sequence[str], life: int | None, *args: Arg, read: Callable[[Any], T]
    ) -> Trip[T]:
        fresh = os.urandom(_GENERATION)
        shown = "" if life is None else life
        return Trip(keys=(self.generation, *names), args=(what, fresh, shown, *args), read=read)


def _nothing(reply: Any) -> None:
    """The reply says nothing."""


def _counted(reply: list[bytes]) -> int:
    if reply[0] == b"done":
        return int(reply[1])
    raise {b"missing": KeyError, b"other": TypeError, b"overflow": OverflowError}[reply[0]]
