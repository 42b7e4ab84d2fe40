"""A bound on what a client may send: Django reads a whole body before it looks at its size.

Invariant: no request makes this process take in more than the limit, with or without an honest Content-Length.
"""

from __future__ import annotations

import json
from typing import Any

from asgi_app.errors import BodyTooLarge

#: A length of more digits is above any limit, and more than `int` reads.
_DIGITS = 20


class BoundedBodies:
    """An ASGI application whose requests have a body of at most `limit` bytes; larger ones are answered 413."""

    def __init__(self, application: Any, limit: int) -> None:
        self._application = application
        self._limit = limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0").lstrip(b"0")
        if announced.isdigit() and (len(announced) > _DIGITS or int(announced) > self._limit):
            await _refuse(send, self._limit)
        elif announced or b"transfer-encoding" in headers:
            await self._with_body(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    async def _with_body(self, scope: Any, receive: Any, send: Any) -> None:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                await _refuse(send, self._limit)
                return
        first = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def replay() -> Any:
            return next(first, None) or await receive()

        await self._application(scope, replay, send)


async def _refuse(send: Any, limit: int) -> None:
    error = BodyTooLarge(f"the limit is {limit} bytes (MILLPOND_MAX_BODY)")
    body = json.dumps(error.problem()).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
