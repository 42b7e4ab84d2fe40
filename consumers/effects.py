"""What a session wants done, and what it has to be told: the vocabulary between the protocol and the outside.

Pure data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache_layer.position import Position
from consumers.commands import History, OfChannel, Publish, Rpc
from consumers.frames import Code

if TYPE_CHECKING:
    from consumers.channel import News


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

    channel: str
    #: A subscription token, "" for none.
    token: str = ""
    #: The position to recover from.
    since: Position | None = None
    #: The kind of delta that the client understands, "" for none.
    delta: str = ""
    #: Nobody looks at it: it keeps no value fresh.
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """Subscribe what the server subscribes by itself, then call `welcomed` with all that could be."""

    subscribes: tuple[Subscribe, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel: str


@dataclass(frozen=True, slots=True)
class Call:
    """Do what the command asks, then call `answered` or `call_failed`."""

    id: int
    #: rpc, publish, history, presence or presence_stats.
    method: str
    body: Rpc | Publish | History | OfChannel


@dataclass(frozen=True, slots=True)
class Refresh:
    """Look at a new token of the same user, then call `refreshed` or `refresh_failed`, or close."""

    id: int
    token: str


@dataclass(frozen=True, slots=True)
class SubRefresh:
    """Look at a new token of a subscription, then call `sub_refreshed` or `refresh_failed`, or close."""

    id: int
    channel: str
    token: str


Effect = Send | Close | Authenticate | Subscribe | Welcome | Unsubscribe | Call | Refresh | SubRefresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a value topic is at the moment of a subscription."""

    position: Position
    #: The newest, None before the first.
    value: News | None
    #: fresh, stale or pending.
    state: str
    #: Seconds since the value was computed.
    age: float
    job: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLog:
    """What a log topic is at the moment of a subscription."""

    #: Of the newest publication.
    position: Position
    #: What was published since the position that was asked for, oldest first; None when not all of it is there, or
    #: nothing was asked for.
    missed: list[News] | None
    #: Whether the topic has a history.
    recoverable: bool
