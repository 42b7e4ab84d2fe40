"""Answers that are made once and sent many times: over uvicorn as the bytes they are, elsewhere as ASGI messages.

uvicorn checks and joins the headers of every answer anew, which costs as much as all the rest of a hit.  It has no door
for bytes, so they go to the transport of its request, in the state in which `send` itself would write them.

Invariant: the bytes are those that uvicorn would have written; where its request is in any other state, or the server
is another one, the messages are sent.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

#: Bytes of a body that is copied behind its headers, and written with them.
_SMALL = 65_536


class Prepared:
    """One answer."""

    __slots__ = ("_around", "_body", "_bytes", "_date", "_head", "_start")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """`headers` with Content-Length, unless the status allows no body."""
        self._start: dict[str, Any] = {"type": "http.response.start", "status": status, "headers": headers}
        self._body: dict[str, Any] = {"type": "http.response.body", "body": body, "more_body": False}
        #: The bytes before and behind what the server says: joined when first sent, for many are not sent at all.
        self._head: tuple[bytes, bytes] | None = None
        #: The lines around the values of Age and Cache-Status.
        self._around: tuple[bytes, bytes, bytes] | None = None
        #: What the server puts before the headers, a new list each second, and the whole for that second.
        self._date: Any = None
        self._bytes = b""

    def grow_older(self, age: bytes, cache_status: bytes) -> None:
        """Say another Age, and behind it another Cache-Status; all else stays as it is made."""
        headers: list[tuple[bytes, bytes]] = list(self._start["headers"])
        names = [name for name, _ in headers]
        first, second = names.index(b"Age"), names.index(b"Cache-Status")
        headers[first], headers[second] = (b"Age", age), (b"Cache-Status", cache_status)
        if self._around is None:
            self._around = (
                _lines(headers[:first]) + b"age: ",
                b"\r\n" + _lines(headers[first + 1 : second]) + b"cache-status: ",
                b"\r\n" + _lines(headers[second + 1 :]) + b"\r\n",
            )
        before, between, behind = self._around
        self._start = {**self._start, "headers": headers}
        self._head = STATUS_LINE[self._start["status"]], b"".join((before, age, between, cache_status, behind))
        self._date = None

    async def send(self, send: Any) -> None:
        """Answer the request that `send` belongs to."""
        cycle = getattr(send, "__self__", None)
        if type(cycle) is RequestResponseCycle and _is_new(cycle):
            self._write(cycle)
        else:
            await send(self._start)
            await send(self._body)

    def _write(self, cycle: RequestResponseCycle) -> None:
        if self._date is not cycle.default_headers:
            self._date = cycle.default_headers
            if self._head is None:
                self._head = STATUS_LINE[self._start["status"]], _lines(self._start["headers"]) + b"\r\n"
            first, rest = self._head
            said = _lines(self._date)
            body = self._body["body"] if len(self._body["body"]) <= _SMALL else b""
            self._bytes = b"".join((first, said, rest, body))
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(self._bytes)
        if len(self._body["body"]) > _SMALL:
            cycle.transport.write(self._body["body"])
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % (name.lower(), value) for name, value in headers])


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
