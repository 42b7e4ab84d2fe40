"""How a running function tells how far it is, and learns that it shall stop.

Invariant: within one attempt progress never goes back; at most a few reports a second leave the process.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable

#: Seconds between two reports that are sent on, except the first that says all is done.
INTERVAL = 0.25
NOTE_LENGTH = 200


class JobCancelled(BaseException):
    """Raised by `progress()` when the job was cancelled.  No Exception, so that `except Exception` does not eat it."""


class ProgressReport:
    """The `progress` a declared function is called with.  `send` gets the report as JSON text."""

    def __init__(self, send: Callable[[bytes], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._sent_at = -math.inf
        self._done = 0.0
        self._complete = False
        #: Set from outside when the job is no longer this attempt's.
        self.cancelled = False

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report that `done` of `total` units are done.  Raises JobCancelled, or ValueError for a bad number."""
        if self.cancelled:
            raise JobCancelled
        done = _number("done", done)
        total = None if total is None else _number("total", total)
        self._done = done = max(done, self._done)
        now = self._clock()
        complete = total is not None and done >= total
        if now - self._sent_at < INTERVAL and not (complete and not self._complete):
            return
        self._sent_at, self._complete = now, self._complete or complete
        percent = None if total is None else round(min(100.0, 100.0 * done / total), 1) if total else 100.0
        report = {"done": done, "total": total, "percent": percent, "note": str(note)[:NOTE_LENGTH]}
        self._send(json.dumps(report, separators=(",", ":")).encode())
        if self.cancelled:
            raise JobCancelled


def _number(name: str, value: float) -> float:
    """`value` as a number of Python's own (numpy's are none that JSON knows)."""
    try:
        number = value if isinstance(value, int) else float(value)
        if number >= 0 and math.isfinite(number):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"progress: {name} must be a number of at least 0, got {value!r:.100}")
