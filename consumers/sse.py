"""The same subscriptions as `text/event-stream`, for plain EventSource.

    GET /api/v1/resources/{name}?params        one resource
    GET /api/v1/events?topic=...&topic=...     any topics

Invariants: what can be refused is refused before the stream begins, as problem+json with its status; every event
carries in its `id:` the positions of all topics of the stream, so that `Last-Event-ID` resumes all of them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from asgi_app.access import Identity
from asgi_app.env import env
from asgi_app.errors import (
    BadParameters,
    MethodNotAllowed,
    MillpondError,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    store_away,
)
from asgi_app.registry import Principal
from asgi_app.topics import Source, open_topic
from cache_layer.errors import StoreUnavailable
from cache_layer.position import Position
from consumers import identifying
from consumers.channel import Channel, News, Subscription
from consumers.effects import HeldLog
from consumers.frames import Code
from consumers.hub import Hub, hub
from consumers.writer import Writer, abort

log = logging.getLogger(__name__)

RESOURCES, EVENTS = "/api/v1/resources/", "/api/v1/events"
#: Seconds to find out who asks for what, and then to join all the topics of a stream, before the answer is 503.
_OPEN_WITHIN = 4.0
_JOIN_WITHIN = 4.0
#: Seconds between comments that keep proxies from closing a silent stream.
_COMMENT = 25.0
#: Milliseconds a client waits before it opens the stream again: spread, so that they do not all come at once.
_RETRY = (2000, 5000)
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Accept"),
]
#: Seconds after which a stream of an API token ends at the latest: the clock of the loop takes no centuries.
_LONGEST = 86_400.0
#: Parameters of the stream itself.
_TOPIC, _LAST_EVENT_ID = "topic", "last_event_id"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve one GET or HEAD of a stream until the client leaves."""
    stream: _Stream | None = None
    try:
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed("a stream is opened with GET")
        texts = _topics(scope)
        async with asyncio.timeout(_OPEN_WITHIN):
            identity = await _identity(scope)
            sources = [(text, await open_topic(text, identity.principal)) for text in texts]
        stream = _Stream(hub(), send, _last_event_id(scope), identity)
        stream.admit()
        if scope["method"] == "GET":
            await stream.join([(_shown_as(scope, text, source), source) for text, source in sources])
        await stream.run(receive, head=scope["method"] == "HEAD")
    except (StoreUnavailable, TimeoutError):
        await _refuse(send, store_away(), scope)
    except MillpondError as error:
        await _refuse(send, error, scope)
    except Exception:
        log.exception("%s %s", scope["method"], scope["path"])
        if stream is None or not stream.started:
            await _refuse(send, MillpondError(), scope)
    finally:
        if stream is not None:
            stream.free()


async def _identity(scope: Any) -> Identity:
    if any(name in (b"authorization", b"cookie") for name, _ in scope["headers"]):
        identity = await identifying.of_request(scope)
    else:
        identity = Identity(principal=Principal.public())
    if identity.principal.is_anonymous and not env().anonymous:
        raise Unauthenticated("this service is not open to the public")
    return identity


class _Stream:
    """One open stream; a holder of subscriptions like a websocket."""

    transport = "events"

    def __init__(self, here: Hub, send: Any, last_event_id: str, identity: Identity) -> None:
        self.identity = identity
        #: The answer has begun: nothing can be refused any more.
        self.started = False
        self._hub = here
        self._send = send
        self._positions = _read_id(last_event_id)
        #: The client comes with an id that nobody here wrote: nothing it holds means anything.
        self._foreign = bool(last_event_id) and not self._positions
        self._subscriptions: dict[Subscription, str] = {}
        self._valued: set[Subscription] = set()
        self._begun = False
        self._over = False
        #: A log cannot go on: the stream ends.
        self._lost = False
        #: Why a stream ended that had not begun.
        self._refusal: Exception | None = None
        self._serving = asyncio.current_task()
        self._comment: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._writer = Writer(self._write, self._render, glue="", stalled=self._give_up, failed=self._give_up)

    def admit(self) -> None:
        """Count the stream.  Raises Unavailable or TooManyRequests when there is no room for it."""
        connections = self._hub.connections
        if not connections.admit(self):
            raise Unavailable("this process takes no more connections", retry_after=2.0)
        if not connections.identify(self, self.identity):
            raise TooManyRequests("this principal has too many connections", retry_after=5.0)

    async def join(self, sources: list[tuple[str, Source]]) -> None:
        """Follow the topics.  Raises what `Hub.join` raises, and Unavailable when the process drains meanwhile."""
        try:
            async with asyncio.timeout(_JOIN_WITHIN):
                for name, source in sources:
                    mark = blake2b(source.key.encode(), digest_size=4).hexdigest()
                    subscription = await self._hub.join(source, self, name, self._positions.get(mark))
                    self._subscriptions[subscription] = mark
        except asyncio.CancelledError:
            if self._refusal is None or not self._left():
                raise
            raise self._refusal from None

    async def run(self, receive: Any, *, head: bool) -> None:
        """Stream until the client leaves, or the process drains."""
        try:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if head:
                await self._send({"type": "http.response.body", "body": b""})
                return
            self._begin()
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            if not self._left():
                raise

    def _left(self) -> bool:
        """Whether it was the stream that cancelled itself, and nobody else."""
        return self._over and self._serving is not None and self._serving.uncancel() == 0

    def free(self) -> None:
        """Let go of everything; may be called twice."""
        for timer in (self._comment, self._end):
            if timer is not None:
                timer.cancel()
        self._writer.stop()
        for subscription in self._subscriptions:
            self._hub.leave(subscription)
        self._hub.connections.release(self)

    def touch(self, subscription: Subscription) -> None:
        """There may be news (`channel.Holder`)."""
        if self._begun:
            self._writer.touch(subscription)

    def expel(self, subscription: Subscription, error: Exception) -> None:
        """The hub ended a subscription (`channel.Holder`): so the stream ends, and the next one is told why."""
        self._finish(error)

    def drain(self) -> None:
        """End the stream; the client opens it again after its `retry`."""
        self._finish(Unavailable("this process is about to leave", retry_after=1.0))

    @property
    def stuck(self) -> float:
        """Seconds a write is under way (`connections.Connection`)."""
        return self._writer.stuck

    def close(self, code: Code) -> None:
        """End the stream (`connections.Connection`): the next one, of a client that comes back, is judged anew."""
        self._finish(Unavailable(code.reason, retry_after=1.0))

    def renew(self, identity: Identity, *, judge: bool) -> None:
        """Other rights (`connections.Connection`): the next stream has them."""
        self._finish(Unavailable("rights have changed", retry_after=1.0))

    def _finish(self, why: Exception) -> None:
        if self._begun:
            self._writer.finish(self._last_words, gone=self._give_up)
        else:
            self._refusal = self._refusal or why
            self._leave()

    def _begin(self) -> None:
        self._begun = True
        if self.identity.expires_at is not None:
            left = max(0.0, self.identity.expires_at - time.time())
            self._end = asyncio.get_running_loop().call_later(min(left, _LONGEST), self.drain)
        self._writer.say(f"retry: {random.randint(*_RETRY)}\n\n")
        for subscription, mark in self._subscriptions.items():
            since = self._positions.get(mark)
            held = subscription.take(since, time.monotonic())
            if isinstance(held, HeldLog):
                self._writer.say(self._of_log(subscription, since, held))
            elif isinstance(subscription.channel, Channel) and subscription.channel.value is not None:
                event = self._of_value(subscription, subscription.channel.value)
                if event is not None:
                    self._writer.say(event)
            self._writer.touch(subscription)
        self._comment_later()

    def _render(self, subscription: Subscription, news: News) -> str | None:
        if self._lost:
            return None
        if news.kind == "lost":
            # The next stream is told what became of the topic; until then nothing comes behind the hole.
            self._lost = True
            asyncio.get_running_loop().call_soon(self._finish, Unavailable("the stream was overrun"))
            return None
        if news.kind == "publication":
            return self._published(subscription, news)
        if news.position is not None:
            return self._of_value(subscription, news)
        if news.kind not in ("progress", "error"):
            return None
        event = _event(news.kind, subscription.name, subscription.channel.position, news.payload)
        return self._with_id(event)

    def _of_log(self, subscription: Subscription, since: Position | None, held: HeldLog) -> str:
        """What the client has missed of a log, or that this cannot be told; then where it stands."""
        missed = held.missed or []
        events = [self._published(subscription, news) for news in missed]
        if held.missed is None and (since is not None or self._foreign):
            events.append(_event("reset", subscription.name, held.position, b"null"))
        # An id without an event is kept by the client all the same.
        return "".join(events) + (self._with_id("\n") if held.recoverable else "")

    def _published(self, subscription: Subscription, news: News) -> str:
        return self._with_id(news.form(_update, subscription.name), subscription, news.position)

    def _of_value(self, subscription: Subscription, news: News) -> str | None:
        """The first value of a topic is its snapshot, after a reset if what the client holds means nothing any more."""
        if subscription in self._valued:
            return self._with_id(news.form(_update, subscription.name))
        self._valued.add(subscription)
        held = self._positions.get(self._subscriptions[subscription])
        if held == news.position:
            return None
        snapshot = self._with_id(news.form(_snapshot, subscription.name))
        if self._foreign or (held is not None and news.position is not None and not news.position.covers(held)):
            return _event("reset", subscription.name, news.position, b"null") + snapshot
        return snapshot

    def _with_id(self, event: str, of: Subscription | None = None, at: Position | None = None) -> str:
        """With the positions of all topics; `at`: that of one of them, which may be further already."""
        held = (
            (mark, at if s is of and at is not None else s.sent or self._positions.get(mark))
            for s, mark in self._subscriptions.items()
        )
        told = ",".join(f"{mark}@{position.epoch}:{position.offset}" for mark, position in held if position is not None)
        return f"id: {told}\n{event}" if told else event

    async def _write(self, text: str) -> None:
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    def _comment_later(self) -> None:
        self._comment = asyncio.get_running_loop().call_later(_COMMENT, self._keep_alive)

    def _keep_alive(self) -> None:
        self._writer.say(":\n\n")
        self._comment_later()

    async def _last_words(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})
        self._leave()

    def _give_up(self) -> None:
        """The client takes nothing any more."""
        if not self._over:
            abort(self._send)
            self._leave()

    def _leave(self) -> None:
        if not self._over and self._serving is not None:
            self._over = True
            self._serving.cancel()


def _topics(scope: Any) -> list[str]:
    """The texts of the topics that a request asks for, each once.  Raises BadParameters, NotFound."""
    path, query = scope["path"], scope["query_string"].decode("utf-8", "surrogateescape")
    if path.rstrip("/") == EVENTS:
        return _asked_topics(query)
    name = path.removeprefix(RESOURCES)
    if not path.startswith(RESOURCES) or not name or "?" in name or "/" in name:
        raise NotFound("there is no stream at this address")
    rest = "&".join(piece for piece in query.split("&") if piece.partition("=")[0] != _LAST_EVENT_ID)
    return [f"{name}?{rest}" if rest else name]


def _asked_topics(query: str) -> list[str]:
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    unknown = sorted({name for name, _ in pairs} - {_TOPIC, _LAST_EVENT_ID})
    if unknown:
        raise BadParameters([{"name": name, "reason": "unknown parameter"} for name in unknown])
    topics = list(dict.fromkeys(value for name, value in pairs if name == _TOPIC))
    if not topics or len(topics) > env().max_subscriptions:
        raise BadParameters([{"name": _TOPIC, "reason": f"give 1 to {env().max_subscriptions} of them"}])
    return topics


def _shown_as(scope: Any, text: str, source: Source) -> str:
    """The topic in the events: as the client spelt it, or the canonical one where it spelt none."""
    return text if scope["path"].rstrip("/") == EVENTS else source.topic


def _last_event_id(scope: Any) -> str:
    """The header, else the parameter: polyfills cannot set headers."""
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            return str(value.decode("latin-1"))
    pairs = parse_qsl(scope["query_string"].decode("latin-1"))
    return next((value for name, value in pairs if name == _LAST_EVENT_ID), "")


def _read_id(text: str) -> dict[str, Position]:
    """Positions by the digest of their topic; parts that are none are left out."""
    parts = (part.partition("@") for part in text[:65_536].split(","))
    found = ((mark, Position.parse(position)) for mark, _, position in parts)
    return {mark: position for mark, position in found if position is not None}


def _snapshot(name: str, news: News) -> str:
    return _event("snapshot", name, news.position, news.payload)


def _update(name: str, news: News) -> str:
    return _event("update", name, news.position, news.payload)


def _event(kind: str, topic: str, position: Position | None, payload: bytes) -> str:
    head = msgspec.json.encode(
        {"topic": topic, "epoch": position and position.epoch, "offset": position and position.offset}
    )
    return f'event: {kind}\ndata: {head[:-1].decode()},"data":{payload.decode()}}}\n\n'


async def _refuse(send: Any, error: MillpondError, scope: Any) -> None:
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), (b"vary", b"Accept")]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    body = msgspec.json.encode(error.problem())
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
