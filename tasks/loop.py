"""A worker's event loop, which all coroutines of its process share: does it turn?

A coroutine that blocks (`time.sleep`, a driver that is not asynchronous) holds up all others, and the heartbeat of
their attempts.  Invariant: while somebody waits here for a coroutine, that is said within seconds, with the line that
blocks.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from asgi_app import wiring

log = logging.getLogger(__name__)

#: Seconds a loop may not turn before it counts as blocked.
PATIENCE = 1.0


class Pulse:
    """Of the loop of this process; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Since when the loop owes an answer, monotonic; None: it owes none.
        self._asked: float | None = None
        self._complained = False

    @property
    def blocked(self) -> bool:
        """Whether it has not turned for longer than it may."""
        asked = self._asked
        return asked is not None and time.monotonic() - asked > PATIENCE

    def ask(self) -> None:
        """Ask the loop for a sign, unless it owes one; say so once when it owes it for too long."""
        with self._lock:
            if self._asked is None:
                self._asked = time.monotonic()
                wiring.here(lambda _, loop: loop.call_soon_threadsafe(self._answer))
            elif self.blocked and not self._complained:
                self._complained = True
                log.warning("the event loop of this worker is blocked, by what stands at\n%s", _place())

    def _answer(self) -> None:
        if self._complained and self._asked is not None:
            log.warning("the event loop turns again, after %.1f s", time.monotonic() - self._asked)
        self._asked, self._complained = None, False


pulse = Pulse()


def result_of(future: Future[Any], seconds: float) -> Any:
    """What the coroutine returns or raises, or TimeoutError after `seconds`; meanwhile the loop is watched."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            return future.result(min(PATIENCE, max(0.0, left)))
        except FutureTimeout:
            if future.done() or left <= PATIENCE:
                raise
            pulse.ask()


def _place() -> str:
    """Where the loop's thread stands: its last lines."""
    name = "millpond portal"
    ident = next((thread.ident for thread in threading.enumerate() if thread.name == name), None)
    frame = sys._current_frames().get(ident or 0)
    return "".join(traceback.format_stack(frame, 4)).rstrip() if frame is not None else "an unknown place"
