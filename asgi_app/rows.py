"""Database work of coroutines that is not part of a request: on a few threads of its own, within a deadline.

asgiref would run it on the one thread that all of Channels shares, where a database that hangs holds up everybody.
Invariant: no caller waits longer than `WITHIN`, and what hangs in the database occupies no other thread than these.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError, close_old_connections, connections

from asgi_app.errors import Unavailable

T = TypeVar("T")

#: Threads, each with a connection of its own; and how much may wait for them.
THREADS, WAITING = 4, 1000
#: Seconds a caller waits.
WITHIN = 5.0

_pool: ThreadPoolExecutor | None = None
_owner = 0
_lock = threading.Lock()
_waiting = 0


async def in_database(work: Callable[..., T], *args: Any, within: float = WITHIN, **named: Any) -> T:
    """`work(*args, **named)` on a thread with a database connection.

    Cancelled or too late, it goes on behind.  Raises Unavailable when the database is away, or does not answer in time.
    """
    if _waiting >= WAITING:
        raise away()
    _count(1)
    # As `shield(run_in_executor(...))` within a `timeout`, for half of the event loop's time.
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    too_late = loop.call_later(within, _give_up, answer)
    doing = _threads().submit(_run, partial(work, *args, **named) if args or named else work)
    doing.add_done_callback(partial(_over, loop, answer))
    try:
        return await answer
    except (TimeoutError, OperationalError, InterfaceError) as error:
        raise away() from error
    finally:
        too_late.cancel()


def away() -> Unavailable:
    """The database cannot be asked; worth trying again in two seconds."""
    return Unavailable("the database does not answer", retry_after=2.0, extra={"part": "database"})


def close() -> None:
    """End the threads and their connections; they are made anew when they are needed."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None and _owner == os.getpid():
        for _ in range(THREADS):
            pool.submit(connections.close_all)
        pool.shutdown(wait=False)


def _count(by: int) -> None:
    global _waiting
    with _lock:
        _waiting += by


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _over(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], doing: Future[T]) -> None:
    """In the thread that did it, or where it was given up."""
    _count(-1)
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(_tell, answer, doing)


def _tell(answer: asyncio.Future[T], doing: Future[T]) -> None:
    if answer.done():  # who waited has gone
        return
    if doing.cancelled():
        answer.cancel()
    elif (error := doing.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(doing.result())


def _threads() -> ThreadPoolExecutor:
    global _pool, _owner
    with _lock:
        if _pool is None or _owner != os.getpid():
            _pool, _owner = ThreadPoolExecutor(THREADS, "rows"), os.getpid()
        return _pool


def _run(work: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return work()
    except DatabaseFailure:
        close_old_connections()
        raise
