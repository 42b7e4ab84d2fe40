"""A bound on what a client may send, and on its time: Django reads a whole body before it looks at its size.

Invariant: no request makes this process take in more than the limit, with or without an honest Content-Length, nor
hold what it has for longer than `_WITHIN`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from asgi_app.errors import BodyTooLarge, BodyTooSlow, MillpondError

#: A length of more digits is above any limit, and more than `int` reads.
_DIGITS = 20
#: Seconds a body may take.
_WITHIN = 30.0
#: Bytes and seconds for which the rest of a refused body is still taken in, and thrown away.
_DRAIN, _DRAIN_WITHIN = 16 * 1024 * 1024, 2.0


class BoundedBodies:
    """An ASGI application whose requests have a body of at most `limit` bytes; larger ones are answered 413, and those
    that are not there in time 408."""

    def __init__(self, application: Any, limit: int) -> None:
        self._application = application
        self._limit = limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0").lstrip(b"0")
        if announced.isdigit() and (len(announced) > _DIGITS or int(announced) > self._limit):
            await _refuse(send, self._too_large(), receive)
        elif announced or b"transfer-encoding" in headers:
            await self._with_body(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    async def _with_body(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(_WITHIN):
                body = await self._taken_in(receive)
        except TimeoutError:
            await _refuse(send, BodyTooSlow(f"it was not there within {_WITHIN:g} s"))
            return
        except BodyTooLarge as error:
            await _refuse(send, error, receive)
            return
        if body is None:
            return
        first = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Any:
            return next(first, None) or await receive()

        await self._application(scope, replay, send)

    async def _taken_in(self, receive: Any) -> bytes | None:
        """The whole body, None when the client goes.  Raises BodyTooLarge."""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the limit is {self._limit} bytes (MILLPOND_MAX_BODY)")


async def _refuse(send: Any, error: MillpondError, receive: Any = None) -> None:
    """Answer, and take in a while longer what is still being sent.

    A connection that is closed on a client in the middle of its body is reset, and the answer is lost with it.
    """
    body = json.dumps(error.problem()).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": receive is not None})
    if receive is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_WITHIN):
                await _drain(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Any) -> None:
    taken, more = 0, True
    while more and taken < _DRAIN:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
        taken += len(message.get("body", b""))
