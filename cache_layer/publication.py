"""What travels on a channel of the store, one kind a first byte.

    V entry      a value, with its position and freshness      (commit.lua)
    C            something changed: read it again              (a value too big to travel, a job)
    P json  E json  S json    signals: progress, error, stale  (kept nowhere)
    L epoch:offset:i:t:info tags data    a publication of a log, at its position; i and t are lengths   (append.lua)
    M i:t:info tags data                 one that is kept nowhere
    J info  G info            somebody joined the topic, or has gone

Invariant: foreign bytes parse to None.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from cache_layer.codec import Entry, decode
from cache_layer.position import Position

SignalKind = Literal["progress", "error", "stale"]
_SIGNALS: dict[bytes, SignalKind] = {b"P": "progress", b"E": "error", b"S": "stale"}

#: Values above this many bytes are not sent along: subscribers are told to read the entry (a subscriber that is slow
#: to read megabytes is cut off by the store's own output limit, 8 MB a minute).
TRAVEL_LIMIT = 262_144


@dataclass(frozen=True, slots=True)
class Value:
    entry: Entry


@dataclass(frozen=True, slots=True)
class Changed:
    pass


@dataclass(frozen=True, slots=True)
class Signal:
    kind: SignalKind
    #: JSON text.
    data: bytes


@dataclass(frozen=True, slots=True)
class Logged:
    """What was published on a log."""

    #: From 1; 0 for what is kept nowhere.
    offset: int
    #: Compact JSON.
    data: bytes
    #: Who published it, JSON, or nothing.
    info: bytes = b""
    #: Names and texts, JSON, or nothing.
    tags: bytes = b""

    def message(self, epoch: str = "") -> bytes:
        """The message that tells it."""
        lengths = b"%d:%d:" % (len(self.info), len(self.tags))
        head = b"L%b:%d:" % (epoch.encode(), self.offset) if self.offset else b"M"
        return head + lengths + self.info + self.tags + self.data


@dataclass(frozen=True, slots=True)
class Appended:
    position: Position
    logged: Logged


@dataclass(frozen=True, slots=True)
class Ephemeral:
    logged: Logged


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody joined, or has gone."""

    kind: Literal["join", "leave"]
    #: JSON.
    info: bytes


Publication = Value | Changed | Signal | Appended | Ephemeral | Presence
_PRESENCES: dict[bytes, Literal["join", "leave"]] = {b"J": "join", b"G": "leave"}


def parse(message: bytes, digest: str = "", secret: bytes = b"") -> Publication | None:
    """Read one message of the channel of the key with this digest; None when it is not ours."""
    kind, rest = message[:1], message[1:]
    if kind == b"V":
        entry = decode(rest, digest, secret)
        return Value(entry) if entry is not None else None
    if kind == b"C":
        return Changed() if not rest else None
    signal = _SIGNALS.get(kind)
    data = rest or b"{}"
    return Signal(signal, data) if signal is not None and _is_json(data) else None


def parse_log(message: bytes) -> Publication | None:
    """Read one message of the channel of a log; None when it is not ours."""
    kind, rest = message[:1], message[1:]
    if kind == b"C":
        return Changed() if not rest else None
    if kind in _PRESENCES:
        return Presence(_PRESENCES[kind], rest) if _is_json(rest) else None
    try:
        if kind == b"L":
            epoch, offset, rest = rest.split(b":", 2)
            logged = _logged(int(offset), rest)
            return Appended(Position(epoch.decode(), logged.offset), logged)
        return Ephemeral(_logged(0, rest)) if kind == b"M" else None
    except ValueError:
        return None


def _logged(offset: int, rest: bytes) -> Logged:
    """Raises ValueError.  The data was JSON when it was published, and is not looked at again."""
    info, tags, body = rest.split(b":", 2)
    first, second = int(info), int(info) + int(tags)
    if not 0 <= first <= second < len(body):
        raise ValueError("a length is wrong")
    return Logged(offset, body[second:], body[:first], body[first:second])


def _is_json(text: bytes) -> bool:
    """Signals are put into frames as they are: what is no JSON would spoil the whole frame."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
