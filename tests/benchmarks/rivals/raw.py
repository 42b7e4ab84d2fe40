"""The limit: an ASGI application that answers constant bytes and does nothing else."""

from __future__ import annotations

import json

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from tests.benchmarks.work import rows

_BODY = json.dumps(rows(), separators=(",", ":")).encode()
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


async def application(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Every HTTP request gets the same."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": False})
    await send({"type": "http.response.body", "body": _BODY, "more_body": False})
