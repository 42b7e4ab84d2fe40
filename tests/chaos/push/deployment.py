"""The service under attack: `millpond up` with its processes by role, and figures of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis

from tests.chaos.push.children import Child
from tests.support.service import Service


class Deployment:
    """A running service, and how to get at its parts."""

    def __init__(self, home: Path, *, processes: int = 2, **settings: str) -> None:
        self.service = Service(
            home,
            "--no-demo",
            MILLPOND_APPS="tests.chaos.push.declared",
            MILLPOND_WEB_PROCESSES=str(processes),
            MILLPOND_WORKER_CONCURRENCY="1",
            **settings,
        )
        self.home, self.port = home, self.service.port
        self.several = processes > 1

    def web(self) -> list[psutil.Process]:
        """The web processes, the oldest first."""
        wanted = "--listener" if self.several else "web"
        found = [child for child in self._children() if wanted in child.cmdline()]
        return sorted(found, key=lambda child: child.create_time())

    def store(self) -> psutil.Process:
        """The embedded store.  Raises StopIteration."""
        names = ("valkey-server", "redis-server")
        return next(
            child for child in self._children() if any(name in word for word in child.cmdline() for name in names)
        )

    def _children(self) -> Iterator[psutil.Process]:
        for child in psutil.Process(self.service.pid).children(recursive=True):
            try:
                if child.status() != psutil.STATUS_ZOMBIE and child.cmdline():
                    yield child
            except psutil.NoSuchProcess:
                continue

    def client(self) -> redis.Redis:
        """A connection to the store, to be closed."""
        code = "from asgi_app.env import env; print(env().store_url)"
        if not hasattr(self, "_url"):
            self._url = self.service.command("shell", "-v", "0", "-c", code).split()[-1]
        return redis.Redis.from_url(self._url)

    def publisher(self) -> Child:
        """A process that publishes here."""
        environment = {**self.service.environment, "DJANGO_SETTINGS_MODULE": "asgi_app.settings"}
        return Child("tests.chaos.push.publisher", log=self.home / "publisher.log", environment=environment)

    def fleet(self, seed: str) -> Child:
        """A process of clients."""
        return Child("tests.chaos.push.fleet", str(self.port), seed, log=self.home / "fleet.log")

    def commands(self) -> dict[str, int]:
        """How often the store has done what, so far."""
        with self.client() as client:
            return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in client.info("commandstats").items()}


@contextmanager
def deployed(home: Path, *, processes: int = 2, **settings: str) -> Iterator[Deployment]:
    """A service for as long as the block lasts.  Raises AssertionError when it does not end well."""
    made = Deployment(home, processes=processes, **settings)
    made.service.start()
    try:
        yield made
    except BaseException:
        made.service.stop()
        raise
    code = made.service.stop()
    assert code == 0, f"the service ended with exit code {code}"


def memory(process: psutil.Process) -> tuple[int, int]:
    """RSS and USS, bytes."""
    info = process.memory_full_info()
    return info.rss, info.uss


def cpu(processes: list[psutil.Process]) -> float:
    """CPU seconds they have taken so far."""
    times = [process.cpu_times() for process in processes]
    return sum(taken.user + taken.system for taken in times)


def clock() -> float:
    """The clock that publications carry."""
    return time.monotonic()
