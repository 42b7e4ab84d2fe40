"""The time limit of one attempt: an exception in the declared function, and nowhere else.

Celery's own soft limit strikes wherever the process happens to be, also while a finished attempt writes its result.
Invariant: outside of `time_limit` no alarm of ours is raised.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TimeLimitReached(Exception):
    """Raised in a declared function that has run too long."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimitReached in the body after `seconds`.

    By a signal, so only in the main thread of a process (Celery's prefork and solo pools); elsewhere nothing can
    interrupt a function, and its worker gives the attempt up (`heartbeat.py`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    armed = True

    def strike(number: int, frame: FrameType | None) -> None:
        if armed:
            raise TimeLimitReached

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
