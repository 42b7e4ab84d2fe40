"""Stock Channels: a consumer in a group, and whichever layer `BENCH_LAYER` and `BENCH_LAYER_CONFIG` name."""

from __future__ import annotations

import json
import os
from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

settings.configure(
    SECRET_KEY="bench",
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={
        "default": {"BACKEND": os.environ["BENCH_LAYER"], "CONFIG": json.loads(os.environ["BENCH_LAYER_CONFIG"])}
    },
)
django.setup()


class Crowd(AsyncWebsocketConsumer):
    """As the tutorial of Channels has it."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("crowd", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("crowd", self.channel_name)

    async def crowd_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps({"message": event["text"]}))


_consumer: Any = Crowd.as_asgi()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Websockets, and an answer to who asks whether it is there."""
    if scope["type"] == "websocket":
        await _consumer(scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
