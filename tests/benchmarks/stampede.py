"""D. Stampede: 200 first requests of one slow value in the same moment, over two web processes.

How often the function ran is counted by the function itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.benchmarks import client
from tests.benchmarks.servers import millpond, uvicorn
from tests.benchmarks.table import Table
from tests.benchmarks.work import SLOW_SECONDS, noted
from tests.support.store import StoreServer

REQUESTS = 200
PROCESSES = 2


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """One server after the other; `rounds` keys each, none asked for before.  `seconds` means nothing here."""
    with millpond(home / "stampede", processes=PROCESSES) as server:
        client.run(f"{server.url}/api/v1/resources/bench.slow?name=warm", "--connections", "8", "--once")
        ours = _rounds(lambda name: f"{server.url}/api/v1/resources/bench.slow?name={name}", home / "stampede", rounds)
    rival_home = home / "rival"
    rival_home.mkdir()
    store = StoreServer(home / "stampede.sock")
    store.start()
    try:
        environ = {"BENCH_STORE": store.url, "BENCH_HOME": str(rival_home)}
        application = "tests.benchmarks.rivals.django_cache:application"
        with uvicorn(application, processes=PROCESSES, environ=environ) as rival:
            client.run(f"{rival.url}/slow/warm", "--connections", "8", "--once")
            theirs = _rounds(lambda name: f"{rival.url}/slow/{name}", rival_home, rounds)
    finally:
        store.stop()
    return Table(
        title="D. Stampede",
        about=f"{REQUESTS} first requests of one key in the same moment, each on a connection of its own, over "
        f"{PROCESSES} web processes; the computation takes {SLOW_SECONDS:g} s; medians of {rounds} keys.",
        columns=("case", "computations", "first half answered, s", "last answer, s", "last answer / computation"),
        rows=(
            ("Millpond", *ours),
            ("Django view, `await cache.aget()` and `aset()`, RedisCache, default middleware", *theirs),
        ),
    )


def _rounds(url: Callable[[str], str], directory: Path, rounds: int) -> tuple[str, ...]:
    counts, half, last = [], [], []
    for number in range(rounds):
        name = f"stampede-{number}"
        seen = client.run(url(name), "--connections", str(REQUESTS), "--once")
        if seen.statuses != {200: REQUESTS}:
            raise RuntimeError(f"{url(name)} was answered {seen.statuses}")
        counts.append(noted(directory, name))
        half.append(seen.median_ms / 1000)
        last.append(seen.last_ms / 1000)
    spread = str(counts[0]) if len(set(counts)) == 1 else f"{median(counts):g} ({min(counts)}–{max(counts)})"
    return spread, f"{median(half):.2f}", f"{median(last):.2f}", f"{median(last) / SLOW_SECONDS:.2f}"
