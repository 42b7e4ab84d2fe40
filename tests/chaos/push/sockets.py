"""A websocket as a client of few words needs it: thousands in one process, and nothing hidden.

Independent of the server's code and of the libraries it uses.  Invariant: `lost` is called once, with the code the
server closed with, or 1006 where the connection ended without a word.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

PATH = "/connection/websocket"
#: RFC 6455: the connection ended without a close frame.
NO_WORD = 1006
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_KEY = "aGFybmVzc2hhcm5lc3NoYQ=="


class Refused(Exception):
    """The server did not accept the handshake."""


class Socket(asyncio.Protocol):
    """One websocket, from the handshake on."""

    def __init__(
        self,
        host: str,
        opened: Callable[[], None],
        heard: Callable[[bytes], None],
        lost: Callable[[int], None],
        path: str = PATH,
    ) -> None:
        """`heard` is given each text of the server."""
        self._host, self._path = host, path
        self._opened, self._heard, self._lost = opened, heard, lost
        self._transport: asyncio.Transport
        self._buffer = b""
        self._open = False
        self._code = NO_WORD

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not say that it is one
        self._transport.write(handshake(self._host, self._path))

    def send(self, text: bytes) -> None:
        """Say something."""
        if not self._transport.is_closing():
            self._transport.write(masked(_TEXT, text))

    def abort(self) -> None:
        """As when the network or the machine goes: without a word."""
        self._transport.abort()

    def pause(self) -> None:
        """Read nothing, until `resume`."""
        self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._transport.abort()
                return
            self._open, self._buffer = True, rest
            self._opened()
        at, size = 0, len(self._buffer)
        while (frame := frame_at(self._buffer, at, size)) is not None:
            kind, start, at = frame
            if kind == _TEXT:
                self._heard(self._buffer[start:at])
            elif kind == _CLOSE:
                self._code = int.from_bytes(self._buffer[start : start + 2], "big") if at - start >= 2 else 1005
                self._transport.write(masked(_CLOSE, self._buffer[start : start + 2]))
                self._transport.close()
            elif kind == _PING:
                self._transport.write(masked(_PONG, self._buffer[start:at]))
        self._buffer = self._buffer[at:]

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(self._code)


def frame_at(data: bytes, at: int, size: int) -> tuple[int, int, int] | None:
    """Kind, beginning and end of the next whole frame.  Servers do not mask, and this one does not fragment."""
    if size - at < 2:
        return None
    length, start = data[at + 1], at + 2
    if length == 126:
        start += 2
        length = int.from_bytes(data[at + 2 : at + 4], "big")
    elif length == 127:
        start += 8
        length = int.from_bytes(data[at + 2 : at + 10], "big")
    if size < start + length:
        return None
    if not data[at] & 0x80:
        raise ValueError("a fragment")
    return data[at] & 15, start, start + length


def handshake(host: str, path: str = PATH) -> bytes:
    """What a client says first."""
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n\r\n".encode()


def masked(kind: int, text: bytes) -> bytes:
    """A frame of a client; masked with zeros, which leave it as it is."""
    size = len(text)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + b"\0\0\0\0" + text


def never_reading(port: int, *texts: bytes, path: str = PATH) -> socket.socket:
    """A connection that has said these texts, and reads nothing, with the smallest buffer a kernel gives."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(10)
    made.connect(("127.0.0.1", port))
    made.sendall(handshake(f"127.0.0.1:{port}", path))
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # what comes with the handshake, servers may drop
        head += made.recv(1) or b"\r\n\r\n"
    made.sendall(b"".join(masked(_TEXT, text) for text in texts))
    return made
