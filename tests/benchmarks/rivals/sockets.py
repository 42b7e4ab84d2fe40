"""What one would hold open websockets with instead: uvicorn alone, and a stock Channels consumer in a group.

    uvicorn tests.benchmarks.rivals.sockets:bare
    STORE=unix://... uvicorn tests.benchmarks.rivals.sockets:channels

Whoever says `busy` makes either of them send a short text to everybody once a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from django.conf import settings

from tests.benchmarks.rivals import PATIENT

if not settings.configured:
    host = {"address": os.environ.get("STORE", ""), **PATIENT}
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [host]}}
    settings.configure(CHANNEL_LAYERS={"default": layer}, SECRET_KEY="bench", DATABASES={})

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer

_open: set[Any] = set()
_busy: list[asyncio.Task[None]] = []


def _text() -> str:
    return json.dumps({"data": {"n": 1, "t": time.monotonic(), "pad": "x" * 100}})


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """ASGI and nothing else."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http":
        await _page(send)
    else:
        await receive()
        await send({"type": "websocket.accept"})
        _open.add(send)
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                if message.get("text") == "busy":
                    _busy.append(asyncio.create_task(_tell_all()))
        finally:
            _open.discard(send)


async def _tell_all() -> None:
    while True:
        text = _text()
        for send in tuple(_open):
            await send({"type": "websocket.send", "text": text})
        await asyncio.sleep(1.0)


class Consumer(AsyncWebsocketConsumer):
    """One group, as the tutorial has it."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("all", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("all", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "busy":
            _busy.append(asyncio.create_task(_tell_group()))

    async def told(self, event: dict[str, Any]) -> None:
        """A message of the group."""
        await self.send(text_data=event["text"])


async def _tell_group() -> None:
    while True:
        layer = get_channel_layer()
        assert layer is not None
        await layer.group_send("all", {"type": "told", "text": _text()})
        await asyncio.sleep(1.0)


_consumer = Consumer.as_asgi()


async def channels(scope: Any, receive: Any, send: Any) -> None:
    """The stock consumer."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http":
        await _page(send)
    else:
        await _consumer(scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    for task in _busy:
        task.cancel()
    await send({"type": "lifespan.shutdown.complete"})


async def _page(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
