"""Which websocket path leads where."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.urls import re_path

from consumers.live import LiveConsumer


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    """No websocket lives here: the handshake is refused (403)."""
    await receive()
    await send({"type": "websocket.close"})


application = URLRouter(
    [
        re_path(r"^connection/websocket/?$", LiveConsumer.as_asgi()),  # type: ignore[arg-type, list-item]
        re_path(r"", _nowhere),  # type: ignore[arg-type, list-item]
    ]
)
