"""One stream of frames to a client that speaks by POSTs: the transport of its connection, and the end of its stream.

Invariants: the first bytes go out at once, before it is known who asks; what ends the connection is told on the stream,
and arrives before its end; whatever ends the stream, nothing of it is left when `serve` returns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from asgi_app.env import env
from consumers import frames, origins, sockets
from consumers.connection import Connection
from consumers.frames import Closes, Code
from consumers.hub import Hub
from consumers.relaying import Relay
from consumers.writer import abort

#: Seconds between the last word and the end of the stream: js 5.7.4 loses a word that comes in one packet with the end.
_FLUSH = 0.05
#: Frames of one client that wait for an earlier one to be through, and how many of the longest kind.
_WAITING, _WAITING_LONGEST = 256, 4
#: Codes from here on mean in a push what they mean when a socket is closed with them.
_LOWEST_CODE = 3000


@dataclass(frozen=True, slots=True)
class Form:
    """How frames are written."""

    #: What it is called in the counts.
    kind: str
    media: bytes
    #: The first bytes.
    opening: bytes
    before: str
    after: str


EVENTS = Form("sse", b"text/event-stream", b"\r\n", "data: ", "\n\n")
#: No first bytes: clients take an empty line for a broken frame.
LINES = Form("http_stream", b"application/x-ndjson", b"", "", "\n")


class Stream:
    """The transport (`transport.Transport`) of one client."""

    #: A pong would be a POST, across processes, that fails whenever the store does.  Who closes is noticed at once, and
    #: who falls silent by the pings that are written (`sockets`).
    pong = False

    def __init__(self, scope: Mapping[str, Any], send: Any, form: Form, hub: Hub, relay: Relay) -> None:
        self.scope = origins.trusted(scope)
        self.kind = form.kind
        self.glue = form.after + form.before
        self._form = form
        self._raw_send = send
        self._relay = relay
        self._session = relay.enter(self.take)
        #: With these the client addresses its POSTs.
        self.greeting: Mapping[str, str] = {"session": self._session, "node": relay.node}
        self._waiting: deque[str] = deque()
        self._waiting_size = 0
        self._taking: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[Any] | None = None
        self._over = False
        self._given_up = False
        #: The connect was answered with an error: nothing more is to be said.
        self._refused = False
        self._connection = Connection(self, hub)

    async def serve(self, receive: Any, command: str) -> None:
        """Stream until the client leaves or the connection ends; `command` is the client's first frame."""
        self._serving = asyncio.current_task()
        try:
            await self._begin()
            await self._relay.listens()
            self._connection.open()
            self._connection.receive(command)
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            if not self._given_up or self._serving is None or self._serving.uncancel() > 0:
                raise
        finally:
            self._over = True
            self._relay.leave(self._session)
            if self._taking is not None:
                self._taking.cancel()
            await self._connection.over()

    def take(self, text: str) -> None:
        """A frame of the client (`relaying.Take`).  Too many requests when it says more than can be worked off."""
        self._waiting.append(text)
        self._waiting_size += len(text)
        if len(self._waiting) > _WAITING or self._waiting_size > _WAITING_LONGEST * env().max_message:
            self._forget_waiting()
            self._connection.close(Closes.TOO_MANY_REQUESTS)
        elif self._taking is None:
            self._taking = asyncio.get_running_loop().create_task(self._take_all())

    async def _take_all(self) -> None:
        try:
            while self._waiting and not self._over:
                text = self._waiting.popleft()
                self._waiting_size -= len(text)
                self._connection.receive(text)
                await self._connection.ready()
        finally:
            self._taking = None

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_size = 0

    async def _begin(self) -> None:
        sockets.expect_answers(self._raw_send)
        headers = [
            (b"content-type", self._form.media),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            (b"x-content-type-options", b"nosniff"),
            *origins.readable(self.scope),
        ]
        await self._raw_send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._form.opening:
            await self._write(self._form.opening)

    # Connection -> client

    def write(self, message: bytes) -> bool:
        """A stream is no websocket."""
        return False

    def send(self, text: str) -> Coroutine[Any, Any, None]:
        """Write frames, joined by `glue`."""
        return self._write(f"{self._form.before}{text}{self._form.after}".encode())

    def refused(self) -> None:
        """A stream is of no use without its connection: it ends."""
        self._refused = True
        self._connection.close(Closes.CLOSED)

    async def end(self, code: Code) -> None:
        """Say why, unless that was the last word, and end the stream a moment later."""
        if not self._refused:
            await self.send(frames.push_disconnect(_pushed(code)))
        await asyncio.sleep(_FLUSH)
        await self._raw_send({"type": "http.response.body", "body": b""})
        self._leave()

    def abort(self) -> None:
        """The client takes nothing any more."""
        if not self._over:
            abort(self._raw_send)
            self._leave()

    def _write(self, body: bytes) -> Coroutine[Any, Any, None]:
        made: Coroutine[Any, Any, None] = self._raw_send(
            {"type": "http.response.body", "body": body, "more_body": True}
        )
        return made

    def _leave(self) -> None:
        if not self._over and self._serving is not None:
            self._over = self._given_up = True
            self._serving.cancel()


def _pushed(code: Code) -> Code:
    """Codes of the websocket itself are final when they close one, and as a push would mean: come back."""
    return code if code.number >= _LOWEST_CODE else Code(Closes.BAD_REQUEST.number, code.reason, False)
