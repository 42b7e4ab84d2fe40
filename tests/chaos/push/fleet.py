"""A process full of clients: `python -m tests.chaos.push.fleet PORT SEED`.  See `children` for how it is spoken to."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.push import books
from tests.chaos.push.books import Kind, quantile
from tests.chaos.push.children import serve
from tests.chaos.push.clients import Crowd, Seen, at_top, until

_WRONG_SHOWN = 12


class Fleet:
    """What can be asked of it."""

    def __init__(self, port: int, seed: str) -> None:
        self._crowd = Crowd(port, random.Random(seed))

    def able(self) -> Mapping[str, Callable[..., Awaitable[Any]]]:
        return {
            name: getattr(self, name) for name in ("add", "whole", "drop", "arrive", "seen", "audit", "record", "leave")
        }

    async def add(self, count: int, topics: dict[str, Kind], within: float, token: str = "") -> int:
        """More clients; how many of all are subscribed to everything after that time at the most."""
        self._crowd.add(count, topics, token)
        return await self.whole(within)

    async def whole(self, within: float) -> int:
        """Wait until all are subscribed to everything; how many are."""
        crowd = self._crowd
        await until(lambda: len(crowd.caught_up()) == len(crowd.clients), within)
        return len(crowd.caught_up())

    async def drop(self) -> float:
        """All at once lose their connections; when."""
        for client in self._crowd.clients:
            client.drop()
        return time.monotonic()

    async def arrive(self, topic: str, top: tuple[str, int], within: float) -> dict[str, Any]:
        """Wait until all stand there: how many do, how many there are, and when that was so."""
        records, (epoch, offset) = list(self._crowd.records(topic).values()), top
        await until(lambda: at_top(records, (epoch, offset)) == len(records), within)
        return {"there": at_top(records, (epoch, offset)), "of": len(records), "at": time.monotonic()}

    async def seen(self) -> dict[str, Any]:
        """What they have met since the last time."""
        seen, self._crowd.seen = self._crowd.seen, Seen()
        late, back = seen.latencies, seen.recoveries
        return {
            "closes": {str(code): count for code, count in seen.closes.items()},
            "events": dict(seen.events),
            "heard": len(late),
            "latency": {"median": median(late or [0.0]), "p99": quantile(late, 0.99), "max": max(late, default=0.0)},
            "recovered": len(back),
            "recovery": {"median": median(back or [0.0]), "p99": quantile(back, 0.99), "max": max(back, default=0.0)},
            "back_at": max(seen.back_at, default=0.0),
            "cpu": time.process_time(),
        }

    async def audit(self, topic: str, ledger: str, losses: bool) -> dict[str, Any]:
        """The books of a topic."""
        records = self._crowd.records(topic)
        wrong = books.audit(records, read_ledger(Path(ledger)), losses=losses)
        return {
            "wrong": wrong[:_WRONG_SHOWN],
            "wrongs": len(wrong),
            "clients": len(records),
            "told": sum(len(one.offsets) for record in records.values() for one in record.stretches),
            "gaps": sum(record.gaps for record in records.values()),
            "duplicates": sum(record.duplicates for record in records.values()),
            "losses": sum(record.losses for record in records.values()),
        }

    async def record(self, topic: str) -> list[Any]:
        """Where the clients stand on a topic, and how many at each place."""
        counted = Counter(record.position for record in self._crowd.records(topic).values())
        return [[list(position or ()), count] for position, count in counted.items()]

    async def leave(self) -> bool:
        """All close their connections for good."""
        await self._crowd.stop()
        return True


def read_ledger(path: Path) -> dict[tuple[str, int], int]:
    """What a publisher has written down: number, epoch and offset a line."""
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        number, epoch, offset = line.split()
        found[epoch, int(offset)] = int(number)
    return found


def raise_limit(files: int = 20_000) -> None:
    """As many sockets as the machine lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = files if hard == resource.RLIM_INFINITY else min(files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _make() -> Mapping[str, Callable[..., Awaitable[Any]]]:
    return Fleet(int(sys.argv[1]), sys.argv[2]).able()


if __name__ == "__main__":
    raise_limit()
    serve(_make)
