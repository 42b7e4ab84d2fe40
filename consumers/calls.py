"""The methods of the websocket that need the outside, each with its meaning over HTTP.

Invariant: none of them waits for a computation; whoever may follow a topic may ask for its history and for who is
there, subscribed or not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from asgi_app import access, acting, jobs, notices, publishing, topics
from asgi_app.errors import BadParameters, Denied, from_problem
from asgi_app.registry import Principal, registry
from asgi_app.topics import Log, Source, open_topic
from cache_layer.position import Position
from consumers import commands, frames
from consumers.effects import Call
from consumers.presence import roll
from consumers.refusals import NotAvailable

#: The largest offset that every client can count to.
_LARGEST = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls."""

    principal: Principal
    #: The topics it follows, by the names it uses.
    sources: Callable[[str], Source | None]
    #: What others see of it on a topic, JSON.
    shown: Callable[[str], bytes]
    #: (a topic it follows, None for all; whether nobody looks at it)
    hide: Callable[[str | None, bool], None]


async def answer(call: Call, caller: Caller) -> bytes:
    """The object of the reply, as JSON.  Raises NotAvailable, MillpondError, StoreUnavailable and what else
    `refusals` knows."""
    match call.body:
        case commands.Rpc() as body:
            if body.method == "hidden":
                return b'{"data":%b}' % _hidden(body.data, caller)
            return b'{"data":%b}' % await _rpc(body, caller.principal)
        case commands.Publish() as body:
            return await _publish(body, caller)
        case commands.History() as body:
            return await _history(body, caller)
    if call.method == "presence":
        return await _presence(call.body.channel, caller)
    return await _presence_stats(call.body.channel, caller)


# Of a topic


async def _publish(body: commands.Publish, caller: Caller) -> bytes:
    if registry.log(body.channel) is None:
        await open_topic(body.channel, caller.principal)
        raise Denied(f"{body.channel} is nothing that clients publish")
    follows = caller.sources(body.channel) is not None
    shown = caller.shown(body.channel)
    await publishing.publish_from(body.channel, body.data, caller.principal, info=shown, follows=follows)
    return b"{}"


async def _history(body: commands.History, caller: Caller) -> bytes:
    since = body.since
    if since is not None and not 0 <= (since.offset or 0) <= _LARGEST:
        raise BadParameters([{"name": "since", "reason": f"an offset is a number from 0 to {_LARGEST}"}])
    page = await publishing.history(
        await _log(body.channel, caller),
        limit=body.limit or 0,
        since=None if since is None else Position(since.epoch or "", since.offset or 0),
        reverse=bool(body.reverse),
    )
    found = [frames.publication(one.data, one.offset, info=one.info, tags=one.tags) for one in page.publications]
    head = {"publications": [msgspec.Raw(one) for one in found], "offset": page.top, "epoch": page.epoch}
    return msgspec.json.encode(head)


async def _presence(channel: str, caller: Caller) -> bytes:
    found = await roll().everybody((await _with_presence(channel, caller)).topic)
    return msgspec.json.encode({"presence": {client: msgspec.Raw(info) for client, info in found.items()}})


async def _presence_stats(channel: str, caller: Caller) -> bytes:
    clients, users = await roll().count((await _with_presence(channel, caller)).topic)
    return msgspec.json.encode({"num_clients": clients, "num_users": users})


async def _with_presence(channel: str, caller: Caller) -> Log:
    source = await _log(channel, caller)
    if not source.rules.presence:
        raise NotAvailable
    return source


async def _log(channel: str, caller: Caller) -> Log:
    source = caller.sources(channel) or await open_topic(channel, caller.principal)
    if source.kind != "log":
        raise NotAvailable
    return source


# Rpc


async def _rpc(body: commands.Rpc, principal: Principal) -> bytes:
    method = _METHODS.get(body.method)
    if method is None:
        raise NotAvailable
    return await method(body.data, principal)


def _hidden(data: Any, caller: Caller) -> bytes:
    """Nobody looks, or somebody does again."""
    given = data if isinstance(data, dict) else {}
    topic = given.get("topic")
    if (
        not isinstance(given.get("hidden"), bool)
        or not isinstance(topic, str | None)
        or given.keys() - {"hidden", "topic"}
    ):
        raise BadParameters([{"name": "data", "reason": 'such as {"hidden": true}, and perhaps a "topic"'}])
    caller.hide(topic, given["hidden"])
    return b"{}"


async def _read(data: Any, principal: Principal) -> bytes:
    source = await open_topic(_fields(data, "topic")["topic"], principal)
    if source.kind != "value":
        raise NotAvailable
    snapshot = await source.read()
    if snapshot.state == "failed" and snapshot.payload is None:
        raise from_problem(snapshot.error or {})
    state = "pending" if snapshot.payload is None else "fresh" if snapshot.state == "fresh" else "stale"
    position = snapshot.position
    head = {"state": state, "age": round(snapshot.age, 3), "job": snapshot.job}
    payload = None if snapshot.payload is None else msgspec.Raw(snapshot.payload)
    return msgspec.json.encode({**head, "epoch": position.epoch, "offset": position.offset, "data": payload})


async def _refresh(data: Any, principal: Principal) -> bytes:
    job_id = await topics.refresh_topic(_fields(data, "topic")["topic"], principal)
    return msgspec.json.encode({"job": job_id or None})


async def _run(data: Any, principal: Principal) -> bytes:
    given = _fields(data, "action", params=dict, idempotency_key=str)
    key = given.get("idempotency_key")
    job_id = await acting.run(given["action"], given.get("params", {}), principal, idempotency_key=key)
    return await _job(job_id, principal)


async def _cancel(data: Any, principal: Principal) -> bytes:
    job_id = _fields(data, "job")["job"]
    fields, _ = await access.with_database(lambda: acting.cancel(job_id, principal))
    return msgspec.json.encode(jobs.public(fields))


async def _ack(data: Any, principal: Principal) -> bytes:
    return msgspec.json.encode(await notices.mark_read_by(principal, data))


async def _job(job_id: str, principal: Principal) -> bytes:
    fields = await access.with_database(lambda: acting.visible(job_id, principal))
    return msgspec.json.encode(jobs.public(fields))


#: Each rpc with what answers it: (data, principal) -> JSON.
_METHODS: dict[str, Callable[[Any, Principal], Awaitable[bytes]]] = {
    "read": _read,
    "refresh": _refresh,
    "run": _run,
    "cancel": _cancel,
    "ack": _ack,
}


def _fields(data: Any, name: str, **optional: type) -> dict[str, Any]:
    """The members of an rpc's data: a text of this name, and perhaps the optional ones.  Raises BadParameters."""
    if not isinstance(data, dict):
        raise BadParameters([{"name": "data", "reason": f'an object such as {{"{name}": "..."}}'}])
    allowed = {name: str, **optional}
    given = {key: value for key, value in data.items() if value is not None or key == name}
    bad = [{"name": str(key), "reason": f"unknown; allowed are {', '.join(allowed)}"} for key in data.keys() - allowed]
    for key, kind in allowed.items():
        if (key in given or key == name) and not isinstance(given.get(key), kind):
            bad.append({"name": key, "reason": "must be an object" if kind is dict else "must be a text"})
    if bad:
        raise BadParameters(bad)
    return given
