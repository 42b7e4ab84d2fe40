"""What a session wants done, and what it has to be told: the vocabulary between the protocol and the outside.

Pure data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cache_layer.position import Position
from consumers.frames import Code


@dataclass(frozen=True, slots=True)
class Send:
    """Write a frame.  A function makes it when it is written, so that a waiting reply holds no copy of its value."""

    frame: str | Callable[[], str]


@dataclass(frozen=True, slots=True)
class Close:
    """Write what is waiting, then close.  The last effect of a session."""

    code: Code


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Find out who this is, then call `authenticated` or `refused`."""

    token: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe, then call `subscribed` or `subscribe_failed`."""

    id: int
    channel: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel: str


@dataclass(frozen=True, slots=True)
class Call:
    """Do what the rpc asks, then call `answered` or `call_failed`."""

    id: int
    method: str
    data: Any


@dataclass(frozen=True, slots=True)
class Refresh:
    """Look at a new token of the same user, then call `refreshed`, or close."""

    id: int
    token: str


Effect = Send | Close | Authenticate | Subscribe | Unsubscribe | Call | Refresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a value topic is at the moment of a subscription."""

    position: Position
    #: The newest value, None before the first.
    payload: bytes | None
    #: fresh, stale or pending.
    state: str
    #: Seconds since the value was computed.
    age: float
    job: str | None
