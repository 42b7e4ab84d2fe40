"""What the server says: text frames of the Centrifuge client protocol v2 (JSON), and its tables of codes.

Pure bytes and text, no socket.  Invariant: no frame made here is empty or holds a raw newline, so frames may be joined
by newlines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cache_layer.position import Position


@dataclass(frozen=True, slots=True)
class Code:
    """A number a client acts on, with the text that goes along."""

    number: int
    #: Never empty: the JavaScript client reads a terminal close code only beside a reason that is text and no JSON.
    reason: str
    #: The client tries again by itself: after an error the command, after an unsubscribe or a close the whole of it.
    again: bool


class Errors:
    """Codes of error replies."""

    INTERNAL = Code(100, "internal server error", True)
    UNAUTHORIZED = Code(101, "unauthorized", False)
    UNKNOWN_CHANNEL = Code(102, "unknown channel", False)
    PERMISSION_DENIED = Code(103, "permission denied", False)
    METHOD_NOT_FOUND = Code(104, "method not found", False)
    ALREADY_SUBSCRIBED = Code(105, "already subscribed", False)
    LIMIT_EXCEEDED = Code(106, "limit exceeded", False)
    BAD_REQUEST = Code(107, "bad request", False)
    NOT_AVAILABLE = Code(108, "not available", False)
    #: Not temporary, yet the client gets itself a new token and connects again.
    TOKEN_EXPIRED = Code(109, "token expired", False)
    EXPIRED = Code(110, "expired", False)
    TOO_MANY_REQUESTS = Code(111, "too many requests", True)
    UNRECOVERABLE_POSITION = Code(112, "unrecoverable position", False)
    CONCURRENT_PAGINATION = Code(113, "concurrent pagination", True)


class Unsubscribes:
    """Codes of unsubscribe pushes."""

    SERVER = Code(2000, "server unsubscribe", False)
    INSUFFICIENT_STATE = Code(2500, "insufficient state", True)
    EXPIRED = Code(2501, "subscription expired", True)
    #: The client drops its token and position first.
    STATE_INVALIDATED = Code(2502, "state invalidated", True)


class Closes:
    """Codes of close frames and disconnect pushes."""

    TOO_BIG = Code(1009, "message size limit", False)
    CLOSED = Code(3000, "connection closed", True)
    SHUTDOWN = Code(3001, "shutdown", True)
    SERVER_ERROR = Code(3004, "internal server error", True)
    EXPIRED = Code(3005, "connection expired", True)
    SUBSCRIPTION_EXPIRED = Code(3006, "subscription expired", True)
    SLOW = Code(3008, "slow", True)
    WRITE_ERROR = Code(3009, "write error", True)
    INSUFFICIENT_STATE = Code(3010, "insufficient state", True)
    FORCE_RECONNECT = Code(3011, "force reconnect", True)
    NO_PONG = Code(3012, "no pong", True)
    TOO_MANY_REQUESTS = Code(3013, "too many requests", True)
    #: The client drops its token and all positions first.
    STATE_INVALIDATED = Code(3014, "state invalidated", True)
    INVALID_TOKEN = Code(3500, "invalid token", False)
    BAD_REQUEST = Code(3501, "bad request", False)
    STALE = Code(3502, "stale", False)
    FORCE_DISCONNECT = Code(3503, "force disconnect", False)
    CONNECTION_LIMIT = Code(3504, "connection limit", False)
    CHANNEL_LIMIT = Code(3505, "channel limit", False)
    INAPPROPRIATE_PROTOCOL = Code(3506, "inappropriate protocol", False)
    PERMISSION_DENIED = Code(3507, "permission denied", False)
    NOT_AVAILABLE = Code(3508, "not available", False)
    TOO_MANY_ERRORS = Code(3509, "too many errors", False)


#: What the server sends as a ping and the client as a pong.
PING = "{}"


def reply(command_id: int, method: str, result: dict[str, Any] | None = None) -> str:
    """A successful reply; the method's object is always there, even when empty."""
    return _text({"id": command_id, method: result or {}})


def raw_reply(command_id: int, method: str, result: bytes) -> str:
    """A successful reply whose result is compact JSON already."""
    return (b'{"id":%d,"%b":%b}' % (command_id, method.encode(), result)).decode()


def error_reply(command_id: int, code: Code, message: str | None = None) -> str:
    """A refusal, with the code's own text unless a better one is given."""
    error: dict[str, Any] = {"code": code.number, "message": message or code.reason}
    if code.again:
        error["temporary"] = True
    return _text({"id": command_id, "error": error})


def lifetime(seconds: float | None) -> dict[str, Any]:
    """The members of a reply that tell when something ends; None: never."""
    return {} if seconds is None else {"expires": True, "ttl": max(1, int(seconds))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """The result of a subscribe."""

    #: Epoch, and the offset the client shall go on from; None where positions mean nothing.
    position: Position | None
    was_recovering: bool = False
    recovered: bool = False
    #: Every publication of this subscription comes as a JSON string, and may be a delta to the one before.
    delta: bool = False
    #: Seconds until its token expires, None for never.
    expires_in: float | None = None
    #: Of a value topic: state, age, job.
    data: Mapping[str, Any] | None = None


def subscribe_result(result: Subscribed, publications: Iterable[bytes] = ()) -> bytes:
    """The object of a subscribe.  `publications`, each made by `publication`, are dispatched in their order.

    With positions it is always recoverable and positioned: stock applications do not ask, and rely on it.
    """
    body: dict[str, Any] = {}
    if result.position is not None:
        body |= {"recoverable": True, "positioned": True, "epoch": result.position.epoch}
        if result.position.offset:
            body["offset"] = result.position.offset
    if result.was_recovering:
        body["was_recovering"] = True
    if result.recovered:
        body["recovered"] = True
    if result.delta:
        body["delta"] = True
    body |= lifetime(result.expires_in)
    if made := list(publications):
        body["publications"] = [msgspec.Raw(one) for one in made]
    if result.data is not None:
        body["data"] = result.data
    return msgspec.json.encode(body)


def publication(data: bytes, offset: int = 0, *, info: bytes = b"", tags: bytes = b"", delta: bool = False) -> bytes:
    """The object of a publication; `data`, `info` and `tags` are compact JSON and go through unread.

    Without an offset it is kept nowhere and moves no position.
    """
    return b'{"data":%b%b%b%b%b}' % (
        data,
        b',"offset":%d' % offset if offset else b"",
        b',"info":%b' % info if info else b"",
        b',"tags":%b' % tags if tags else b"",
        b',"delta":true' if delta else b"",
    )


def push(channel: str, kind: str, body: bytes) -> str:
    """What the server says unasked; `body` is compact JSON."""
    return (b'{"push":{"channel":%b,"%b":%b}}' % (msgspec.json.encode(channel), kind.encode(), body)).decode()


def push_unsubscribe(channel: str, code: Code) -> str:
    """The end of a subscription that the client did not ask for."""
    return _text({"push": {"channel": channel, "unsubscribe": _said(code)}})


def push_disconnect(code: Code) -> str:
    """The end of the connection, where the transport itself cannot say why."""
    return _text({"push": {"disconnect": _said(code)}})


def _said(code: Code) -> dict[str, Any]:
    """Both always: the Python client stops for good without one of them."""
    return {"code": code.number, "reason": code.reason}


def _text(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
