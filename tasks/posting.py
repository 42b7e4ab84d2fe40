"""One POST to a stranger: by address, once, within a deadline, and whatever the stranger answers.

Invariant: it connects to the addresses it is given and to no other (no resolution, no proxy, no redirect), shows TLS
the name that was asked for, and takes in no more than `_MOST_HEAD` and `_MOST_BODY` bytes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time

import h11

from asgi_app.destinations import Destination

#: Addresses that are tried, and seconds for each but the last: a name may have more, and some may be dead.
_MOST_ADDRESSES, _EACH = 4, 3.0
_MOST_HEAD = _MOST_BODY = 64 * 1024
#: Seconds the rest of an answer may take whose status is known; who is read to the end can end politely.
_REST = 2.0


class Unanswered(Exception):
    """There was no answer; the message says why, and nothing a stranger wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    #: Seconds, when it said so and in a way that can be understood.
    retry_after: float | None = None


async def post(
    destination: Destination,
    addresses: Sequence[str],
    headers: dict[str, str],
    body: bytes,
    *,
    deadline: float,
    tls: ssl.SSLContext,
) -> Answer:
    """Send and hear the answer, in `deadline` seconds overall.  Raises Unanswered; cancelled it lets go at once."""
    until = asyncio.get_running_loop().time() + deadline
    try:
        async with asyncio.timeout_at(until):
            reader, writer = await _connect(destination, addresses[:_MOST_ADDRESSES], tls)
        try:
            wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
            async with asyncio.timeout_at(until):
                answer = await _exchange(wire, reader, writer, _request(destination, headers, body))
            await _drop_the_rest(wire, reader, until)
            return answer
        finally:
            writer.transport.abort()  # no farewell: a stranger could draw it out
    except TimeoutError:
        raise Unanswered("no answer in time") from None
    except ssl.SSLCertVerificationError as error:
        raise Unanswered(f"its certificate is not valid: {error.verify_message}") from None
    except ssl.SSLError:
        raise Unanswered("TLS failed") from None
    except OSError:
        raise Unanswered("the connection failed") from None
    except h11.RemoteProtocolError:
        raise Unanswered("its answer is not HTTP/1.1") from None


async def _connect(
    destination: Destination, addresses: Sequence[str], tls: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context, name = (tls, destination.host) if destination.secure else (None, None)
    *others, last = addresses
    for address in others:
        with suppress(OSError):  # which a TimeoutError is, too
            async with asyncio.timeout(_EACH):
                return await asyncio.open_connection(address, destination.port, ssl=context, server_hostname=name)
    return await asyncio.open_connection(last, destination.port, ssl=context, server_hostname=name)


def _request(destination: Destination, headers: dict[str, str], body: bytes) -> tuple[h11.Event, ...]:
    fixed = {"Host": destination.authority, "Content-Length": str(len(body)), "Connection": "close"}
    head = h11.Request(method="POST", target=destination.target, headers=[*{**fixed, **headers}.items()])
    return head, h11.Data(data=body), h11.EndOfMessage()


async def _exchange(
    wire: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Sequence[h11.Event]
) -> Answer:
    for event in request:
        writer.write(wire.send(event) or b"")
    with suppress(ConnectionError):  # some answer before they have read everything, and close
        await writer.drain()
    head = await _next(wire, reader)
    while isinstance(head, h11.InformationalResponse):
        head = await _next(wire, reader)
    if not isinstance(head, h11.Response):
        raise Unanswered("the connection was closed without an answer")
    return Answer(status=head.status_code, retry_after=retry_after(dict(head.headers).get(b"retry-after"), time()))


async def _next(wire: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := wire.next_event()) is h11.NEED_DATA:
        wire.receive_data(await reader.read(16 * 1024))
    return event


async def _drop_the_rest(wire: h11.Connection, reader: asyncio.StreamReader, until: float) -> None:
    taken = 0
    with suppress(OSError, h11.RemoteProtocolError):  # what counts has been said
        async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + _REST)):
            while taken <= _MOST_BODY and isinstance(event := await _next(wire, reader), h11.Data):
                taken += len(event.data)


def retry_after(raw: bytes | None, now: float) -> float | None:
    """Seconds from `now` (unix) that a Retry-After header asks for: a number of them, or a date (RFC 9110, 10.2.3)."""
    text = (raw or b"").decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
