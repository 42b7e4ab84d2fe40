"""E. What HTTP notices of a broadcast: `/livez` and a hit, while one message after the other goes to many websockets.

One web process serves both.  Publisher and sockets are one process (crowd.py), which sends the next message as soon as
all have the last one, so that the broadcast never pauses; HTTP is asked by few connections, one request at a time.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from tests.benchmarks import client, fanout
from tests.benchmarks.servers import Server, millpond
from tests.benchmarks.table import Table
from tests.support.store import StoreServer

SOCKETS = (1000, 5000)
_CONNECTIONS = 4
_PATHS = {"`/livez`": "/livez", "an L1 hit": "/api/v1/resources/bench.page?n=1"}
#: Seconds between two looks whether the broadcast has to go on.
_PORTION = 0.5


@dataclass(slots=True)
class Seen:
    """All rounds of one path in one situation."""

    outcomes: list[client.Outcome] = field(default_factory=list)
    #: Deliveries a second meanwhile.
    rates: list[float] = field(default_factory=list)


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """Each path with and without a broadcast, in turns; `seconds` for one of them."""
    rows: list[tuple[str, ...]] = []
    with _served(home) as (server, store):
        for path in _PATHS.values():
            httpx.get(server.url + path, timeout=10.0).raise_for_status()
        for sockets in SOCKETS:
            with fanout.watched(server, store, sockets) as crowd:
                if crowd.sockets < sockets:
                    raise RuntimeError(f"{crowd.sockets} sockets of {sockets} were opened")
                seen = _all(server, crowd, seconds, rounds)
            rows += [_row(sockets, name, those) for (name, _), those in seen.items()]
    return Table(
        title="HTTP during a broadcast",
        about=f"{_CONNECTIONS} connections ask a web process that has many websockets, while it has nothing else to do "
        "and while one message of some 490 bytes after the other goes to all of them, as fast as it can; medians of "
        f"{rounds} rounds of {seconds:g} s.",
        columns=(
            "sockets",
            "asked for",
            "deliveries/s meanwhile",
            "median ms",
            "p99 ms",
            "longest ms",
            "requests/s",
        ),
        rows=tuple(rows),
    )


@contextmanager
def _served(home: Path) -> Iterator[tuple[Server, StoreServer]]:
    with tempfile.TemporaryDirectory(prefix="mpb-") as short:
        store = StoreServer(Path(short) / "s")
        store.start()
        try:
            settings = {"MILLPOND_REDIS_URL": store.url, "MILLPOND_NAMESPACE": fanout.NAMESPACE}
            with millpond(home / "m", processes=1, **settings) as server:
                yield server, store
        finally:
            store.stop()


def _all(server: Server, crowd: fanout.Case, seconds: float, rounds: int) -> dict[tuple[str, bool], Seen]:
    seen = {(name, broadcast): Seen() for name in _PATHS for broadcast in (False, True)}
    for _ in range(rounds):
        for (name, broadcast), those in seen.items():
            if broadcast:
                with _broadcast(crowd, those.rates):
                    those.outcomes.append(_ask(server.url + _PATHS[name], seconds))
            else:
                those.outcomes.append(_ask(server.url + _PATHS[name], seconds))
    return seen


@contextmanager
def _broadcast(crowd: fanout.Case, rates: list[float]) -> Iterator[None]:
    """Tell all sockets for as long as the block takes."""
    over = threading.Event()

    def tell() -> None:
        while not over.is_set():
            told = crowd.measure(_PORTION)
            if told["lost"] or told["ended"]:
                raise RuntimeError(f"the broadcast lost {told}")
            rates.append(told["rate"])

    with ThreadPoolExecutor(1) as beside:
        telling = beside.submit(tell)
        try:
            yield
        finally:
            over.set()
        telling.result()


def _ask(url: str, seconds: float) -> client.Outcome:
    flags = ("--connections", str(_CONNECTIONS), "--seconds", f"{seconds:g}")
    outcome = client.run(url, *flags)
    if set(outcome.statuses) != {200}:
        raise RuntimeError(f"{url} was answered {outcome.statuses}")
    return outcome


def _row(sockets: int, name: str, seen: Seen) -> tuple[str, ...]:
    def middle(what: str) -> str:
        found = median(getattr(outcome, what) for outcome in seen.outcomes)
        return f"{found:.{2 if found < 10 else 0}f}"

    rate = math.floor(median(outcome.answers / outcome.seconds for outcome in seen.outcomes))
    meanwhile = f"{median(seen.rates):,.0f}" if seen.rates else "none"
    return f"{sockets:,}", name, meanwhile, middle("median_ms"), middle("p99_ms"), middle("last_ms"), f"{rate:,}"
