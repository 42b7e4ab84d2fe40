"""The wire: text frames of the Centrifuge client protocol v2 (JSON), and its tables of codes.

Pure bytes and text, no socket.  Invariants: text that is not a frame of the protocol raises `BadFrame` and nothing
else; no frame made here is empty or holds a raw newline, so frames may be joined by newlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

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
    UNKNOWN_CHANNEL = Code(102, "unknown channel", False)
    PERMISSION_DENIED = Code(103, "permission denied", False)
    ALREADY_SUBSCRIBED = Code(105, "already subscribed", False)
    LIMIT_EXCEEDED = Code(106, "limit exceeded", False)
    BAD_REQUEST = Code(107, "bad request", False)
    NOT_AVAILABLE = Code(108, "not available", False)
    #: Not temporary, yet the client gets itself a new token and connects again.
    TOKEN_EXPIRED = Code(109, "token expired", False)
    TOO_MANY_REQUESTS = Code(111, "too many requests", True)


class Unsubscribes:
    """Codes of unsubscribe pushes."""

    SERVER = Code(2000, "server unsubscribe", False)
    INSUFFICIENT_STATE = Code(2500, "insufficient state", True)


class Closes:
    """Codes of close frames."""

    TOO_BIG = Code(1009, "message size limit", False)
    SHUTDOWN = Code(3001, "shutdown", True)
    SERVER_ERROR = Code(3004, "internal server error", True)
    EXPIRED = Code(3005, "connection expired", True)
    SLOW = Code(3008, "slow", True)
    NO_PONG = Code(3012, "no pong", True)
    TOO_MANY_REQUESTS = Code(3013, "too many requests", True)
    INVALID_TOKEN = Code(3500, "invalid token", False)
    BAD_REQUEST = Code(3501, "bad request", False)
    STALE = Code(3502, "stale", False)
    CONNECTION_LIMIT = Code(3504, "connection limit", False)
    INAPPROPRIATE_PROTOCOL = Code(3506, "inappropriate protocol", False)
    PERMISSION_DENIED = Code(3507, "permission denied", False)
    NOT_AVAILABLE = Code(3508, "not available", False)


class BadFrame(Exception):
    """The text is no frame of the protocol; the connection is closed with `Closes.BAD_REQUEST`."""


class Connect(msgspec.Struct, frozen=True):
    token: str | None = None
    name: str | None = None
    version: str | None = None


class Subscribe(msgspec.Struct, frozen=True):
    channel: str = ""
    token: str | None = None
    recover: bool | None = None
    offset: int | None = None
    epoch: str | None = None
    #: A filter by tags: not built, so it is refused; ignoring it would deliver what the client does not want.
    tf: Any = None
    #: Above 0: map and shared-poll subscriptions.
    type: int | None = None


class OfChannel(msgspec.Struct, frozen=True):
    channel: str = ""


class Rpc(msgspec.Struct, frozen=True):
    method: str = ""
    data: Any = None


class Refresh(msgspec.Struct, frozen=True):
    token: str = ""


class _Anything(msgspec.Struct, frozen=True):
    pass


class Command(msgspec.Struct, frozen=True):
    """One command; exactly one method is there, or none in a pong."""

    id: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: OfChannel | None = None
    publish: OfChannel | None = None
    history: OfChannel | None = None
    presence: OfChannel | None = None
    presence_stats: OfChannel | None = None
    sub_refresh: OfChannel | None = None
    rpc: Rpc | None = None
    refresh: Refresh | None = None
    send: _Anything | None = None

    @property
    def method(self) -> str:
        """The name of the method; "" for a pong."""
        return next((name for name in _METHODS if getattr(self, name) is not None), "")


_METHODS = Command.__struct_fields__[1:]
_DECODER = msgspec.json.Decoder(Command)
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

#: What the server sends as a ping and the client as a pong.
PING = "{}"


def decode(text: str) -> list[Command]:
    """The commands of a frame in their order, at least one.  Raises BadFrame; the frame is judged as a whole."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise BadFrame("an empty frame")
    return [_command(line) for line in lines]


def _command(line: str) -> Command:
    try:
        command = _DECODER.decode(line)
    except _UNREADABLE as error:
        raise BadFrame(str(error)) from None
    methods = sum(getattr(command, name) is not None for name in _METHODS)
    if methods == 0 and command.id == 0 and line.strip("{} \t\r") == "":
        return command
    if methods != 1 or (command.id == 0 and command.send is None):
        raise BadFrame("a command has an id and one known method")
    return command


def reply(command_id: int, method: str, result: dict[str, Any] | None = None) -> str:
    """A successful reply; the method's object is always there, even when empty."""
    return _text({"id": command_id, method: result or {}})


def error_reply(command_id: int, code: Code, message: str | None = None) -> str:
    """A refusal, with the code's own text unless a better one is given."""
    error: dict[str, Any] = {"code": code.number, "message": message or code.reason}
    if code.again:
        error["temporary"] = True
    return _text({"id": command_id, "error": error})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """The result of a subscribe to a value topic."""

    #: Epoch, and the offset the client shall go on from.
    position: Position
    #: The newest value and its offset, if the client does not hold it already.
    publication: tuple[bytes, int] | None
    was_recovering: bool
    recovered: bool
    #: state, age, job.
    data: dict[str, Any]


def subscribe_reply(command_id: int, result: Subscribed) -> str:
    """Always recoverable and positioned: stock applications do not ask, and rely on it."""
    body: dict[str, Any] = {"recoverable": True, "positioned": True, "epoch": result.position.epoch}
    if result.position.offset:
        body["offset"] = result.position.offset
    if result.was_recovering:
        body["was_recovering"] = True
    if result.recovered:
        body["recovered"] = True
    if result.publication is not None:
        payload, offset = result.publication
        body["publications"] = [{"data": msgspec.Raw(payload), "offset": offset}]
    return _text({"id": command_id, "subscribe": {**body, "data": result.data}})


def rpc_reply(command_id: int, data: bytes) -> str:
    """The result of an rpc; `data` is compact JSON."""
    return (b'{"id":%d,"rpc":{"data":%b}}' % (command_id, data)).decode()


def push_value(channel: str, payload: bytes, offset: int) -> str:
    """A value at its offset; the payload is compact JSON and goes through unread."""
    return _push(channel, b'{"data":%b,"offset":%d}' % (payload, offset))


def push_signal(channel: str, kind: str, data: bytes) -> str:
    """A publication without offset: it is kept nowhere and moves no position; `tags` tell it from a value."""
    return _push(channel, b'{"data":%b,"tags":{"kind":"%b"}}' % (data, kind.encode()))


def push_unsubscribe(channel: str, code: Code) -> str:
    """The end of a subscription that the client did not ask for."""
    return _text({"push": {"channel": channel, "unsubscribe": {"code": code.number, "reason": code.reason}}})


def _push(channel: str, publication: bytes) -> str:
    return (b'{"push":{"channel":%b,"pub":%b}}' % (msgspec.json.encode(channel), publication)).decode()


def _text(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
