"""What a client says: text frames of the Centrifuge client protocol v2 (JSON), read.

Pure.  Invariant: text that is not a frame of the protocol raises `BadFrame` and nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from cache_layer.position import Position


class BadFrame(Exception):
    """The text is no frame of the protocol; the connection is closed with `Closes.BAD_REQUEST`."""


class _Recovery(msgspec.Struct, frozen=True):
    #: The client holds a position, and wants what came after it.
    recover: bool | None = None
    #: Left out for 0, and the epoch for "": any.
    offset: int | None = None
    epoch: str | None = None

    @property
    def since(self) -> Position | None:
        """The position to recover from, None where that is not asked for."""
        return Position(self.epoch or "", max(0, self.offset or 0)) if self.recover else None


class Known(_Recovery, frozen=True):
    """A server-side subscription from before."""


class Connect(msgspec.Struct, frozen=True):
    token: str | None = None
    name: str | None = None
    version: str | None = None
    subs: dict[str, Known] | None = None


class Subscribe(_Recovery, frozen=True):
    channel: str = ""
    token: str | None = None
    #: Bits: 1 channel compaction is offered; 2 what cannot be recovered is to be refused.  Others are skipped.
    flag: int | None = None
    #: The kind of delta that the client understands.
    delta: str | None = None
    #: A filter by tags: not built, so it is refused; ignoring it would deliver what the client does not want.
    tf: Any = None
    #: Above 0: map and shared-poll subscriptions.
    type: int | None = None
    #: What an application says along; of ours only `{"hidden": true}` means something.
    data: Any = None

    @property
    def refuses_unrecovered(self) -> bool:
        return bool((self.flag or 0) & 2)

    @property
    def hidden(self) -> bool:
        """Nobody looks at the moment."""
        return isinstance(self.data, dict) and self.data.get("hidden") is True


class OfChannel(msgspec.Struct, frozen=True):
    channel: str = ""


class Publish(msgspec.Struct, frozen=True):
    channel: str = ""
    data: Any = None


class Since(msgspec.Struct, frozen=True):
    offset: int | None = None
    epoch: str | None = None


class History(msgspec.Struct, frozen=True):
    channel: str = ""
    #: 0: only the position; below: everything.
    limit: int | None = None
    since: Since | None = None
    reverse: bool | None = None


class Rpc(msgspec.Struct, frozen=True):
    method: str = ""
    data: Any = None


class Refresh(msgspec.Struct, frozen=True):
    token: str = ""


class SubRefresh(msgspec.Struct, frozen=True):
    channel: str = ""
    token: str = ""


class _Anything(msgspec.Struct, frozen=True):
    pass


class Command(msgspec.Struct, frozen=True):
    """One command; exactly one method is there, or none in a pong."""

    id: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: OfChannel | None = None
    publish: Publish | None = None
    history: History | None = None
    presence: OfChannel | None = None
    presence_stats: OfChannel | None = None
    sub_refresh: SubRefresh | None = None
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
