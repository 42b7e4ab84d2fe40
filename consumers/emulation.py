"""Frames over plain HTTP, for the stock JavaScript client where websockets do not get through ("emulation").

    GET  /connection/sse?cf_connect=<connect command>    replies and pushes as server-sent events; POST with a body too
    POST /connection/http_stream, body: connect command    the same, a line each
    POST /emulation {"session", "node", "data"}            what the client says later; answered on the stream

Invariants: a stream that can be read is always opened and refused on it, because clients try a refused one again for
ever; what is sent here is never answered with whether a session exists.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from asgi_app import access
from asgi_app.env import env
from asgi_app.errors import (
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    Denied,
    MethodNotAllowed,
    MillpondError,
    NotFound,
    store_away,
)
from cache_layer.errors import StoreUnavailable
from consumers import origins
from consumers.hub import hub
from consumers.relaying import relay
from consumers.streaming import EVENTS, LINES, Form, Stream

log = logging.getLogger(__name__)

#: The parameter that holds the connect command; `asgi_app.logs` keeps it out of the log.
CONNECT = "cf_connect"
#: Seconds a body may take, and bytes above the limit that are still taken in so that the answer arrives.
_BODY_WITHIN = 10.0
_EXCESS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Door:
    methods: tuple[str, ...]
    #: How its stream is written, None for no stream.
    form: Form | None


_DOORS = {
    "/connection/sse": _Door(("GET", "POST"), EVENTS),
    "/connection/http_stream": _Door(("POST",), LINES),
    "/emulation": _Door(("POST",), None),
}


class _Post(msgspec.Struct):
    """The body of `POST /emulation`."""

    session: str
    node: str
    #: A frame, as it would be on a websocket.
    data: str


class _Gone(Exception):
    """The client went before it had said everything."""


def serves(path: str) -> bool:
    """Whether a path is one of those here."""
    return path.rstrip("/") in _DOORS


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve one request."""
    door = _DOORS[scope["path"].rstrip("/")]
    try:
        if scope["method"] == "OPTIONS":
            await _answer(send, 204, origins.preflight(scope, (*door.methods, "OPTIONS")))
        elif scope["method"] not in door.methods:
            raise MethodNotAllowed(f"this is for {' and '.join(door.methods)}")
        elif door.form is None:
            await _take(scope, receive)
            await _answer(send, 204, origins.readable(scope))
        else:
            command = await _command(scope, receive)
            await Stream(scope, send, door.form, hub(), relay()).serve(receive, command)
    except StoreUnavailable:
        await _refuse(send, store_away(), scope)
    except MillpondError as error:
        await _refuse(send, error, scope)
    except _Gone:
        pass


async def _take(scope: Any, receive: Any) -> None:
    """Bring what a client says to its stream, wherever that is."""
    if not access.origin_allowed(scope):
        raise Denied("this origin is not allowed")
    body = await _body(receive)
    if len(body) > env().max_message:
        raise BodyTooLarge(f"the limit is {env().max_message} bytes (MILLPOND_MAX_MESSAGE)")
    try:
        post = msgspec.json.decode(body, type=_Post)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadRequest(f"no session, node and data: {error}") from None
    if not await relay().pass_on(post.session, post.node, post.data):
        raise NotFound("there is no such node: connect again")


async def _command(scope: Any, receive: Any) -> str:
    """The first frame of a stream's client; an empty one, which is refused on the stream, where it is no text."""
    try:
        if scope["method"] == "POST":
            return (await _body(receive)).decode()
        return unquote_plus(_asked(scope), errors="strict")
    except UnicodeDecodeError:
        return ""


def _asked(scope: Any) -> str:
    # Only under the very name that the log keeps out, not under its escaped spellings.
    pairs = (piece.partition("=") for piece in scope["query_string"].decode("latin-1").split("&"))
    command = next((value for name, _, value in pairs if name == CONNECT), "")
    if not command:
        raise BadRequest(f"{CONNECT} is missing: the connect command as JSON")
    return command


async def _body(receive: Any) -> bytes:
    """The body; of one that is too long enough to see that.  Raises BodyTooSlow and _Gone."""
    limit = env().max_message
    body = bytearray()
    taken, more = 0, True
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            while more and taken <= limit + _EXCESS:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Gone
                part, more = message.get("body", b""), message.get("more_body", False)
                taken += len(part)
                body += part[: limit + 1 - len(body)]
    except TimeoutError:
        raise BodyTooSlow(f"it was not there within {_BODY_WITHIN:g} s") from None
    return bytes(body)


async def _refuse(send: Any, error: MillpondError, scope: Any) -> None:
    body = msgspec.json.encode(error.problem())
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        *origins.readable(scope),
    ]
    if error.status in (BodyTooLarge.status, BodyTooSlow.status):
        headers.append((b"connection", b"close"))
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
    if error.status == MethodNotAllowed.status:
        headers.append((b"allow", ", ".join(_DOORS[scope["path"].rstrip("/")].methods).encode()))
    await _answer(send, error.status, headers, b"" if scope["method"] == "HEAD" else body)


async def _answer(send: Any, status: int, headers: origins.Headers, body: bytes = b"") -> None:
    headers = [*headers, (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
