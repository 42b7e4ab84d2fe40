"""The store's client for threads: what `redis.Store` is for event loops.

Invariant: no call waits for one answer longer than `deadline` seconds, and only `StoreUnavailable` leaves.  It may be
shared by threads, and used in a forked child, which makes its own connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, LifoQueue
from typing import Any, TypeVar

import redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.retry import Retry

from cache_layer.breaker import Breaker
from cache_layer.redis import Arg, scripts

T = TypeVar("T")


class _Free(LifoQueue[Any]):
    """The connections that are not in use.  redis-py would say that there is none as it says that the store is away."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return super().get(block, timeout)
        except Empty:
            raise redis_errors.MaxConnectionsError(f"all {self.maxsize} connections are in use") from None


class BlockingStore:
    """One Redis or Valkey server (>= 6.2), for any number of threads."""

    def __init__(self, url: str, *, deadline: float = 0.8, connections: int = 64) -> None:
        self._breaker = Breaker()
        self._pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=deadline / 2,
            queue_class=_Free,
            socket_timeout=deadline,
            socket_connect_timeout=deadline / 2,
            # A write whose reply was lost may have happened: redis-py's own retries would do it twice.
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._client: Any = redis.Redis(connection_pool=self._pool)
        self._client.response_callbacks.clear()  # replies as the server sends them
        self._scripts = {name: self._client.register_script(text) for name, text in scripts().items()}

    def script(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run `lua/<name>.lua`.  Raises StoreUnavailable."""
        script = self._scripts[name]
        return self._call(lambda: script(keys=keys, args=args))

    def transaction(self, *commands: tuple[Arg, ...]) -> list[Any]:
        """Run commands as one MULTI, in one round trip.  Raises StoreUnavailable."""

        def run() -> list[Any]:
            with self._client.pipeline(transaction=True) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = pipe.execute()
                return replies

        return self._call(run)

    def command(self, *command: Arg) -> Any:
        """Run one command.  Raises StoreUnavailable."""
        return self._call(lambda: self._client.execute_command(*command))

    def close(self) -> None:
        """Close all connections; may be called twice, and used again."""
        self._client.close()
        self._pool.disconnect()

    def _call(self, work: Callable[[], T]) -> T:
        self._breaker.check()
        with self._breaker.judging():
            return work()
