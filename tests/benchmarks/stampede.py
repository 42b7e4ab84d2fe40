"""D. Stampede: 200 first requests of one slow value in the same moment, over four web processes.

How often the function ran is counted by the function itself.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests.benchmarks import client
from tests.benchmarks.servers import millpond, uvicorn
from tests.benchmarks.table import Table
from tests.benchmarks.work import SLOW_SECONDS, noted
from tests.support.store import StoreServer

REQUESTS = 200
PROCESSES = 4
_WAIT = ("--header", "Prefer: wait=30")
_RIVALS = {
    "Django view, `await cache.aget()` and `aset()`, RedisCache, default middleware": "django_cache",
    "FastAPI + cashews, `lock=True`": "fastapi_cashews",
}


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """One server after the other; `rounds` keys each, none asked for before.  `seconds` means nothing here."""
    with millpond(home / "stampede", processes=PROCESSES) as server:
        rows = [("Millpond", *_rounds(f"{server.url}/api/v1/resources/bench.slow?name=", home / "stampede", rounds))]
    for number, (name, module) in enumerate(_RIVALS.items()):
        rival_home = home / module
        rival_home.mkdir()
        store = StoreServer(home / f"{number}.sock")
        store.start()
        try:
            environ = {"BENCH_STORE": store.url, "BENCH_HOME": str(rival_home)}
            application = f"tests.benchmarks.rivals.{module}:application"
            with uvicorn(application, processes=PROCESSES, environ=environ) as rival:
                rows.append((name, *_rounds(f"{rival.url}/slow/", rival_home, rounds)))
        finally:
            store.stop()
    return Table(
        title="D. Stampede",
        about=f"{REQUESTS} first requests of one key in the same moment, each on a connection of its own, over "
        f"{PROCESSES} web processes; the computation takes {SLOW_SECONDS:g} s; medians of {rounds} keys.",
        columns=("case", "computations", "first half answered, s", "last answer, s", "last answer / computation"),
        rows=tuple(rows),
    )


def _rounds(url: str, directory: Path, rounds: int) -> tuple[str, ...]:
    for number in range(2):  # all processes, and their connections to the store, are there
        client.run(f"{url}warm-{number}", "--connections", str(REQUESTS), "--once", *_WAIT)
    counts, half, last = [], [], []
    for number in range(rounds):
        name = f"stampede-{number}"
        seen = client.run(url + name, "--connections", str(REQUESTS), "--once", *_WAIT)
        if seen.statuses != {200: REQUESTS}:
            raise RuntimeError(f"{url}{name} was answered {seen.statuses}")
        counts.append(noted(directory, name))
        half.append(seen.median_ms / 1000)
        last.append(seen.last_ms / 1000)
    spread = str(counts[0]) if len(set(counts)) == 1 else f"{median(counts):g} ({min(counts)}–{max(counts)})"
    return spread, f"{median(half):.2f}", f"{median(last):.2f}", f"{median(last) / SLOW_SECONDS:.2f}"
