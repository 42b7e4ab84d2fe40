"""From the name of a topic to a subscription of one client: may it, does it exist, who is there, what does it hold?

Invariant: what failed half-way leaves nothing behind, and nothing is delivered before the holder has taken the
subscription over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from asgi_app import tokens
from asgi_app.access import Identity
from asgi_app.errors import MillpondError
from asgi_app.topics import Source, open_topic
from cache_layer.presence import Present
from consumers import effects
from consumers.channel import Holder, Subscription
from consumers.hub import Hub
from consumers.identifying import Known
from consumers.presence import Stay, roll
from consumers.refusals import passes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A subscription, and what belongs to it."""

    subscription: Subscription
    source: Source
    #: What others see of the client on this topic, JSON.
    shown: bytes
    #: Where the topic tells who is there.
    stay: Stay | None
    #: It stands on a token of its own, which expires in so many seconds, None for never.
    by_token: bool
    expires_in: float | None


class _Waiting:
    """Holds a subscription until it is taken over: what comes meanwhile is found then (`channel.Holder`)."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.error: Exception | None = None

    def touch(self, subscription: Subscription) -> None:
        pass

    def expel(self, subscription: Subscription, error: Exception) -> None:
        self.error = error


async def join(hub: Hub, known: Known, client: str, wanted: effects.Subscribe) -> Joined:
    """Follow what a client wants, as one that cannot be told anything yet: see `take_over`.

    Raises TokenExpired, TokenInvalid, TokenMismatch, and what `open_topic` and `Hub.join` raise.
    """
    claims = None
    if wanted.token:
        claims = tokens.verify_subscription(wanted.token, wanted.channel, known.user, client=client)
    trusted = claims is not None or wanted.channel in known.channels
    source = await open_topic(wanted.channel, known.identity.principal, trusted=trusted)
    shown = known.shown(client, claims.info if claims is not None else None)
    stay = await _enter(source, Present(client, known.user, shown))
    try:
        waiting = _Waiting(known.identity)
        subscription = await hub.join(source, waiting, wanted.channel, wanted.since)
    except BaseException:
        if stay is not None:
            stay.leave()
        raise
    expires_in = claims.expires_in(time.time()) if claims is not None else None
    return Joined(
        subscription=subscription,
        source=source,
        shown=shown,
        stay=stay,
        by_token=claims is not None,
        expires_in=expires_in,
    )


async def _enter(source: Source, who: Present) -> Stay | None:
    if source.kind != "log" or not (source.rules.presence or source.rules.join_leave):
        return None
    return await roll().enter(source, who)


def take_over(joined: Joined, holder: Holder) -> None:
    """From now on the holder is told of news.  Raises why the subscription has ended meanwhile."""
    waiting = joined.subscription.holder
    joined.subscription.holder = holder
    if isinstance(waiting, _Waiting) and waiting.error is not None:
        raise waiting.error


def announce(joined: Joined) -> None:
    """Tell the others that the client has come, where the topic does that; the client has had its reply."""
    if joined.stay is not None and joined.source.kind == "log" and joined.source.rules.join_leave:
        joined.stay.announce()


def leave(hub: Hub, joined: Joined) -> None:
    """Stop following; may be called twice."""
    hub.leave(joined.subscription)
    if joined.stay is not None:
        joined.stay.leave()


@dataclass(frozen=True, slots=True)
class Found:
    """What has become of several subscriptions."""

    joined: list[tuple[effects.Subscribe, Joined]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def leave(self, hub: Hub) -> None:
        for _, joined in self.joined:
            leave(hub, joined)


async def join_all(hub: Hub, known: Known, client: str, wanted: Iterable[effects.Subscribe], answer_by: float) -> Found:
    """Follow all of them, each for itself, until a time of the loop at the latest; raises nothing."""
    found = Found()

    async def one(effect: effects.Subscribe) -> None:
        try:
            found.joined.append((effect, await join(hub, known, client, effect)))
        except Exception as error:
            found.errors.append(error)
            if not passes(error) and not isinstance(error, MillpondError):
                log.error("%s cannot be subscribed at connect", effect.channel, exc_info=error)

    try:
        async with asyncio.timeout_at(answer_by), asyncio.TaskGroup() as group:
            for effect in wanted:
                group.create_task(one(effect))
    except TimeoutError as error:
        found.errors.append(error)
    except BaseException:
        found.leave(hub)
        raise
    return found
