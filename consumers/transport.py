"""What a connection needs of whatever carries its frames: a websocket, or a stream with requests beside it."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from consumers.frames import Code


class Port:
    """The short way to a client for messages that are framed already (`telling`); some transports have a `port`."""

    __slots__ = ("idle", "transport")

    def __init__(self, transport: Any) -> None:
        """`transport`: of asyncio, below a server that takes messages as they are."""
        self.transport = transport
        #: The connection has nothing to write before, and has not ended; its writer keeps that true.
        self.idle = False


class Transport(Protocol):
    """What carries the frames of one client."""

    #: What it is called in the counts.
    kind: str
    #: The ASGI scope of the request it came with: headers say who asks, and from where.
    scope: Mapping[str, Any]
    #: What joins frames that are written at once; `send` gets them joined.
    glue: str
    #: Whether the client is to answer pings.
    pong: bool
    #: Further members of the reply to `connect`.
    greeting: Mapping[str, str]

    def send(self, text: str) -> Coroutine[Any, Any, None]:
        """Write.  One at a time; must not ask for the current task before it waits (see `Writer`)."""

    def write(self, message: bytes) -> bool:
        """Write a whole message that is framed already, and shared by many; False: it cannot be done at once, nothing
        was written.  Only between two sends."""

    def refused(self) -> None:
        """The client was told that it is not taken in, and will leave; must not block or raise."""

    def end(self, code: Code) -> Coroutine[Any, Any, None]:
        """Say why, and end.  After everything that was sent."""

    def abort(self) -> None:
        """Cut: the client takes nothing any more.  Leads to `Connection.over`; must not block or raise."""
