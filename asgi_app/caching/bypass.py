"""What is run past the cache, because the store is away: so many at once and no more.

Invariant: a cache that fails does not pass its readers on to the database all at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from asgi_app.errors import MillpondError, Unavailable
from cache_layer import metrics

#: At once in this process; as many as may be computed for the cache.
_AT_ONCE = 100

_free = threading.BoundedSemaphore(_AT_ONCE)


def is_store_away(error: MillpondError) -> bool:
    """Whether an error says that the store cannot be asked, and not that too much is asked."""
    return error.extra.get("part") == "store"


def bypass() -> AbstractContextManager[None]:
    """The right to run something past the cache, to be entered at once.  Raises Unavailable when too much runs so."""
    if not _free.acquire(blocking=False):
        metrics.events["refused here"] += 1
        raise Unavailable(f"{_AT_ONCE} computations run past the cache in this process", retry_after=2.0)
    return _until_over()


@contextmanager
def _until_over() -> Iterator[None]:
    try:
        yield
    finally:
        _free.release()
