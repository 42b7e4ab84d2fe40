"""What the store knows: which workers attend, and what is left when every job is over: nothing that would stay.

Invariant: it only looks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import redis

from asgi_app.env import load_env
from cache_layer.keys import Names

#: Parts of the queues that are no work: living workers, counts, how fast queues are, virtual times, usual times.
_NO_WORK = ("lives", "known", "round", "counts", "s:", "t:", "d:")


class Leftovers:
    """Of one service."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        settings = load_env(environment)
        self._names = Names(settings.namespace)
        self._store = redis.Redis.from_url(settings.store_url, decode_responses=True)

    def close(self) -> None:
        self._store.close()

    def attending(self) -> set[int]:
        """Process ids of workers that have shown a sign of life lately."""
        return {int(str(name).rpartition(":")[2]) for name in self._store.zrange(self._names.role("worker"), 0, -1)}

    def wait(self, within: float, workers: int) -> list[str]:
        """What is still there after `within` seconds; empty as soon as nothing is."""
        deadline = time.monotonic() + within
        while (found := list(self.look(workers))) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def look(self, workers: int) -> Iterator[str]:
        """What is there now; `workers`: how many live."""
        prefix = self._names.queues()
        for key in self._store.scan_iter(f"{prefix}*"):
            if not key.removeprefix(prefix).startswith(_NO_WORK):
                yield f"{key} ({self._store.type(key)!r})"
        for key in self._store.scan_iter(f"{self._names.broker_prefix()}*"):
            if "_kombu.binding" not in key and not key.endswith("unacked_mutex"):
                yield f"{key} ({self._store.type(key)!r})"
        if live := self._store.zcard(self._names.live()):
            yield f"{live} live computations"
        for key in self._store.scan_iter(self._names.single("*", "*")[2]):
            yield f"{key}, a lease"
        if (lives := self._store.zcard(self._names.lives())) != workers:
            yield f"{lives} living workers, and there are {workers}"
