"""A. HTTP hits: a value of some 2 KB that is there and fresh, from one process.

The cases take turns, so that what else the machine does meets all of them.  Millpond is the whole service, asked for a
resource; the store, the worker and the scheduler run beside it and are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks import client
from tests.benchmarks.servers import Server, millpond, uvicorn
from tests.benchmarks.table import Table
from tests.support.store import StoreServer

CONNECTIONS = 16
#: Share of a core from which on a process counts as saturated.
_SATURATED = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One round of one case."""

    #: Answers a second.
    rate: float
    #: CPU microseconds of the server process for one answer.
    cost: float
    median_ms: float
    p99_ms: float
    #: Share of a core that the server and the client had.
    server_busy: float
    client_busy: float
    body: int


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """Start all servers, ask them in turns, and end them."""
    with _cases(home) as cases:
        for server, path in cases.values():
            client.run(server.url + path, "--connections", str(CONNECTIONS), "--seconds", "1")
        runs: dict[str, list[Run]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, (server, path) in cases.items():
                runs[name].append(_run(server, path, seconds))
    limit = next(iter(runs.values()))
    return Table(
        title="A. HTTP hits",
        about=f"{__doc__.split(chr(10))[0].removeprefix('A. ')}  {CONNECTIONS} connections, each with one request at "
        f"a time; {rounds} rounds of {seconds:g} s, in turns; medians, and from the least to the most.",
        columns=(
            "case",
            "CPU µs of the server for an answer",
            "answers/s",
            "ratio to the limit",
            "p50 / p99 ms",
            "body",
            "saturated",
        ),
        rows=tuple(_row(name, those, limit) for name, those in runs.items()),
    )


@contextmanager
def _cases(home: Path) -> Iterator[dict[str, tuple[Server, str]]]:
    """Name -> server and path; the limit first."""
    with ExitStack() as stack:
        store = StoreServer(home / "rival.sock")
        store.start()
        stack.callback(store.stop)
        environ = {"BENCH_STORE": store.url, "BENCH_HOME": str(home)}
        ours = {**environ, "BENCH_BACKEND": "asgi_app.cache_backend.MillpondCache"}

        def view(environ: dict[str, str]) -> tuple[Server, str]:
            return stack.enter_context(
                uvicorn("tests.benchmarks.rivals.django_cache:application", environ=environ)
            ), "/rows"

        yield {
            "raw ASGI, constant bytes (the limit)": (
                stack.enter_context(uvicorn("tests.benchmarks.rivals.raw:application")),
                "/rows",
            ),
            "Millpond, from the process's own memory": (
                stack.enter_context(millpond(home / "near", processes=1)),
                "/api/v1/resources/bench.rows",
            ),
            "Millpond, from the store (`MILLPOND_NEAR=0`)": (
                stack.enter_context(millpond(home / "store", processes=1, MILLPOND_NEAR="0")),
                "/api/v1/resources/bench.rows",
            ),
            "Django view, `await cache.aget()`, RedisCache, default middleware": view(environ),
            "the same view, MillpondCache": view(ours),
            "the same view, MillpondCache with 64 MiB near": view({**ours, "BENCH_NEAR": str(64 * 2**20)}),
        }


def _run(server: Server, path: str, seconds: float) -> Run:
    cpu = server.cpu()
    seen = client.run(server.url + path, "--connections", str(CONNECTIONS), "--seconds", str(seconds))
    cpu = server.cpu() - cpu
    if set(seen.statuses) != {200}:
        raise RuntimeError(f"{path} was answered {seen.statuses}")
    return Run(
        rate=seen.answers / seen.seconds,
        cost=1e6 * cpu / seen.answers,
        median_ms=seen.median_ms,
        p99_ms=seen.p99_ms,
        server_busy=cpu / seen.seconds,
        client_busy=seen.cpu / seen.seconds,
        body=seen.body,
    )


def _row(name: str, runs: list[Run], limit: list[Run]) -> tuple[str, ...]:
    rates, costs = [run.rate for run in runs], [run.cost for run in runs]
    # of the same round: what the machine did besides met both
    ratios = [run.rate / best.rate for run, best in zip(runs, limit, strict=True)]
    return (
        name,
        f"{median(costs):.0f} ({min(costs):.0f}–{max(costs):.0f})",
        f"{median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})",
        f"{median(ratios):.3f}",
        f"{median(run.median_ms for run in runs):.1f} / {median(run.p99_ms for run in runs):.1f}",
        f"{runs[-1].body} bytes",
        _saturated(median(run.server_busy for run in runs), median(run.client_busy for run in runs)),
    )


def _saturated(server: float, generator: float) -> str:
    """Which side was at its limit; none when the machine had no more to give."""
    sides = [name for name, busy in (("server", server), ("client", generator)) if busy >= _SATURATED]
    return f"{' and '.join(sides) or 'neither'} (server {server:.0%}, client {generator:.0%} of a core)"
