"""A request without a body that is held for its reading, before Django, for as long as its client stays.

Django ends a request whose client has left, which it hears by `receive`; so does this.  What was received meanwhile is
an empty body, which is given on to Django, with what was read, where the reading has no value to show.
"""

from __future__ import annotations

import asyncio
from typing import Any

from asgi_app.reading import Reading
from asgi_app.registry import Principal

#: In the scope of a request: who asked, and the reading or its refusal, for the view.
_READ = "millpond.read"


class Held:
    """Its `reads` waits for the reading; called, it is the `receive` of whoever comes next."""

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._taken = False

    async def __call__(self) -> Any:
        if self._taken:
            self._taken = False
            return {"type": "http.request", "body": b"", "more_body": False}
        return await self._receive()

    async def reads(self, reading: asyncio.Task[Reading]) -> bool:
        """Wait for the reading; False: its client has left, and it was ended."""
        leaving = asyncio.get_running_loop().create_task(self._left())
        try:
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            return reading.done()
        finally:
            leaving.cancel()
            reading.cancel()

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            self._taken = True


def hand_on(scope: Any, principal: Principal, reading: asyncio.Task[Reading]) -> None:
    """Leave what was read, or why not, to the view."""
    scope[_READ] = principal, reading


def handed_on(scope: Any, principal: Principal) -> asyncio.Task[Reading] | None:
    """What was read for this request already; None for another principal than the one it was read for."""
    reader, reading = scope.get(_READ, (None, None))
    return reading if reader == principal else None
