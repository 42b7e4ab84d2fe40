"""The websocket: carries the frames of one connection between socket and `Connection`, and decides nothing.

Invariants: the handshake is always accepted and refusals are said on the open socket, with a code and its reason,
because clients retry a refused handshake for ever; a frame costs neither a thread nor the channel layer; whatever ends
the connection, nothing of it is left when `__call__` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from consumers.connection import Connection
from consumers.frames import Closes, Code
from consumers.hub import hub
from consumers.transport import Port
from consumers.writer import abort

#: The subprotocol of JSON clients that name one; of Protobuf clients, which are turned away politely.
_JSON, _PROTOBUF = "centrifuge-json", "centrifuge-protobuf"


class _Socket:
    """The transport (`transport.Transport`) of one connection."""

    kind = "websocket"
    #: Several frames may be written as one, a line each.
    glue = "\n"
    #: Clients answer pings.
    pong = True
    #: Nothing more in the reply to `connect`: the socket itself says whose a frame is.
    greeting: Mapping[str, str] = {}

    def __init__(self, scope: Mapping[str, Any], send: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        self.scope = scope
        self.given_up = False
        self._send = send
        self._receiving = asyncio.current_task()
        server = getattr(send, "__self__", None)
        #: uvicorn's side of the socket, where it takes messages as they are: without extensions.
        self._server = server if type(server) is WebSocketsSansIOProtocol and not server.conn.extensions else None
        self.port = Port(self._server.transport) if self._server is not None else None

    def accept(self, subprotocol: str | None) -> Coroutine[Any, Any, None]:
        """Open it."""
        return self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    def write(self, message: bytes) -> bool:
        """Past uvicorn, which would frame it anew for each of many clients."""
        server = self._server
        if server is None or not server.writable.is_set() or server.close_sent or server.conn.state is not State.OPEN:
            return False
        server.transport.write(message)
        return True

    def send(self, text: str) -> Coroutine[Any, Any, None]:
        """Write a frame."""
        return self._send({"type": "websocket.send", "text": text})

    def refused(self) -> None:
        """The client closes the socket, or is closed a while later."""

    def end(self, code: Code) -> Coroutine[Any, Any, None]:
        """Close, and say why."""
        return self._send({"type": "websocket.close", "code": code.number, "reason": code.reason})

    def abort(self) -> None:
        """The socket takes nothing any more, not even a close frame."""
        if not self.given_up and self._receiving is not None:
            self.given_up = True
            abort(self._send)
            self._receiving.cancel()

    def was_cut(self) -> bool:
        """Whether it was the socket that cancelled its own task, and nobody else."""
        return self.given_up and self._receiving is not None and self._receiving.uncancel() == 0


class LiveConsumer(AsyncConsumer):
    """One websocket."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection until it ends, in one task and without the channel layer."""
        self.scope, self.base_send = scope, send
        self._socket = _Socket(scope, send)
        self._connection = Connection(self._socket, hub())
        try:
            while True:
                await self.dispatch(await receive())
                await self._connection.ready()
        except StopConsumer:
            pass
        except asyncio.CancelledError:
            if not self._socket.was_cut():
                raise
        finally:
            await self._connection.over()

    async def dispatch(self, message: Any) -> None:
        """Handle a message of the server.  Channels' own makes a thread hop for each, for the sake of the database."""
        await getattr(self, get_handler_name(message))(message)

    async def websocket_connect(self, message: Any) -> None:
        """Accept, and say what is wrong on the open socket."""
        offered = self.scope.get("subprotocols") or []
        chosen = next((name for name in offered if name in (_JSON, _PROTOBUF)), None)
        await self._socket.accept(chosen)
        self._connection.open()
        if chosen == _PROTOBUF:
            self._connection.close(Closes.INAPPROPRIATE_PROTOCOL)

    async def websocket_receive(self, message: Any) -> None:
        """A frame of the client."""
        text = message.get("text")
        if text is None:
            self._connection.close(Closes.INAPPROPRIATE_PROTOCOL)
        else:
            self._connection.receive(text)

    async def websocket_disconnect(self, message: Any) -> None:
        """The connection is over."""
        raise StopConsumer
