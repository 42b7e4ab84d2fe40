"""What travels on a channel of the store, one kind a first byte.

    V entry      a value, with its position and freshness      (commit.lua)
    C            something changed: read it again              (a value too big to travel, a job)
    P json  E json  S json    signals: progress, error, stale  (kept nowhere)

Invariant: foreign bytes parse to None.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from cache_layer.codec import Entry, decode

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


Publication = Value | Changed | Signal


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


def _is_json(text: bytes) -> bool:
    """Signals are put into frames as they are: what is no JSON would spoil the whole frame."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
