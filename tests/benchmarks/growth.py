"""E. Growth: what one hit, one publication, one delivery and one job cost while there is more and more of them.

Each curve is measured by a process of its own (growing.py) with a private store; the picture is `growth.svg`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.benchmarks import curves
from tests.benchmarks.table import Table
from tests.support.service import ROOT
from tests.support.store import StoreServer

PICTURE = Path(__file__).with_name("growth.svg")
#: What the store may hold: a million values take half of it.
_MEMORY = "1gb"
#: Seconds one curve may take.
_PATIENCE = 120.0
#: Rounds of a point for each that is asked for, and as much shorter: what disturbs one does not disturb most.
_ROUNDS = 3
_SETTINGS = {
    "MILLPOND_APPS": "tests.benchmarks.declared",
    "MILLPOND_NEAR": "256mb",
    "MILLPOND_COMMAND_RATE": "10000",
    "MILLPOND_MAX_CONNECTIONS": "20000",
    "MILLPOND_MAX_CONNECTIONS_PER_PRINCIPAL": "20000",
    "MILLPOND_QUEUE_LIMIT": "1000000",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """What is measured while it grows."""

    what: str
    #: As growing.py calls it.
    name: str
    unit: str
    of: str
    sizes: tuple[int, ...]


GROWN = (
    Grown(what="hit, this process's copy", name="l1", unit="hit", of="keys", sizes=(100, 1000, 10_000, 100_000)),
    Grown(what="hit, the store's", name="l2", unit="hit", of="keys", sizes=(100, 1000, 10_000, 100_000, 1_000_000)),
    Grown(what="publication", name="topics", unit="publication", of="topics", sizes=(1, 10, 100, 1000, 10_000)),
    Grown(what="delivery", name="followers", unit="delivery", of="followers", sizes=(1, 10, 100, 1000, 10_000)),
    Grown(what="job", name="jobs", unit="job", of="waiting jobs", sizes=(10, 100, 1000, 10_000, 100_000)),
)


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """One curve after the other; `seconds` scales how much is done for one point (2: about half a second)."""
    rows: list[tuple[str, ...]] = []
    drawn: dict[str, list[tuple[int, float]]] = {}
    for grown in GROWN:
        points = list(_points(grown, seconds, rounds))
        drawn[grown.what] = [(int(point["size"]), point["own"] + point["store"]) for point in points]
        least = drawn[grown.what][0][1]
        rows += [
            (
                grown.what,
                f"{point['size']:,} {grown.of}",
                f"{point['own']:.1f}",
                f"{point['store']:.1f}",
                f"{(point['own'] + point['store']) / least:.2f}",
            )
            for point in points
        ]
    picture = curves.svg(
        "What one costs while there are more",
        "how many there are: keys, topics, followers, waiting jobs",
        "CPU µs for one, of the process and the store",
        drawn,
    )
    PICTURE.write_text(picture)
    return Table(
        title="E. Growth",
        about="CPU time for one hit, publication, delivery or job while there is more and more of them, without "
        f"sockets; 16 at once; medians of {_ROUNDS * rounds} rounds.  A hit is a request whose bytes are given to the "
        "server's protocol, for keys that are drawn uniformly at random, with values of 200 bytes.  A publication is "
        "heard by one client; a delivery is one client's share of a publication that all of them hear.  A job is "
        "submitted by one of 1,000 users, taken, claimed and finished.  How so many come to be there: keys are written "
        "as a commit leaves them, a thousand in one write; copies are kept of what was asked for; clients subscribe, "
        "and jobs are submitted, as ever.\n\nHits have two steps, each as high as what is no longer remembered.  An "
        "answer says its age in seconds: where a key is asked for less often than that, it is joined anew for each hit."
        "  The front remembers some 20,000 to 40,000 questions: where there are many more, parameters, key and headers "
        "are made anew for each hit.  What else grows from 10,000 or 100,000 on is memory that is touched seldom, as "
        "far as can be told without counters of the hardware: publications on 100 of 10,000 topics cost as much as "
        "with 100 topics."
        "\n\n![Costs over sizes](growth.svg)",
        columns=("unit", "while there are", "CPU µs, process", "CPU µs, store", "of both, to the first"),
        rows=tuple(rows),
    )


def _points(grown: Grown, seconds: float, rounds: int) -> Iterator[dict[str, float]]:
    with _store() as (store, home):
        environ = {
            **os.environ,
            **_SETTINGS,
            "MILLPOND_REDIS_URL": store.url,
            "MILLPOND_HOME": str(home),
            "BENCH_STORE_PID": str(store.pid),
        }
        flags = ["--rounds", str(_ROUNDS * rounds), "--scale", str(seconds / 2 / _ROUNDS)]
        command = [sys.executable, "-m", "tests.benchmarks.growing", grown.name, *map(str, grown.sizes), *flags]
        done = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=True, timeout=_PATIENCE)
        for line in done.stdout.splitlines():
            yield json.loads(line)


@contextmanager
def _store() -> Iterator[tuple[StoreServer, Path]]:
    with tempfile.TemporaryDirectory(prefix="mpb-") as made:  # short enough for a socket
        store = StoreServer(Path(made) / "s")
        store.start()
        try:
            client = redis.Redis.from_url(store.url)
            client.config_set("maxmemory", _MEMORY)
            client.close()
            yield store, Path(made)
        finally:
            store.stop()
