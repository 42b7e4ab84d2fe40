"""E. What HTTP notices of a broadcast: `/livez` and a hit, while one message after the other goes to 5,000 websockets.

One web process serves both.  Publisher and sockets are one process (crowd.py), which sends the next message as soon as
all have the last one, so that the broadcast never pauses; HTTP is asked by few connections, one request at a time.
"""

from __future__ import annotations

import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import httpx

from tests.benchmarks import client, fanout
from tests.benchmarks.servers import millpond
from tests.benchmarks.table import Table
from tests.support.store import StoreServer

SOCKETS = 5000
_CONNECTIONS = 4
_PATHS = {"`/livez`": "/livez", "an L1 hit": "/api/v1/resources/bench.page?n=1"}


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """Each path with and without a broadcast, in turns; `seconds` for one of them."""
    seen: dict[tuple[str, bool], list[client.Outcome]] = {}
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mpb-") as short, ThreadPoolExecutor(1) as beside:
        store = StoreServer(Path(short) / "s")
        store.start()
        try:
            settings = {"MILLPOND_REDIS_URL": store.url, "MILLPOND_NAMESPACE": fanout._NAMESPACE}
            with (
                millpond(home / "m", processes=1, **settings) as server,
                fanout._millpond(server, store, SOCKETS) as crowd,
            ):
                for path in _PATHS.values():
                    httpx.get(server.url + path, timeout=10.0).raise_for_status()
                for _ in range(rounds):
                    for name, path in _PATHS.items():
                        for broadcast in (False, True):
                            telling = beside.submit(crowd.measure, seconds + 1.0) if broadcast else None
                            seen.setdefault((name, broadcast), []).append(_ask(server.url + path, seconds))
                            if telling is not None:
                                rates.append(telling.result()["rate"])
        finally:
            store.stop()
    rows = tuple(_row(name, broadcast, outcomes) for (name, broadcast), outcomes in seen.items())
    return Table(
        title="E. HTTP during a broadcast",
        about=f"{_CONNECTIONS} connections ask a web process that has {SOCKETS:,} websockets, while it has nothing "
        "else to do and while one message of some 490 bytes after the other goes to all of them "
        f"({median(rates):,.0f} deliveries/s meanwhile); medians of {rounds} rounds of {seconds:g} s.",
        columns=("asked for", "meanwhile", "median ms", "p99 ms", "longest ms", "requests/s"),
        rows=rows,
    )


def _ask(url: str, seconds: float) -> client.Outcome:
    flags = ("--connections", str(_CONNECTIONS), "--seconds", f"{seconds:g}")
    outcome = client.run(url, *flags)
    if set(outcome.statuses) != {200}:
        raise RuntimeError(f"{url} was answered {outcome.statuses}")
    return outcome


def _row(name: str, broadcast: bool, outcomes: list[client.Outcome]) -> tuple[str, ...]:
    def middle(what: str) -> str:
        found = median(getattr(outcome, what) for outcome in outcomes)
        return f"{found:.{2 if found < 10 else 0}f}"

    rate = math.floor(median(outcome.answers / outcome.seconds for outcome in outcomes))
    meanwhile = f"a broadcast to {SOCKETS:,}" if broadcast else "nothing"
    return name, meanwhile, middle("median_ms"), middle("p99_ms"), middle("last_ms"), f"{rate:,}"
