"""One client, whatever carries its frames: its session, its subscriptions, its writer and what it has under way.

Invariants: the reply to a subscribe is written before anything that is published later, so nothing is awaited between
taking a subscription over and writing its reply; whatever ends the connection, its subscriptions, tasks and counts are
gone when `over` returns.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from asgi_app import access, tokens
from asgi_app.access import Identity
from asgi_app.env import env
from asgi_app.errors import Unauthenticated
from asgi_app.topics import Source
from cache_layer import metrics
from consumers import calls, effects, identifying, joining, rendering, renewing
from consumers.alarm import Alarm
from consumers.calls import Caller
from consumers.channel import News, Subscription
from consumers.effects import Effect, Held, HeldLog
from consumers.frames import Closes, Code, Unsubscribes
from consumers.hub import Hub
from consumers.identifying import PUBLIC, Known
from consumers.joining import Joined
from consumers.judging import FINAL
from consumers.limits import Limits
from consumers.refusals import passes, refusal
from consumers.session import Session
from consumers.transport import Port, Transport
from consumers.writer import Writer

log = logging.getLogger(__name__)

#: Seconds until a command that needs the outside is refused as temporarily unavailable (clients give up after 5).
_ANSWER_WITHIN = 4.0
#: Rpcs of one connection at work at once: each may hold a value before that counts among its replies.
_RPCS = 4


def _version() -> str:
    try:
        return f"millpond {version('millpond')}"
    except PackageNotFoundError:
        return "millpond"


_VERSION = _version()


class Connection:
    """A holder of subscriptions (`channel.Holder`)."""

    #: There may be news (`channel.Holder`): the writer's own method, one call less for each delivery.
    touch: Callable[[Subscription], None]

    def __init__(self, transport: Transport, hub: Hub) -> None:
        self.scope = transport.scope
        self.transport = transport.kind
        self.known = PUBLIC
        self._transport = transport
        self._hub = hub
        self._tasks: set[asyncio.Task[None]] = set()
        self._calm = asyncio.Event()
        self._calm.set()
        self._alarm = Alarm(self._tick)
        self._rpcs = asyncio.Semaphore(_RPCS)
        self._in_turn = asyncio.Lock()
        self._joined: dict[str, Joined] = {}
        self._welcome_by = 0.0
        #: Nobody looks at anything here at the moment.
        self._hidden = False
        self._port: Port | None = getattr(transport, "port", None)
        self._writer = Writer(
            transport.send,
            self._render,
            glue=transport.glue,
            stalled=self._stalled,
            failed=transport.abort,
            at_once=self._write,
            port=self._port,
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

    @property
    def identity(self) -> Identity:
        """On whose behalf (`channel.Holder`)."""
        return self.known.identity

    # Transport -> connection

    def open(self) -> None:
        """The transport can be written to: take the client in, or say why not."""
        self._alarm.set(self._session.next_deadline)
        if self._hub.connections.draining:
            self.close(Closes.SHUTDOWN)
        elif not self._hub.connections.admit(self):
            self.close(Closes.CONNECTION_LIMIT)
        elif not access.origin_allowed(self.scope):
            self.close(Closes.PERMISSION_DENIED)

    def receive(self, text: str) -> None:
        """A frame of the client."""
        try:
            self._do(self._session.receive(text, time.monotonic()))
        except Exception as error:
            self._failed(error)

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

    @property
    def stuck(self) -> float:
        """Seconds a write is under way (`connections.Connection`)."""
        return self._writer.stuck

    def renew(self, identity: Identity, *, judge: bool) -> None:
        """The credentials were read anew (`connections.Connection`)."""
        self._become(replace(self.known, identity=identity), judge=judge)

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
            self._unsubscribe(subscription, Unsubscribes.SERVER)
        else:
            self._unsubscribe(subscription, Unsubscribes.INSUFFICIENT_STATE)

    def _over(self, error: Exception) -> bool:
        """Whether an error says that the API token of this connection does not hold any more."""
        return bool(self.identity.token) and isinstance(error, Unauthenticated)

    def _unsubscribe(self, subscription: Subscription, code: Code) -> None:
        joined = self._joined.get(subscription.name)
        if joined is not None and joined.subscription is subscription:
            self._leave(subscription.name)
            self._do(self._session.expelled(subscription.name, code))

    def _render(self, subscription: Subscription, news: News) -> str | None:
        """The frame for news.  What is of another epoch than the client was told is none of its history, and a log
        cannot go on where something is lost: the client is told so, and subscribes anew by itself (a push cannot carry
        an epoch that all clients read)."""
        position = news.position
        if news.kind == "lost" if position is None else position.epoch != subscription.epoch:
            metrics.pushes["lost"] += 1
            self._hub.leave(subscription)  # what comes in the same turn of the loop would be told before the end
            asyncio.get_running_loop().call_soon(self._unsubscribe, subscription, Unsubscribes.INSUFFICIENT_STATE)
            return None
        return rendering.frame(subscription, news)

    def _write(self, subscription: Subscription, news: News) -> bool:
        """News that is the same for many, as bytes they share; False: it has to be rendered."""
        position = news.position
        if subscription.delta or position is None or position.epoch != subscription.epoch:
            return False
        return self._transport.write(news.form(rendering.framed, subscription.name))

    # Session -> everything

    def _do(self, wanted: list[Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.Send():
                    self._writer.say(effect.frame)
                case effects.Close():
                    self._end(effect.code)
                case effects.Subscribe():
                    self._start(self._subscribe(effect))
                case effects.Unsubscribe():
                    self._leave(effect.channel)
                case effects.Call():
                    self._start(self._call(effect))
                case effects.Authenticate():
                    self._start(self._connect(effect.token))
                case effects.Welcome():
                    self._start(self._welcome(effect))
                case effects.Refresh():
                    self._start(self._refresh(effect))
                case effects.SubRefresh():
                    self._sub_refresh(effect)
        self._alarm.set(self._session.next_deadline)
        if self._session.crowded:
            self._calm.clear()
        else:
            self._calm.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """A command would never be answered: the client has to begin anew."""
        log.error("a connection failed", exc_info=error)
        self.close(Closes.SERVER_ERROR)

    def _tick(self) -> None:
        self._do(self._session.tick(time.monotonic()))

    # Connecting

    async def _connect(self, token: str) -> None:
        self._welcome_by = asyncio.get_running_loop().time() + _ANSWER_WITHIN
        try:
            async with asyncio.timeout_at(self._welcome_by):
                known = await identifying.identify(self.scope, token)
        except (tokens.TokenInvalid, Unauthenticated):
            self.close(Closes.INVALID_TOKEN)
        except Exception as error:
            self._refuse(refusal(error)[0])
        else:
            self._do(self._admitted(known))

    def _admitted(self, known: Known) -> list[Effect]:
        principal = known.identity.principal
        if principal.is_anonymous and not env().anonymous:
            return self._session.close(Closes.PERMISSION_DENIED)
        if not self._hub.connections.identify(self, known.identity):
            return self._session.close(Closes.CONNECTION_LIMIT)
        self.known = known
        return self._session.authenticated(
            now=time.monotonic(),
            expires_in=known.expires_in,
            refreshable=known.refreshable,
            channels=known.server_side(),
        )

    async def _welcome(self, wanted: effects.Welcome) -> None:
        """Subscribe what the server does by itself.  What is refused is left out; what is not there for a moment makes
        the client come back: left out, it would forget the position it holds."""
        client, known = self._session.client, self.known
        found = await joining.join_all(self._hub, known, client, wanted.subscribes, self._welcome_by)
        away = next((error for error in found.errors if passes(error)), None)
        if away is not None or any(self._over(error) for error in found.errors):
            found.leave(self._hub)
            if away is None:
                self.close(Closes.INVALID_TOKEN)
            else:
                self._refuse(refusal(away)[0])
            return
        # No await from here to the reply.
        held: dict[str, Held | HeldLog] = {}
        for effect, joined in found.joined:
            with suppress(Exception):  # what has ended meanwhile is left out
                held[effect.channel] = what = self._take(effect, joined)
                if effect.since is None and isinstance(what, Held):
                    joined.subscription.sent = None  # clients read no value there: it follows
        self._do(self._session.welcomed(held, now=time.monotonic()))
        for effect, joined in found.joined:
            self._begin(effect.channel, joined)
        self._become(self.known, judge=known is not self.known)

    def _refuse(self, code: Code) -> None:
        self._do(self._session.refused(code, now=time.monotonic()))
        self._transport.refused()

    async def _refresh(self, wanted: effects.Refresh) -> None:
        try:
            claims = tokens.verify_connection(wanted.token)
            if claims.sub != self.known.user:
                raise tokens.TokenInvalid("the token is of another user")
            async with asyncio.timeout(_ANSWER_WITHIN):
                known = await identifying.by_token(claims)
        except tokens.TokenExpired:
            self.close(Closes.EXPIRED)
        except (tokens.TokenInvalid, Unauthenticated):
            self.close(Closes.INVALID_TOKEN)
        except Exception as error:
            self._do(self._session.refresh_failed(wanted.id, refusal(error)[0]))
        else:
            self._hub.connections.renewed(self, known.identity)
            self._become(known)
            self._do(self._session.refreshed(wanted.id, expires_in=known.expires_in, now=time.monotonic()))

    def _become(self, known: Known, *, judge: bool = False) -> None:
        """The same client with other rights, or perhaps with others: `judge`."""
        judge |= known.identity != self.identity
        self.known = known
        if judge and not self._session.closed:
            self._start(self._judge_all())

    async def _judge_all(self) -> None:
        for channel, joined in tuple(self._joined.items()):
            known = self.known
            found = await renewing.renewed(channel, joined, known)
            if known is not self.known or self._joined.get(channel) is not joined:
                continue  # whoever changed that sees to it
            if isinstance(found, Code):
                self._unsubscribe(joined.subscription, found)
            else:
                self._joined[channel] = found
                joined.subscription.source = found.source

    # Subscriptions

    async def _subscribe(self, wanted: effects.Subscribe) -> None:
        channel, known = wanted.channel, self.known
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await self._hub.judge.confirm(self.identity)
                joined = await joining.join(self._hub, known, self._session.client, wanted)
        except Exception as error:
            if self._over(error) or isinstance(error, tokens.TokenMismatch):
                self.close(Closes.INVALID_TOKEN)
            self._do(self._session.subscribe_failed(channel, *refusal(error)))
            return
        # No await from here to the reply: it is written before anything that is published later.
        try:
            held = self._take(wanted, joined)
        except Exception as error:
            self._do(self._session.subscribe_failed(channel, *refusal(error)))
            return
        how: dict[str, Any] = {"refreshable": joined.by_token, "expires_in": joined.expires_in}
        if wanted.delta == "fossil":
            how |= {"delta": True, "replay": partial(rendering.replayed_in_whole, joined.subscription)}
        self._do(self._session.subscribed(channel, held, now=time.monotonic(), **how))
        self._begin(channel, joined, hidden=wanted.hidden)
        self._become(self.known, judge=known is not self.known)

    def _take(self, wanted: effects.Subscribe, joined: Joined) -> Held | HeldLog:
        """What the reply has to tell of a subscription, which is this connection's from now on.

        Raises why it has ended meanwhile.
        """
        try:
            joining.take_over(joined, self)
        except Exception:
            joining.leave(self._hub, joined)
            raise
        self._joined[wanted.channel] = joined
        return joined.subscription.take(wanted.since, time.monotonic())

    def _begin(self, channel: str, joined: Joined, *, hidden: bool = False) -> None:
        """The reply is written: tell what has come since, and others that the client is there."""
        if self._joined.get(channel) is joined:  # an unsubscribe may have waited for the reply
            self._hub.hide(joined.subscription, self._hidden or hidden)
            joining.announce(joined)
            self._writer.touch(joined.subscription)
            self._hub.shorten(joined.subscription, self._port)

    def _leave(self, channel: str) -> None:
        joined = self._joined.pop(channel, None)
        if joined is not None:
            self._writer.forget(joined.subscription)
            joining.leave(self._hub, joined)

    def _sub_refresh(self, wanted: effects.SubRefresh) -> None:
        try:
            claims = tokens.verify_subscription(
                wanted.token, wanted.channel, self.known.user, client=self._session.client
            )
        except tokens.TokenMismatch:
            self.close(Closes.INVALID_TOKEN)
        except tokens.TokenError as error:
            self._do(self._session.refresh_failed(wanted.id, *refusal(error)))
        else:
            expires_in, now = claims.expires_in(time.time()), time.monotonic()
            self._do(self._session.sub_refreshed(wanted.id, wanted.channel, expires_in=expires_in, now=now))

    # Calls

    async def _call(self, call: effects.Call) -> None:
        try:
            # What one does with topics takes effect in its order; rpcs read, and may take their time.
            async with asyncio.timeout(_ANSWER_WITHIN), self._rpcs if call.method == "rpc" else self._in_turn:
                await self._hub.judge.confirm(self.identity)
                caller = Caller(
                    principal=self.identity.principal, sources=self._source, shown=self._shown, hide=self._hide
                )
                answer = await calls.answer(call, caller)
        except Exception as error:
            if self._over(error):
                self.close(Closes.INVALID_TOKEN)
            self._do(self._session.call_failed(call, *refusal(error)))
        else:
            self._do(self._session.answered(call, answer))

    def _hide(self, channel: str | None, hidden: bool) -> None:
        """Nobody looks at a topic, or at any, until that is taken back."""
        if channel is None:
            self._hidden = hidden
        for name, joined in self._joined.items():
            if channel in (None, name):
                self._hub.hide(joined.subscription, hidden)

    def _source(self, channel: str) -> Source | None:
        joined = self._joined.get(channel)
        return joined.source if joined is not None else None

    def _shown(self, channel: str) -> bytes:
        joined = self._joined.get(channel)
        return joined.shown if joined is not None else self.known.shown(self._session.client)

    # The end

    def _stalled(self) -> None:
        self.close(Closes.SLOW)

    def _end(self, code: Code) -> None:
        metrics.closes[code.number] += 1
        self._forget_all()
        self._writer.finish(lambda: self._transport.end(code), gone=self._transport.abort)
        self._calm.set()

    def _forget_all(self) -> None:
        for task in tuple(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        for channel in tuple(self._joined):
            self._leave(channel)
        self._alarm.set(None)


def _limits() -> Limits:
    here = env()
    return Limits(
        subscriptions=here.max_subscriptions,
        command_rate=here.command_rate,
        message=here.max_message,
        replies=2 * here.max_value,
    )
