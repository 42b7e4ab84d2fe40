"""Answers that are made once and sent many times: over uvicorn as the bytes they are, elsewhere as ASGI messages.

uvicorn checks and joins the headers of every answer anew, which costs as much as all the rest of a hit.  It has no door
for bytes, so they go to the transport of its request, in the state in which `send` itself would write them.

Invariant: the bytes are those that uvicorn would have written; where its request is in any other state, or the server
is another one, the messages are sent.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

#: Bytes of a body that is copied behind its headers, and written with them.
_SMALL = 65_536
#: What the server says in this second, and its lines.
_saying: tuple[Any, bytes] = None, b""


class Prepared:
    """One answer."""

    __slots__ = ("_aged", "_around", "_body", "_bytes", "_date", "_headers", "_status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """`headers` with Content-Length, unless the status allows no body."""
        self._status, self._headers, self._body = status, headers, body
        #: Age and Cache-Status of now; None: those of the headers.
        self._aged: tuple[bytes, bytes] | None = None
        #: The lines before, between and behind the values of these two, or all lines: joined when first sent, for many
        #: answers are not sent at all.
        self._around: tuple[bytes, ...] = ()
        #: What the server puts before the headers, a new list each second, and the whole for that second.
        self._date: Any = None
        self._bytes = b""

    def grow_older(self, age: bytes, cache_status: bytes) -> None:
        """Say another Age, and behind it another Cache-Status; all else stays as it is made.

        Costs next to nothing: of the answers that grow older, not all are sent.
        """
        if self._aged is None:
            self._around = ()
        self._aged, self._date = (age, cache_status), None

    async def send(self, send: Any) -> None:
        """Answer the request that `send` belongs to."""
        cycle = getattr(send, "__self__", None)
        if type(cycle) is RequestResponseCycle and _is_new(cycle):
            self._write(cycle)
        else:
            await send({"type": "http.response.start", "status": self._status, "headers": self._older()})
            await send({"type": "http.response.body", "body": self._body, "more_body": False})

    def write(self, transport: asyncio.WriteTransport, server_says: list[tuple[bytes, bytes]]) -> None:
        """Write the whole answer to a GET."""
        if self._date is not server_says:
            self._date = server_says
            body = self._body if len(self._body) <= _SMALL else b""
            self._bytes = b"".join((STATUS_LINE[self._status], _said(self._date), *self._head(), body))
        transport.write(self._bytes)
        if len(self._body) > _SMALL:
            transport.write(self._body)

    def _write(self, cycle: RequestResponseCycle) -> None:
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        self.write(cycle.transport, cycle.default_headers)
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()

    def _older(self) -> list[tuple[bytes, bytes]]:
        """The headers of now."""
        if self._aged is None:
            return self._headers
        now = {b"Age": self._aged[0], b"Cache-Status": self._aged[1]}
        return [(name, now.get(name, value)) for name, value in self._headers]

    def _head(self) -> tuple[bytes, ...]:
        """The lines of the headers of now, and the empty one."""
        if self._aged is None:
            self._around = self._around or (_lines(self._headers) + b"\r\n",)
            return self._around
        if not self._around:
            names = [name for name, _ in self._headers]
            first, second = names.index(b"Age"), names.index(b"Cache-Status")
            self._around = (
                _lines(self._headers[:first]) + b"age: ",
                b"\r\n" + _lines(self._headers[first + 1 : second]) + b"cache-status: ",
                b"\r\n" + _lines(self._headers[second + 1 :]) + b"\r\n",
            )
        before, between, behind = self._around
        age, cache_status = self._aged
        return before, age, between, cache_status, behind


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % (name.lower(), value) for name, value in headers])


def _said(date: list[tuple[bytes, bytes]]) -> bytes:
    """The lines of what the server says in all answers of a second."""
    global _saying
    if _saying[0] is not date:
        _saying = date, _lines(date)
    return _saying[1]


def _is_new(cycle: RequestResponseCycle) -> bool:
    """Whether nothing stands in the way of writing a whole answer."""
    return (
        not cycle.flow.write_paused
        and not cycle.disconnected
        and not cycle.response_started
        and not cycle.access_log
        and cycle.keep_alive
        and cycle.scope["method"] == "GET"
    )
