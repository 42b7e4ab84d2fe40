"""Work that has to be done although the store or the database is away for a while.

Invariant: it is given up after `PERSISTENCE` seconds; then the lease of the worker decides what becomes of the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections

from asgi_app import wiring
from asgi_app.errors import Unavailable
from cache_layer.errors import StoreUnavailable

T = TypeVar("T")

#: Seconds a finished attempt goes on trying to write its result.
PERSISTENCE = 30.0


def insist(work: Callable[[wiring.Node], Coroutine[Any, Any, T]]) -> T:
    """Run store work, again and again while the store is away, or the loop of this process is blocked.

    Raises StoreUnavailable, Unavailable or TimeoutError in the end.
    """
    return _again_and_again(lambda: wiring.call(work, 10.0), (StoreUnavailable, Unavailable, TimeoutError))


def insist_in_database(work: Callable[[], T], waiting: Callable[[], object] = lambda: None) -> T:
    """Run database work on this thread's connection, again and again while the database is away.

    `waiting` is called, once, when it is.  Raises OperationalError or InterfaceError in the end.
    """

    def renewed() -> T:
        close_old_connections()
        return work()

    return _again_and_again(renewed, (OperationalError, InterfaceError), waiting)


def _again_and_again(
    work: Callable[[], T], away: tuple[type[Exception], ...], waiting: Callable[[], object] = lambda: None
) -> T:
    deadline = time.monotonic() + PERSISTENCE
    pause = 0.1
    while True:
        try:
            return work()
        except away:
            if time.monotonic() > deadline:
                raise
            if pause == 0.1:
                waiting()
            time.sleep(pause)
            pause = min(2.0, pause * 2)
