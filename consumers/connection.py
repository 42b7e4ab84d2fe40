"""One client, whatever carries its frames: its session, its subscriptions, its writer and what it has under way.

Invariants: the reply to a subscribe is written before anything that is published later, so nothing is awaited between
the two; whatever ends the connection, its subscriptions, tasks and counts are gone when `over` returns.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from asgi_app import access, tokens
from asgi_app.access import Identity
from asgi_app.env import env
from asgi_app.errors import Unauthenticated
from asgi_app.registry import Principal
from asgi_app.topics import open_topic
from cache_layer.position import Position
from consumers import calls, effects, frames, session
from consumers.channel import News, Subscription
from consumers.effects import Effect
from consumers.frames import Closes, Code, Errors
from consumers.hub import Hub
from consumers.judging import FINAL
from consumers.refusals import refusal
from consumers.session import Session
from consumers.writer import Writer

#: Seconds until a command that needs the outside is refused as temporarily unavailable (clients give up after 5).
_ANSWER_WITHIN = 4.0
#: Calls of one connection at work at once: each may hold a value before that counts among its replies.
_CALLS = 4


def _version() -> str:
    try:
        return f"millpond {version('millpond')}"
    except PackageNotFoundError:
        return "millpond"


_VERSION = _version()


class Transport(Protocol):
    """What carries the frames of one client."""

    #: The ASGI scope of the request it came with: headers say who asks, and from where.
    scope: Mapping[str, Any]
    #: What joins frames that are written at once; `send` gets them joined.
    glue: str
    #: Whether the client is to answer pings.
    pong: bool
    #: Further members of the reply to `connect`.
    greeting: Mapping[str, str]

    def send(self, text: str) -> Coroutine[Any, Any, None]:
        """Write.  One at a time; must not ask for the current task before it waits (see `Writer`)."""

    def end(self, code: Code) -> Coroutine[Any, Any, None]:
        """Say why, and end.  After everything that was sent."""

    def abort(self) -> None:
        """Cut: the client takes nothing any more.  Leads to `Connection.over`; must not block or raise."""


class Connection:
    """A holder of subscriptions (`channel.Holder`)."""

    #: There may be news (`channel.Holder`): the writer's own method, one call less for each delivery.
    touch: Callable[[Subscription], None]

    def __init__(self, transport: Transport, hub: Hub) -> None:
        self._transport = transport
        self._hub = hub
        self._tasks: set[asyncio.Task[None]] = set()
        self._calm = asyncio.Event()
        self._calm.set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self.identity = Identity(principal=Principal.public())
        self._calling = asyncio.Semaphore(_CALLS)
        self._subject: str | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._writer = Writer(
            transport.send, self._render, glue=transport.glue, stalled=self._stalled, failed=transport.abort
        )
        self.touch = self._writer.touch
        self._session = Session(
            client=str(uuid.uuid4()),
            version=_VERSION,
            limits=_limits(),
            now=time.monotonic(),
            luck=random.random(),
            pong=transport.pong,
            greeting=transport.greeting,
        )

    # Transport -> connection

    def open(self) -> None:
        """The transport can be written to: take the client in, or say why not."""
        self._arm()
        if self._hub.connections.draining:
            self.close(Closes.SHUTDOWN)
        elif not self._hub.connections.admit(self):
            self.close(Closes.CONNECTION_LIMIT)
        elif not access.origin_allowed(self._transport.scope):
            self.close(Closes.PERMISSION_DENIED)

    def receive(self, text: str) -> None:
        """A frame of the client."""
        self._do(self._session.receive(text, time.monotonic()))

    async def ready(self) -> None:
        """Wait until it is worth reading on: the client takes its replies, and no command waits for another one."""
        await self._calm.wait()
        await self._writer.room()

    def drain(self) -> None:
        """The process is about to leave: the client shall come back, to another one."""
        self.close(Closes.SHUTDOWN)

    def close(self, code: Code) -> None:
        """End the connection with a code and its reason; may be called twice."""
        self._do(self._session.close(code))

    async def over(self) -> None:
        """The transport is gone: let go of everything.  May be called twice."""
        self._session.close(Closes.SERVER_ERROR)
        self._forget_all()
        self._writer.stop()
        self._hub.connections.release(self)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Hub -> connection

    def expel(self, subscription: Subscription, error: Exception) -> None:
        """The hub ended a subscription (`channel.Holder`): for good, or because nobody could tell whether it may go on.

        Who came with an API token that holds no more has lost all of them.
        """
        if self._over(error):
            self.close(Closes.INVALID_TOKEN)
        elif isinstance(error, FINAL):
            self._unsubscribe(subscription, frames.Unsubscribes.SERVER)
        else:
            self._unsubscribe(subscription, frames.Unsubscribes.INSUFFICIENT_STATE)

    def _over(self, error: Exception) -> bool:
        """Whether an error says that the API token of this connection does not hold any more."""
        return bool(self.identity.token) and isinstance(error, Unauthenticated)

    def _unsubscribe(self, subscription: Subscription, code: Code) -> None:
        if self._subscriptions.get(subscription.name) is subscription:
            self._leave(subscription.name)
            self._do(self._session.expelled(subscription.name, code))

    def _render(self, subscription: Subscription, news: News) -> str | None:
        """The frame for news.  A value of another epoch than the client was told is none of its history: the client is
        told so, and subscribes anew by itself (a push of a value cannot carry an epoch that all clients read)."""
        if news.position is not None and news.position.epoch != subscription.epoch:
            lost = frames.Unsubscribes.INSUFFICIENT_STATE
            asyncio.get_running_loop().call_soon(self._unsubscribe, subscription, lost)
            return None
        return news.form(_push, subscription.name)

    # Session -> everything

    def _do(self, wanted: list[Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.Send():
                    self._writer.say(effect.frame)
                case effects.Close():
                    self._end(effect.code)
                case effects.Subscribe():
                    self._start(self._subscribe(effect.channel))
                case effects.Unsubscribe():
                    self._leave(effect.channel)
                case effects.Authenticate():
                    self._start(self._authenticate(effect.token))
                case effects.Call():
                    self._start(self._call(effect))
                case effects.Refresh():
                    self._start(self._refresh(effect))
        self._arm()
        if self._session.crowded:
            self._calm.clear()
        else:
            self._calm.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _arm(self) -> None:
        """Keep the one timer of the connection at the session's next deadline."""
        deadline = self._session.next_deadline
        if deadline == self._armed_for:
            return
        self._disarm()
        self._armed_for = deadline
        if deadline is not None:
            delay = max(0.0, deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _disarm(self) -> None:
        self._armed_for = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._disarm()
        self._do(self._session.tick(time.monotonic()))

    # Commands that need the outside

    async def _authenticate(self, token: str) -> None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                expires_in = await self._identify(token)
        except tokens.TokenExpired:
            self._refuse(Errors.TOKEN_EXPIRED)
        except (tokens.TokenInvalid, Unauthenticated):
            self.close(Closes.INVALID_TOKEN)
        except Exception as error:
            self._refuse(refusal(error)[0])
        else:
            self._admit(expires_in, refreshable=bool(token))

    async def _identify(self, token: str) -> float | None:
        """Find out who this is; the seconds until that ends, None for never."""
        if token:
            claims = tokens.verify_connection(token)
            self._subject = claims.sub
            self.identity = await _identity_of(claims)
            return claims.expires_in(time.time())
        if any(name in (b"authorization", b"cookie") for name, _ in self._transport.scope["headers"]):
            self.identity = await access.with_database(lambda: access.identify(self._transport.scope))
        ends = self.identity.expires_at
        return None if ends is None else ends - time.time()

    def _refuse(self, code: Code) -> None:
        self._do(self._session.refused(code, now=time.monotonic()))

    def _admit(self, expires_in: float | None, *, refreshable: bool) -> None:
        principal = self.identity.principal
        if principal.is_anonymous and not env().anonymous:
            self.close(Closes.PERMISSION_DENIED)
        elif not self._hub.connections.identify(self, principal.user_id):
            self.close(Closes.CONNECTION_LIMIT)
        else:
            now = time.monotonic()
            self._do(self._session.authenticated(now=now, expires_in=expires_in, refreshable=refreshable))

    async def _subscribe(self, channel: str) -> None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await self._hub.judge.confirm(self.identity)
                source = await open_topic(channel, self.identity.principal)
                subscription = await self._hub.join(source, self, channel)
        except Exception as error:
            if self._over(error):
                self.close(Closes.INVALID_TOKEN)
            self._do(self._session.subscribe_failed(channel, *refusal(error)))
            return
        # No await from here to the reply: it is written before anything that is published later.
        held = _held(subscription, subscription.take_value())
        subscription.epoch = held.position.epoch
        self._subscriptions[channel] = subscription
        self._do(self._session.subscribed(channel, held))
        if self._subscriptions.get(channel) is subscription:  # an unsubscribe may have waited for the reply
            self._writer.touch(subscription)

    def _leave(self, channel: str) -> None:
        subscription = self._subscriptions.pop(channel, None)
        if subscription is not None:
            self._writer.forget(subscription)
            self._hub.leave(subscription)

    async def _call(self, call: effects.Call) -> None:
        method = calls.METHODS.get(call.method)
        try:
            if method is None:
                self._do(self._session.call_failed(call.id, Errors.NOT_AVAILABLE))
                return
            async with asyncio.timeout(_ANSWER_WITHIN), self._calling:
                await self._hub.judge.confirm(self.identity)
                answer = await method(calls.topic_of(call.data), self.identity.principal)
        except calls.BadBodyError as error:
            self._do(self._session.call_failed(call.id, Errors.BAD_REQUEST, str(error)))
        except Exception as error:
            if self._over(error):
                self.close(Closes.INVALID_TOKEN)
            self._do(self._session.call_failed(call.id, *refusal(error)))
        else:
            self._do(self._session.answered(call.id, answer))

    async def _refresh(self, wanted: effects.Refresh) -> None:
        try:
            claims = tokens.verify_connection(wanted.token)
        except tokens.TokenExpired:
            self.close(Closes.EXPIRED)
        except tokens.TokenInvalid:
            self.close(Closes.INVALID_TOKEN)
        else:
            if claims.sub != self._subject:
                self.close(Closes.INVALID_TOKEN)
            else:
                await self._go_on(wanted.id, claims)

    async def _go_on(self, command_id: int, claims: tokens.Claims) -> None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                self.identity = await _identity_of(claims)
        except Unauthenticated:
            self.close(Closes.INVALID_TOKEN)
        except Exception as error:
            self._writer.say(frames.error_reply(command_id, refusal(error)[0]))
        else:
            expires_in = claims.expires_in(time.time())
            self._do(self._session.refreshed(command_id, expires_in=expires_in, now=time.monotonic()))

    # The end

    def _stalled(self) -> None:
        self.close(Closes.SLOW)

    def _end(self, code: Code) -> None:
        self._forget_all()
        self._writer.finish(lambda: self._transport.end(code), gone=self._transport.abort)
        self._calm.set()

    def _forget_all(self) -> None:
        for task in tuple(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        for channel in tuple(self._subscriptions):
            self._leave(channel)
        self._disarm()


def _held(subscription: Subscription, value: News | None) -> effects.Held:
    channel = subscription.channel
    payload = value.payload if value is not None else None
    return effects.Held(
        position=channel.position or Position("0", 0),
        payload=payload,
        state=calls.shown(channel.state, payload),
        age=channel.age(time.monotonic()),
        job=channel.job,
    )


def _push(name: str, news: News) -> str:
    if news.position is not None:
        return frames.push_value(name, news.payload, news.position.offset)
    return frames.push_signal(name, news.kind, news.payload)


def _limits() -> session.Limits:
    here = env()
    return session.Limits(
        subscriptions=here.max_subscriptions,
        command_rate=here.command_rate,
        message=here.max_message,
        replies=2 * here.max_value,
    )


async def _identity_of(claims: tokens.Claims) -> Identity:
    """A token may allow less than its user may, never more."""
    if not claims.sub:
        return Identity(principal=Principal.public())
    principal = await access.with_database(lambda: access.principal_of(claims.sub))
    if claims.scopes is not None:
        principal = access.with_scopes(principal, principal.scopes & claims.scopes)
    return Identity(principal=principal)
