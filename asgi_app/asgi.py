"""Composition root of the web process: which door a connection takes, and what lives as long as the process.

Invariant: starting needs neither store nor database; what is missing is said by `/readyz`, and heals by itself.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asgi_app.settings")
django.setup(set_prefix=False)

# Django first: the modules below need its app registry.
from django.core.asgi import get_asgi_application  # noqa: E402

from asgi_app import access, logs, wiring  # noqa: E402
from asgi_app.assets import serve_static  # noqa: E402
from asgi_app.bodies import BoundedBodies  # noqa: E402
from asgi_app.env import env  # noqa: E402
from asgi_app.hot import Hot  # noqa: E402
from asgi_app.preferences import prefers_stream  # noqa: E402
from consumers import control, emulation, reporting, routing, sse  # noqa: E402
from consumers.hub import hub  # noqa: E402
from consumers.presence import roll  # noqa: E402
from consumers.relaying import relay  # noqa: E402

log = logging.getLogger(__name__)

logs.keep_tokens_out()
front = Hot()
_pages = BoundedBodies(serve_static(get_asgi_application()), env().max_body)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application of Millpond."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await routing.application(scope, receive, send)
    elif (receive := await front.answer(scope, receive, send)) is None:
        return
    elif _wants_stream(scope) and access.host_allowed(scope):
        await sse.application(scope, receive, send)
    elif emulation.serves(scope["path"]) and access.host_allowed(scope):
        await emulation.application(scope, receive, send)
    else:
        await _pages(scope, receive, send)


async def drain() -> None:
    """This process leaves: `/readyz` says so, and every stream and websocket is told to come back elsewhere."""
    wiring.node().draining = True
    await hub().connections.drain()


def _wants_stream(scope: Any) -> bool:
    path = scope["path"]
    if path == sse.EVENTS:
        return True
    if not path.startswith(sse.RESOURCES) or scope["method"] not in ("GET", "HEAD"):
        return False
    accept = b",".join(value for key, value in scope["headers"] if key == b"accept").decode("latin-1")
    return prefers_stream(accept)


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await wiring.start_node(near=True)
    hub()
    relay()
    orders, reporter = control.start(), reporting.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await reporter.stop()
    await orders.stop()
    await relay().stop()
    await hub().stop()
    await roll().stop()
    await wiring.stop_node()
    await send({"type": "lifespan.shutdown.complete"})
