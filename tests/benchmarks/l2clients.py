"""F. Clients of the store: what one GET of 2 KB costs a web process, 64 readers at once.

Each client is a process of its own that does nothing else (`readers.py`), on a unix socket; valkey-glide, which knows
none, and ours once more over TCP.  The CPU time is that of all its threads.  Were a library within a fifth of
`cache_layer.pipeline`, it would take its place: the sentence under the table says so in each run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import redis

from asgi_app.running import embedded
from tests.benchmarks.figures import spread
from tests.benchmarks.table import Table
from tests.support.service import ROOT, free_port

READERS, SIZE, _KEY = 64, 2048, "bench:value"
#: Name -> client, and how it gets to the store; ours first.
CASES = {
    "`cache_layer.pipeline`": ("ours", "unix"),
    "redis-py, hiredis, its pool": ("redis-py", "unix"),
    "coredis": ("coredis", "unix"),
    "`cache_layer.pipeline`, TCP": ("ours", "tcp"),
    "valkey-glide, TCP": ("glide", "tcp"),
}
#: A library may cost so much more, and would still be taken.
_GOOD_ENOUGH = 1.2


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """All clients in turns, on one store."""
    costs: dict[str, list[float]] = {name: [] for name in CASES}
    rates: dict[str, list[float]] = {name: [] for name in CASES}
    with _store(home) as urls:
        for _ in range(rounds):
            for name, (client, way) in CASES.items():
                seen = _read(client, urls[way], seconds)
                costs[name].append(1e6 * seen["cpu"] / seen["gets"])
                rates[name].append(seen["gets"] / seen["seconds"])
    ours = median(next(iter(costs.values())))
    rows = [(name, spread(costs[name], 1), f"{median(costs[name]) / ours:.1f}", spread(rates[name])) for name in CASES]
    return Table(
        title="F. Clients of the store",
        about=f"GET of {SIZE} bytes, {READERS} readers at once in one process on a uvloop; {rounds} rounds of "
        f"{seconds:g} s, in turns.  {conclusion({name: median(those) for name, those in costs.items()})}",
        columns=("client", "CPU µs for a GET", "to ours", "GETs/s"),
        rows=tuple(rows),
    )


def conclusion(costs: dict[str, float]) -> str:
    """Whether a library could take the place of ours, the first of them."""
    ours, *others = costs
    best = min((name for name in others if not name.startswith(ours)), key=lambda name: costs[name])
    times = costs[best] / costs[ours]
    if times <= _GOOD_ENOUGH:
        return f"{best} costs {times:.2f} times as much as ours: it should take its place."
    return (
        f"The best library, {best}, costs {times:.1f} times as much as ours; up to {_GOOD_ENOUGH:g} it would be taken."
    )


def _read(client: str, url: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.readers", client, url, _KEY]
    command += ["--size", str(SIZE), "--readers", str(READERS), "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=seconds + 120)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@contextmanager
def _store(home: Path) -> Iterator[dict[str, str]]:
    port, path = free_port(), home / "s"
    options = [
        "--unixsocket",
        str(path),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(home),
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    child = subprocess.Popen([str(embedded.find_server().path), *options], stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port)
        deadline = time.monotonic() + 20
        while True:
            try:
                client.set(_KEY, b"x" * SIZE)
                break
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        client.close()
        yield {"tcp": f"redis://127.0.0.1:{port}", "unix": f"unix://{path}"}
    finally:
        child.terminate()
        child.wait(20)
