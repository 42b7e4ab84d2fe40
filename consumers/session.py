"""The protocol of one connection without its socket: frames in, effects out.

No clock, no randomness, no I/O: time (seconds, monotonic), luck and every answer of the outside are arguments.
Invariants: commands take effect in the order they came, also while authentication or a subscription is under way; every
command is answered exactly once or the connection is closed; after a `Close` nothing has an effect any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any, TypeAlias

import msgspec

from cache_layer.position import Position
from consumers import commands, effects, frames, recovery, rendering
from consumers.asked import Asked
from consumers.channel import News
from consumers.clock import GRACE, PING, Clock
from consumers.commands import Command
from consumers.effects import Call, Close, Effect, Held, HeldLog, Send
from consumers.frames import Closes, Code, Errors, Unsubscribes
from consumers.limits import Bucket, Limits
from consumers.subscriptions import Pending, Subscriptions

#: What makes the publications of a reply when it is written.
Replay: TypeAlias = Callable[[Sequence[News]], list[bytes]]


class _State(Enum):
    OPEN = auto()
    CONNECTING = auto()
    REFUSED = auto()
    READY = auto()
    CLOSED = auto()


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
        self.client = client
        self._version = version
        self._limits = limits
        self._pong = pong
        self._greeting = greeting
        self._clock = Clock(now=now, luck=luck, pong=pong)
        self._state = _State.OPEN
        self._connect_id = 0
        self._known: Mapping[str, commands.Known] = {}
        self._refreshable = False
        self._expires_at: float | None = None
        self._commands = Bucket(limits.command_rate, now)
        self._refusals = Bucket(limits.command_rate, now)
        self._queue: deque[Command] = deque()
        self._subscriptions = Subscriptions(limits.subscriptions)
        self._asked = Asked(limits.replies)

    @property
    def closed(self) -> bool:
        return self._state is _State.CLOSED

    @property
    def crowded(self) -> bool:
        """Commands wait for an answer from outside: better read no further frame until they are through."""
        return bool(self._queue) or self._subscriptions.crowded

    # What comes from the client

    def receive(self, text: str, now: float) -> list[Effect]:
        """A text frame."""
        if self.closed:
            return []
        if len(text) > self._limits.message or len(text.encode("utf-8", "replace")) > self._limits.message:
            return self.close(Closes.TOO_BIG)
        try:
            found = commands.decode(text)
        except commands.BadFrame:
            return self.close(Closes.BAD_REQUEST)
        done: list[Effect] = []
        for command in found:
            if not self.closed:
                done += self._take(command, now)
        return done

    def _take(self, command: Command, now: float) -> list[Effect]:
        if not command.method:
            return self._ponged()
        if not self._commands.take(now):
            return self._too_many(command, now)
        if command.connect is not None:
            return self._connect(command.id, command.connect)
        if self._state is _State.OPEN:
            return self.close(Closes.BAD_REQUEST)
        if self._state is _State.CONNECTING:
            self._queue.append(command)
            return []
        return self._perform(command) if self._state is _State.READY else []

    def _ponged(self) -> list[Effect]:
        return [] if self._clock.ponged() else self.close(Closes.BAD_REQUEST)

    def _too_many(self, command: Command, now: float) -> list[Effect]:
        # A client that goes on after a whole burst of refusals is out of control: its backoff has to calm it.
        if not self._refusals.take(now):
            return self.close(Closes.TOO_MANY_REQUESTS)
        return [_error(command.id, Errors.TOO_MANY_REQUESTS)] if command.id else []

    def _connect(self, command_id: int, wanted: commands.Connect) -> list[Effect]:
        if self._state is not _State.OPEN:
            return self.close(Closes.BAD_REQUEST)
        self._state = _State.CONNECTING
        self._clock.connecting()
        self._connect_id = command_id
        self._known = wanted.subs or {}
        return [effects.Authenticate(wanted.token or "")]

    def _perform(self, command: Command) -> list[Effect]:
        if command.send is not None:
            return self.close(Closes.NOT_AVAILABLE)
        if command.rpc is not None:
            return self._call(Call(command.id, "rpc", command.rpc))
        if command.refresh is not None:
            return self._refresh(command.id, command.refresh.token)
        body = getattr(command, command.method)
        if not body.channel:
            return self.close(Closes.BAD_REQUEST)
        if self._subscriptions.wait_for(body.channel, command):
            return []
        if command.subscribe is not None:
            return self._subscribe(command, command.subscribe)
        if command.unsubscribe is not None:
            return self._unsubscribe(command.id, command.unsubscribe.channel)
        if command.sub_refresh is not None:
            return self._sub_refresh(command.id, command.sub_refresh)
        return self._call(Call(command.id, command.method, body))

    def _subscribe(self, command: Command, wanted: commands.Subscribe) -> list[Effect]:
        refusal = self._subscriptions.refusal(wanted)
        if refusal is not None:
            return [_error(command.id, *refusal)]
        self._subscriptions.begin(wanted.channel, command)
        return [effects.Subscribe(wanted.channel, wanted.token or "", wanted.since, wanted.delta or "", wanted.hidden)]

    def _unsubscribe(self, command_id: int, channel: str) -> list[Effect]:
        done = Send(frames.reply(command_id, "unsubscribe"))
        return [effects.Unsubscribe(channel), done] if self._subscriptions.forget(channel) else [done]

    def _sub_refresh(self, command_id: int, wanted: commands.SubRefresh) -> list[Effect]:
        standing = self._subscriptions.standing(wanted.channel)
        if not wanted.token:
            return self.close(Closes.BAD_REQUEST)
        if standing is None:
            return [_error(command_id, Errors.PERMISSION_DENIED)]
        if not standing.refreshable:
            return [_error(command_id, Errors.NOT_AVAILABLE)]
        return [effects.SubRefresh(command_id, wanted.channel, wanted.token)]

    def _call(self, call: Call) -> list[Effect]:
        return [call] if self._asked.admit() else [_error(call.id, Errors.TOO_MANY_REQUESTS)]

    def _refresh(self, command_id: int, token: str) -> list[Effect]:
        if not token:
            return self.close(Closes.BAD_REQUEST)
        if not self._refreshable:
            return [_error(command_id, Errors.NOT_AVAILABLE)]
        return [effects.Refresh(command_id, token)]

    # What the outside answers: connecting

    def authenticated(
        self, *, now: float, expires_in: float | None, refreshable: bool, channels: Sequence[str] = ()
    ) -> list[Effect]:
        """The connection has a principal.  `expires_in` seconds, None for never; `refreshable`: by a new token;
        `channels`: what the server subscribes by itself.

        What cannot be refreshed ends without a word before: clients that are told of it give up for want of a token.
        """
        if self._state is not _State.CONNECTING:
            return []
        if len(channels) > self._limits.subscriptions:
            return self.close(Closes.CHANNEL_LIMIT)
        self._refreshable = refreshable
        self._expires_at = None if expires_in is None else now + expires_in
        self._clock.expire(self._expires_at, grace=GRACE if refreshable else 0.0)
        if not channels:
            return self.welcomed({}, now=now)
        return [effects.Welcome(tuple(effects.Subscribe(name, since=self._since(name)) for name in channels))]

    def _since(self, channel: str) -> Position | None:
        known = self._known.get(channel)
        return known.since if known is not None else None

    def welcomed(self, held: Mapping[str, Held | HeldLog], *, now: float) -> list[Effect]:
        """What the server subscribes by itself stands; its publications may be written after the reply."""
        if self._state is not _State.CONNECTING:
            return []
        self._state = _State.READY
        self._clock.connected(now)
        result: dict[str, Any] = {"client": self.client, "version": self._version, "ping": PING}
        result |= {"pong": True} if self._pong else {}
        result |= self._greeting
        if self._refreshable and self._expires_at is not None:
            result |= frames.lifetime(self._expires_at - now)
        for channel in held:
            self._subscriptions.stand(channel, by_server=True)
        answers = {name: recovery.in_greeting(self._since(name), one) for name, one in held.items()}
        self._known = {}
        done: list[Effect] = [Send(lambda: _greeting(self._connect_id, result, answers))]
        while self._queue and not self.closed:
            done += self._perform(self._queue.popleft())
        return done

    def refused(self, code: Code, *, now: float) -> list[Effect]:
        """The connect is answered with an error: the connection is of no use any more, what followed is dropped."""
        if self._state is not _State.CONNECTING:
            return []
        self._state = _State.REFUSED
        self._clock.refused(now)
        self._queue.clear()
        return [_error(self._connect_id, code)]

    def refreshed(self, command_id: int, *, expires_in: float | None, now: float) -> list[Effect]:
        """The new token of the connection holds."""
        if self.closed:
            return []
        self._clock.expire(None if expires_in is None else now + expires_in, grace=GRACE)
        result = {"client": self.client, "version": self._version, **frames.lifetime(expires_in)}
        return [Send(frames.reply(command_id, "refresh", result))]

    def refresh_failed(self, command_id: int, code: Code, message: str | None = None) -> list[Effect]:
        """A new token, of the connection or of a subscription, is refused."""
        return [] if self.closed else [_error(command_id, code, message)]

    # What the outside answers: subscriptions

    def subscribed(
        self,
        channel: str,
        held: Held | HeldLog,
        *,
        now: float,
        refreshable: bool = False,
        expires_in: float | None = None,
        delta: bool = False,
        replay: Replay = rendering.replayed,
    ) -> list[Effect]:
        """The subscription stands; the reply has to be written before any publication of the channel.

        `refreshable`: it stands on a token, which expires in `expires_in` seconds.  `delta`: that is granted, and
        `replay` makes the publications accordingly.
        """
        pending = self._settle(channel)
        if pending is None or pending.command.subscribe is None:
            return []
        wanted, command_id = pending.command.subscribe, pending.command.id
        answer = recovery.answer(wanted.since, held)
        lost = isinstance(held, HeldLog) and wanted.since is not None and not answer.result.recovered
        if lost and wanted.refuses_unrecovered:
            failed = self.subscribe_failed(channel, Errors.UNRECOVERABLE_POSITION)
            return [effects.Unsubscribe(channel), *failed]
        self._subscriptions.stand(channel, refreshable=refreshable)
        self._subscriptions.expire(channel, None if expires_in is None else now + expires_in)
        result = replace(answer.result, delta=delta, expires_in=expires_in)

        def reply() -> str:
            body = frames.subscribe_result(result, replay(answer.publications))
            return frames.raw_reply(command_id, "subscribe", body)

        return [Send(reply), *self._go_on(pending)]

    def subscribe_failed(self, channel: str, code: Code, message: str | None = None) -> list[Effect]:
        """The subscription is refused."""
        pending = self._settle(channel)
        if pending is None:
            return []
        self._subscriptions.forget(channel)
        return [_error(pending.command.id, code, message), *self._go_on(pending)]

    def _settle(self, channel: str) -> Pending | None:
        return None if self.closed else self._subscriptions.under_way(channel)

    def _go_on(self, pending: Pending) -> list[Effect]:
        done: list[Effect] = []
        while pending.waiting and not self.closed:
            done += self._perform(pending.waiting.popleft())
        return done

    def sub_refreshed(self, command_id: int, channel: str, *, expires_in: float | None, now: float) -> list[Effect]:
        """The new token of a subscription holds."""
        if self.closed:
            return []
        if self._subscriptions.standing(channel) is None:
            return [_error(command_id, Errors.PERMISSION_DENIED)]
        self._subscriptions.expire(channel, None if expires_in is None else now + expires_in)
        return [Send(frames.reply(command_id, "sub_refresh", frames.lifetime(expires_in)))]

    def expelled(self, channel: str, code: Code) -> list[Effect]:
        """The server ended a subscription.

        Clients come back by themselves only to what they have subscribed; for what the server has, they reconnect.
        """
        standing = None if self.closed else self._subscriptions.standing(channel)
        if standing is None:
            return []
        if standing.by_server and code.again:
            return self.close(Closes.INSUFFICIENT_STATE)
        self._subscriptions.forget(channel)
        return [Send(frames.push_unsubscribe(channel, code))]

    # What the outside answers: calls

    def answered(self, call: Call, result: bytes) -> list[Effect]:
        """The result of a call, as JSON text.  Too many requests when the client does not read what it asked for."""
        return [] if self.closed else [self._asked.answered(call, result)]

    def call_failed(self, call: Call, code: Code, message: str | None = None) -> list[Effect]:
        """A call is refused."""
        return [] if self.closed else [self._asked.failed(call, code, message)]

    # The end, and time

    def close(self, code: Code) -> list[Effect]:
        """The server ends the connection."""
        if self.closed:
            return []
        self._state = _State.CLOSED
        self._queue.clear()
        self._subscriptions.clear()
        return [Close(code)]

    @property
    def next_deadline(self) -> float | None:
        """When `tick` should be called at the latest."""
        deadlines = (self._clock.next, self._subscriptions.next_expiry)
        return None if self.closed else min((at for at in deadlines if at is not None), default=None)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: pings, and what did not come in time."""
        over = None if self.closed else self._clock.over(now)
        if self.closed or over is not None:
            return [] if over is None else self.close(over)
        done: list[Effect] = []
        for channel in self._subscriptions.expired(now):
            done += [effects.Unsubscribe(channel), *self.expelled(channel, Unsubscribes.EXPIRED)]
        return [*done, Send(frames.PING)] if self._clock.ping(now) else done


def _greeting(command_id: int, result: dict[str, Any], answers: Mapping[str, recovery.Answer]) -> str:
    if not answers:
        return frames.reply(command_id, "connect", result)
    subs = {
        name: msgspec.Raw(frames.subscribe_result(one.result, rendering.replayed(one.publications)))
        for name, one in answers.items()
    }
    return frames.reply(command_id, "connect", {**result, "subs": subs})


def _error(command_id: int, code: Code, message: str | None = None) -> Send:
    return Send(frames.error_reply(command_id, code, message))
