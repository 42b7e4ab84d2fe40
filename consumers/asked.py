"""The calls of one session under way, and the answers that wait to be written.

Pure.  Invariant: a client that does not read what it asked for cannot pile up answers here; one alone always fits.
"""

from __future__ import annotations

from consumers import frames
from consumers.effects import Call, Send
from consumers.frames import Code, Errors
from consumers.limits import CALLS


class Asked:
    """How much is under way."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._calls = 0
        self._bytes = 0

    def admit(self) -> bool:
        """Count one more; False: too many are under way."""
        if self._calls >= CALLS:
            return False
        self._calls += 1
        return True

    def answered(self, call: Call, result: bytes) -> Send:
        """The answer with a result, or too many requests when too much waits to be written."""
        self._calls -= 1
        if self._bytes and self._bytes + len(result) > self._most_bytes:
            return Send(frames.error_reply(call.id, Errors.TOO_MANY_REQUESTS))
        self._bytes += len(result)
        return Send(lambda: self._written(call, result))

    def _written(self, call: Call, result: bytes) -> str:
        self._bytes -= len(result)
        return frames.raw_reply(call.id, call.method, result)

    def failed(self, call: Call, code: Code, message: str | None) -> Send:
        """The refusal of a call."""
        self._calls -= 1
        return Send(frames.error_reply(call.id, code, message))
