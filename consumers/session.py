"""The protocol of one connection without its socket: frames in, effects out.

No clock, no randomness, no I/O: time (seconds, monotonic), luck and every answer of the outside are arguments.
Invariants: commands take effect in the order they came, also while authentication or a subscription is under way; every
command is answered exactly once or the connection is closed; after a `Close` nothing has an effect any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from cache_layer.position import Position
from consumers import frames
from consumers.effects import Authenticate, Call, Close, Effect, Held, Refresh, Send, Subscribe, Unsubscribe
from consumers.frames import Closes, Code, Command, Errors

#: Seconds between pings, and until a pong must be there.
PING = 25
PONG_WITHIN = 10.0
#: Seconds until the connect command must be there.
CONNECT_WITHIN = 10.0
#: Seconds an expired connection lives on: clients refresh at the very second of the expiry.
EXPIRY_GRACE = 25.0
#: Characters of a channel's name.
CHANNEL_LENGTH = 255
#: Calls of one connection under way at once.
CALLS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    #: Subscriptions at once.
    subscriptions: int
    #: Commands a second; bursts of twice that.
    command_rate: float
    #: Bytes of one frame of the client.
    message: int
    #: Bytes of the answers to calls that wait to be written; one alone may be larger.
    replies: int


class _State(Enum):
    OPEN = auto()
    AUTHENTICATING = auto()
    REFUSED = auto()
    READY = auto()
    CLOSED = auto()


class _Bucket:
    """A token bucket: `rate` a second, bursts of twice that."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._tokens, self._at = rate, 2 * rate, now

    def take(self, now: float) -> bool:
        self._tokens = min(2 * self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Pending:
    """A subscribe under way: its recovery position, and the commands for the same channel that came after it."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.waiting: deque[Command] = deque()


class Session:
    """One connection.  Every method that may cause something returns the effects, to be carried out in order."""

    def __init__(
        self,
        *,
        client: str,
        version: str,
        limits: Limits,
        now: float,
        luck: float,
        pong: bool = True,
        greeting: Mapping[str, str] = {},
    ) -> None:
        """`client` is the connection's unique id, `version` the server's; `luck` in [0, 1) spreads the first ping.

        `pong`: the client is to answer pings; `greeting` goes along with the reply to its connect.
        """
        self._pong = pong
        self._greeting = greeting
        self.client = client
        self._version = version
        self._limits = limits
        self._luck = luck
        self._state = _State.OPEN
        self._connect_id = 0
        self._connect_by: float | None = now + CONNECT_WITHIN
        self._ping_at: float | None = None
        self._pong_by: float | None = None
        self._expired_at: float | None = None
        self._refreshable = False
        self._commands = _Bucket(limits.command_rate, now)
        self._refusals = _Bucket(limits.command_rate, now)
        self._queue: deque[Command] = deque()
        self._subscriptions: dict[str, _Pending | None] = {}  # None: it stands
        self._calls = 0
        self._waiting_bytes = 0

    @property
    def closed(self) -> bool:
        return self._state is _State.CLOSED

    @property
    def crowded(self) -> bool:
        """Commands wait for an answer from outside: better read no further frame until they are through."""
        return bool(self._queue) or any(pending and pending.waiting for pending in self._subscriptions.values())

    # What comes from the client

    def receive(self, text: str, now: float) -> list[Effect]:
        """A text frame."""
        if self.closed:
            return []
        if len(text) > self._limits.message or len(text.encode("utf-8", "replace")) > self._limits.message:
            return self.close(Closes.TOO_BIG)
        try:
            commands = frames.decode(text)
        except frames.BadFrame:
            return self.close(Closes.BAD_REQUEST)
        effects: list[Effect] = []
        for command in commands:
            if not self.closed:
                effects += self._take(command, now)
        return effects

    def _take(self, command: Command, now: float) -> list[Effect]:
        if not command.method:
            return self._ponged()
        if not self._commands.take(now):
            return self._too_many(command, now)
        if command.connect is not None:
            return self._connect(command)
        if self._state is _State.OPEN:
            return self.close(Closes.BAD_REQUEST)
        if self._state is _State.AUTHENTICATING:
            self._queue.append(command)
            return []
        return self._perform(command) if self._state is _State.READY else []

    def _ponged(self) -> list[Effect]:
        if self._pong_by is None:
            return self.close(Closes.BAD_REQUEST)
        self._pong_by = None
        return []

    def _too_many(self, command: Command, now: float) -> list[Effect]:
        # A client that goes on after a whole burst of refusals is out of control: its backoff has to calm it.
        if not self._refusals.take(now):
            return self.close(Closes.TOO_MANY_REQUESTS)
        return [self._error(command.id, Errors.TOO_MANY_REQUESTS)] if command.id else []

    def _connect(self, command: Command) -> list[Effect]:
        if self._state is not _State.OPEN or command.connect is None:
            return self.close(Closes.BAD_REQUEST)
        self._state = _State.AUTHENTICATING
        self._connect_by = None
        self._connect_id = command.id
        return [Authenticate(command.connect.token or "")]

    def _perform(self, command: Command) -> list[Effect]:
        if command.subscribe is not None:
            return self._subscribe(command, command.subscribe)
        if command.unsubscribe is not None:
            return self._unsubscribe(command, command.unsubscribe.channel)
        if command.rpc is not None:
            return self._call(command.id, command.rpc)
        if command.refresh is not None:
            return self._refresh(command.id, command.refresh.token)
        if command.sub_refresh is not None and command.sub_refresh.channel not in self._subscriptions:
            return [self._error(command.id, Errors.PERMISSION_DENIED)]
        if command.send is not None:
            return self.close(Closes.NOT_AVAILABLE)
        return [self._error(command.id, Errors.NOT_AVAILABLE)]

    def _subscribe(self, command: Command, wanted: frames.Subscribe) -> list[Effect]:
        channel = wanted.channel
        if not channel:
            return self.close(Closes.BAD_REQUEST)
        if self._wait_for(channel, command):
            return []
        refusal = self._refusal(wanted)
        if refusal is not None:
            return [self._error(command.id, *refusal)]
        self._subscriptions[channel] = _Pending(command)
        return [Subscribe(command.id, channel)]

    def _refusal(self, wanted: frames.Subscribe) -> tuple[Code, str | None] | None:
        if len(wanted.channel) > CHANNEL_LENGTH:
            return Errors.BAD_REQUEST, f"a channel's name has at most {CHANNEL_LENGTH} characters"
        if wanted.channel in self._subscriptions:
            return Errors.ALREADY_SUBSCRIBED, None
        if len(self._subscriptions) >= self._limits.subscriptions:
            return Errors.LIMIT_EXCEEDED, f"at most {self._limits.subscriptions} subscriptions"
        if wanted.type:
            return Errors.NOT_AVAILABLE, None
        if wanted.tf is not None:
            return Errors.BAD_REQUEST, "filters by tags are not available"
        return None

    def _unsubscribe(self, command: Command, channel: str) -> list[Effect]:
        if not channel:
            return self.close(Closes.BAD_REQUEST)
        if self._wait_for(channel, command):
            return []
        done: list[Effect] = [Send(frames.reply(command.id, "unsubscribe"))]
        if channel not in self._subscriptions:
            return done
        del self._subscriptions[channel]
        return [Unsubscribe(channel), *done]

    def _wait_for(self, channel: str, command: Command) -> bool:
        pending = self._subscriptions.get(channel)
        if pending is None:
            return False
        pending.waiting.append(command)
        return True

    def _call(self, command_id: int, rpc: frames.Rpc) -> list[Effect]:
        if self._calls >= CALLS:
            return [self._error(command_id, Errors.TOO_MANY_REQUESTS)]
        self._calls += 1
        return [Call(command_id, rpc.method, rpc.data)]

    def _refresh(self, command_id: int, token: str) -> list[Effect]:
        if not token:
            return self.close(Closes.BAD_REQUEST)
        if not self._refreshable:
            return [self._error(command_id, Errors.NOT_AVAILABLE)]
        return [Refresh(command_id, token)]

    # What the outside answers

    def authenticated(self, *, now: float, expires_in: float | None, refreshable: bool) -> list[Effect]:
        """The connection has a principal.  `expires_in` seconds, None for never; `refreshable`: by a new token.

        What cannot be refreshed ends without a word before: clients that are told of it give up for want of a token.
        """
        if self._state is not _State.AUTHENTICATING:
            return []
        self._state = _State.READY
        self._refreshable = refreshable
        self._ping_at = now + PING * (0.5 + self._luck / 2)
        result: dict[str, Any] = {"client": self.client, "version": self._version, "ping": PING}
        result |= {"pong": True} if self._pong else {}
        result |= self._greeting
        if refreshable:
            result |= self._lifetime(expires_in, now)
        elif expires_in is not None:
            self._expired_at = now + expires_in
        effects: list[Effect] = [Send(frames.reply(self._connect_id, "connect", result))]
        while self._queue and not self.closed:
            effects += self._perform(self._queue.popleft())
        return effects

    def refused(self, code: Code, *, now: float) -> list[Effect]:
        """The connect is answered with an error: the connection is of no use any more, what followed is dropped."""
        if self._state is not _State.AUTHENTICATING:
            return []
        self._state = _State.REFUSED
        self._expired_at = now + CONNECT_WITHIN
        self._queue.clear()
        return [self._error(self._connect_id, code)]

    def subscribed(self, channel: str, held: Held) -> list[Effect]:
        """The subscription stands; the reply has to be written before any publication of the channel."""
        pending = self._settle(channel)
        if pending is None or pending.command.subscribe is None:
            return []
        self._subscriptions[channel] = None
        result = answer(pending.command.subscribe, held)
        command_id = pending.command.id
        return [Send(lambda: frames.subscribe_reply(command_id, result)), *self._go_on(pending)]

    def subscribe_failed(self, channel: str, code: Code, message: str | None = None) -> list[Effect]:
        """The subscription is refused."""
        pending = self._settle(channel)
        if pending is None:
            return []
        del self._subscriptions[channel]
        return [self._error(pending.command.id, code, message), *self._go_on(pending)]

    def _settle(self, channel: str) -> _Pending | None:
        return None if self.closed else self._subscriptions.get(channel)

    def _go_on(self, pending: _Pending) -> list[Effect]:
        effects: list[Effect] = []
        while pending.waiting and not self.closed:
            effects += self._perform(pending.waiting.popleft())
        return effects

    def answered(self, command_id: int, data: bytes) -> list[Effect]:
        """The result of a `Call`, as JSON text.  Too many requests when the client does not read what it asked for."""
        self._calls -= 1
        if self.closed:
            return []
        if self._waiting_bytes and self._waiting_bytes + len(data) > self._limits.replies:
            return [self._error(command_id, Errors.TOO_MANY_REQUESTS)]
        self._waiting_bytes += len(data)
        return [Send(lambda: self._written(command_id, data))]

    def _written(self, command_id: int, data: bytes) -> str:
        self._waiting_bytes -= len(data)
        return frames.rpc_reply(command_id, data)

    def call_failed(self, command_id: int, code: Code, message: str | None = None) -> list[Effect]:
        """A `Call` is refused."""
        self._calls -= 1
        return [] if self.closed else [self._error(command_id, code, message)]

    def refreshed(self, command_id: int, *, expires_in: float | None, now: float) -> list[Effect]:
        """The new token holds."""
        if self.closed:
            return []
        lifetime = self._lifetime(expires_in, now)
        return [
            Send(frames.reply(command_id, "refresh", {"client": self.client, "version": self._version, **lifetime}))
        ]

    def expelled(self, channel: str, code: Code) -> list[Effect]:
        """The server ended a subscription."""
        if self.closed or self._subscriptions.get(channel, self) is not None:
            return []
        del self._subscriptions[channel]
        return [Send(frames.push_unsubscribe(channel, code))]

    def close(self, code: Code) -> list[Effect]:
        """The server ends the connection."""
        if self.closed:
            return []
        self._state = _State.CLOSED
        self._queue.clear()
        self._subscriptions.clear()
        return [Close(code)]

    # Time

    @property
    def next_deadline(self) -> float | None:
        """When `tick` should be called at the latest."""
        return None if self.closed else min((at for at in self._deadlines() if at is not None), default=None)

    def _deadlines(self) -> tuple[float | None, ...]:
        return self._connect_by, self._ping_at, self._pong_by, self._expired_at

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: pings, and what did not come in time.  A ping is never left out because of other traffic."""
        if self.closed:
            return []
        for deadline, code in (
            (self._connect_by, Closes.STALE),
            (self._pong_by, Closes.NO_PONG),
            (self._expired_at, Closes.EXPIRED),
        ):
            if deadline is not None and now >= deadline:
                return self.close(code)
        if self._ping_at is None or now < self._ping_at:
            return []
        self._ping_at = max(self._ping_at, now - PING / 2) + PING
        if self._pong:
            self._pong_by = self._pong_by or now + PONG_WITHIN
        return [Send(frames.PING)]

    def _lifetime(self, expires_in: float | None, now: float) -> dict[str, Any]:
        if expires_in is None:
            self._expired_at = None
            return {}
        self._expired_at = now + expires_in + EXPIRY_GRACE
        return {"expires": True, "ttl": max(1, int(expires_in))}

    @staticmethod
    def _error(command_id: int, code: Code, message: str | None = None) -> Send:
        return Send(frames.error_reply(command_id, code, message))


def answer(wanted: frames.Subscribe, held: Held) -> frames.Subscribed:
    """What a subscriber to a value topic is told, given the position it asked to recover from.

    Latest wins: recovered as soon as the newest value is in the reply, or is the one the client holds already.
    """
    recovering = bool(wanted.recover)
    offset, epoch = wanted.offset or 0, wanted.epoch or ""
    holds_it = recovering and offset > 0 and Position(epoch, offset) == held.position
    give = held.payload is not None and not holds_it
    # Without a value in the reply there is nothing to stand on: a position told here would count as held next time.
    start = held.position.offset if give or holds_it else 0
    if recovering and give:
        # The client moves on by the publication itself: told the top, it would lose it if it stopped in between.
        start = min(offset, start - 1) if epoch in ("", held.position.epoch) else 0
    return frames.Subscribed(
        position=Position(held.position.epoch, max(0, start)),
        publication=(held.payload, held.position.offset) if give and held.payload is not None else None,
        was_recovering=recovering,
        recovered=recovering and (holds_it or held.payload is not None),
        data={"state": held.state, "age": round(held.age, 3), "job": held.job},
    )
