"""What a call to the store may end with, and when not to call it at all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis_errors

from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Failures in a row that open the breaker, and seconds until one call probes again.
_FAILURES = 3
_PAUSE = 0.5
#: What says that the store cannot be reached; any other error is an answer of it.
_UNAVAILABLE = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError, asyncio.TimeoutError)


class Breaker:
    """Answers at once while the store is known to be away.  `now` is any monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._closed_again_at = 0.0

    def open(self, now: float) -> bool:
        """Whether to refuse.  After the pause one caller is let through to probe; the others wait another pause."""
        if self._failures < _FAILURES:
            return False
        if now < self._closed_again_at:
            return True
        self._closed_again_at = now + _PAUSE
        return False

    @property
    def suspicious(self) -> bool:
        """Whether the last call has failed."""
        return self._failures > 0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, now: float) -> None:
        self._failures += 1
        self._closed_again_at = now + _PAUSE

    def check(self) -> None:
        """Raises StoreUnavailable when the store is not to be called now."""
        if self._failures and self.open(time.monotonic()):
            raise StoreUnavailable("the store is away")

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Around one call: how it ends is taken note of, and only StoreUnavailable leaves."""
        try:
            yield
        except redis_errors.MaxConnectionsError as error:  # says nothing of the store
            raise StoreUnavailable(str(error)) from error
        except _UNAVAILABLE as error:
            self.failed(time.monotonic())
            raise StoreUnavailable(f"the store did not answer: {type(error).__name__}") from error
        except redis_errors.RedisError as error:
            self.succeeded()
            log.error("the store refused: %s", error)
            raise StoreUnavailable(f"the store refused: {error}") from error
        self.succeeded()
