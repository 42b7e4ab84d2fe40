"""A web process's parts, without the web."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from asgi_app.env import env
from asgi_app.wiring import Node
from tests.support.watcher import eventually


@asynccontextmanager
async def node(url: str, namespace: str, *, near: bool = False, **settings: object) -> AsyncIterator[Node]:
    """The parts of a web process, with these settings."""
    made = Node(msgspec.structs.replace(env(), redis_url=url, namespace=namespace, **settings), near=near)
    made.store._deadline = made.store._pipeline._deadline = 5.0  # a busy machine is no store that is away
    await made.start()
    try:
        await eventually(lambda: made.feed.confirmed(made.cache.invalidations_channel), "it hears")
        yield made
    finally:
        await made.stop()
