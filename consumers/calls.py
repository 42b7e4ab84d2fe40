"""The rpc methods of the websocket, each with its meaning over HTTP.

Invariant: none of them waits for a computation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from asgi_app import topics
from asgi_app.errors import from_problem
from asgi_app.registry import Principal
from asgi_app.topics import open_topic


class BadBodyError(Exception):
    """The data of an rpc is not what its method takes."""


def topic_of(data: Any) -> str:
    """The topic that the data of an rpc names.  Raises BadBodyError."""
    if isinstance(data, dict) and set(data) == {"topic"} and isinstance(data["topic"], str):
        return data["topic"]
    raise BadBodyError('the data of this method is {"topic": "..."}')


async def _read(topic: str, principal: Principal) -> bytes:
    snapshot = await (await open_topic(topic, principal)).read()
    if snapshot.state == "failed" and snapshot.payload is None:
        raise from_problem(snapshot.error or {})
    position = snapshot.position
    head = {"state": shown(snapshot.state, snapshot.payload), "age": round(snapshot.age, 3), "job": snapshot.job}
    payload = None if snapshot.payload is None else msgspec.Raw(snapshot.payload)
    return msgspec.json.encode({**head, "epoch": position.epoch, "offset": position.offset, "data": payload})


async def _refresh_topic(topic: str, principal: Principal) -> bytes:
    return msgspec.json.encode({"job": await topics.refresh_topic(topic, principal) or None})


#: Each method with what answers it: (topic, principal) -> JSON text.
METHODS: dict[str, Callable[[str, Principal], Awaitable[bytes]]] = {"read": _read, "refresh": _refresh_topic}


def shown(state: str, payload: bytes | None) -> str:
    """fresh, stale or pending; a failure is told by an error of its own."""
    if payload is None:
        return "pending"
    return "fresh" if state == "fresh" else "stale"
