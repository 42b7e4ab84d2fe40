"""Publishing on log topics, and reading what was published: for code on the server, HTTP and clients alike.

Invariant: what is published is one JSON text without line breaks, of bounded size, and reaches all who follow the topic
in the order in which the store took it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from asgi_app import log_source, wiring
from asgi_app.env import env
from asgi_app.errors import BadParameters
from asgi_app.registry import Principal
from asgi_app.topics import Log
from cache_layer.history import LONGEST, LogPage
from cache_layer.position import Position


class NoHistory(Exception):
    """The topic keeps none."""


class Unrecoverable(Exception):
    """The history of the epoch that was asked for is over."""


async def publish(topic: str, data: Any) -> Position | None:
    """Publish what JSON can say on a declared log topic; its position, None where the topic keeps no history.

    Raises BadParameters for what cannot be published, NotFound for a topic that is not declared, StoreUnavailable.
    """
    return await publish_text(topic, encode(data))


async def publish_from(
    topic: str, data: Any, principal: Principal, *, info: bytes, follows: bool = False
) -> Position | None:
    """The same from a client, where it may; `info` says who it is, as JSON.  Raises Denied and Unauthenticated too.

    `follows`: it follows the topic, so that it may has been judged already.
    """
    await log_source.check_publish(topic, log_source.rules_of(topic), principal, follows=follows)
    return await publish_text(topic, encode(data), info)


async def publish_text(topic: str, data: bytes, info: bytes = b"") -> Position | None:
    """The same of what `encode` gave.  Raises NotFound and StoreUnavailable."""
    rules, logs = log_source.rules_of(topic), wiring.node().history
    if not rules.history:
        await logs.tell(topic, data, info=info)
        return None
    return await logs.append(topic, data, info=info, size=rules.history, ttl=rules.ttl)


def encode(data: Any) -> bytes:
    """Raises BadParameters."""
    try:
        text = msgspec.json.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise BadParameters([{"name": "data", "reason": f"it cannot be written as JSON: {error}"}]) from None
    if len(text) > env().max_body:
        raise BadParameters([{"name": "data", "reason": f"at most {env().max_body} bytes of JSON"}])
    return text


async def history(source: Log, *, limit: int, since: Position | None, reverse: bool) -> LogPage:
    """What a log keeps: the oldest `limit` after `since`, or newest first before it; -1 for all, 0 for the position.

    An empty epoch in `since` stands for the present one.  Raises NoHistory, Unrecoverable, BadParameters,
    StoreUnavailable.
    """
    if not source.rules.history:
        raise NoHistory
    if reverse and since is not None and since.offset == 0:
        raise BadParameters([{"name": "since", "reason": "before offset 0 there is nothing"}])
    count = LONGEST if limit < 0 else limit
    if reverse:
        page = await source.read_log(None, count, since.offset if since is not None else None)
        publications = page.publications[::-1]
    else:
        page = await source.read_log(since.offset if since is not None else 0, count)
        publications = page.publications
    if since is not None and since.epoch not in ("", page.epoch):
        raise Unrecoverable
    return LogPage(epoch=page.epoch, top=page.top, publications=publications, life=page.life)
