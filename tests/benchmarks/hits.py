"""A. HTTP hits: a value of some 2 KB that is there and fresh, from one process.

The cases take turns, so that what else the machine does meets all of them.  Millpond is the whole service, asked for a
resource; the store, the worker and the scheduler run beside it and are not counted.  "Through Django" is the same
process and the same value: with `Content-Length: 0` a request means nothing else, but the front before Django does not
know the header on a GET, and leaves it to the view.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks import client
from tests.benchmarks.figures import saturated, spread
from tests.benchmarks.servers import Server, millpond, uvicorn
from tests.benchmarks.table import Table
from tests.support.store import StoreServer

CONNECTIONS = 16
#: How many keys there are besides the one; asked for by the law of Zipf with exponent 1.
KEYS = 10_000
LIMIT = "raw ASGI, constant bytes (the limit)"
DJANGO = "Django view, `await cache.aget()`, RedisCache, default middleware"
FASTAPI = "FastAPI + cashews on Redis"
#: Django's view on a cache of ours: measured with one key only.
_VARIANT = "the same view"
_FALL_THROUGH = ("--header", "Content-Length: 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is asked, of whom."""

    server: Server
    #: With "?n=" for a key.
    path: str
    flags: tuple[str, ...] = ()


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
    rows: list[tuple[str, ...]] = []
    with _cases(home) as cases:
        _fill(cases)
        for name, keys in (("1", 1), (f"{KEYS:,}", KEYS)):
            for each in cases.values():
                _run(each, keys, min(1.0, seconds))
            runs: dict[str, list[Run]] = {case: [] for case in cases}
            for _ in range(rounds):
                for case, those in runs.items():
                    those.append(_run(cases[case], keys, seconds))
            rows += [_row(name, case, runs) for case in runs]
    return Table(
        title="A. HTTP hits",
        about=f"{__doc__.split(chr(10))[0].removeprefix('A. ')}  {CONNECTIONS} connections, each with one request at "
        f"a time; {rounds} rounds of {seconds:g} s, in turns; medians, and from the least to the most.  {KEYS:,} keys "
        "are asked for by the law of Zipf (exponent 1), the same sequence for all.  The ratios are those of answers a "
        "second in the same round and, in brackets, of CPU time: where nobody is saturated, only those count.  "
        "Through Django: the same process, told by a header that its front does not know.",
        columns=(
            "keys",
            "case",
            "CPU µs of the server for an answer",
            "answers/s",
            "to the limit",
            "to Django's `aget`",
            "to FastAPI + cashews",
            "p50 / p99 ms",
            "body",
            "saturated",
        ),
        rows=tuple(rows),
    )


@contextmanager
def _cases(home: Path) -> Iterator[dict[str, Case]]:
    """The limit first."""
    with ExitStack() as stack:
        store = _started(stack, home / "rival.sock")
        ours = _started(stack, home / "ours.sock")
        environ = {"BENCH_STORE": store.url, "BENCH_HOME": str(home), "BENCH_KEYS": str(KEYS)}
        in_django = {**environ, "BENCH_BACKEND": "asgi_app.cache_backend.MillpondCache"}

        def rival(module: str, environ: dict[str, str]) -> Case:
            server = stack.enter_context(uvicorn(f"tests.benchmarks.rivals.{module}:application", environ=environ))
            return Case(server=server, path="/rows?n=")

        def service(name: str, **environ: str) -> Server:
            shared = {"MILLPOND_REDIS_URL": ours.url, "MILLPOND_NAMESPACE": "bench", "MILLPOND_KEY_RATE": "1000000"}
            return stack.enter_context(millpond(home / name, processes=1, **shared, **environ))

        near, far = service("near"), service("far", MILLPOND_NEAR="0")
        path = "/api/v1/resources/bench.page?n="
        yield {
            LIMIT: rival("raw", {}),
            "Millpond, from the process's own memory": Case(server=near, path=path),
            "Millpond, from the store (`MILLPOND_NEAR=0`)": Case(server=far, path=path),
            "Millpond, through Django": Case(server=near, path=path, flags=_FALL_THROUGH),
            DJANGO: rival("django_cache", environ),
            f"{_VARIANT}, MillpondCache": rival("django_cache", in_django),
            f"{_VARIANT}, MillpondCache with 64 MiB near": rival(
                "django_cache", {**in_django, "BENCH_NEAR": str(64 << 20)}
            ),
            FASTAPI: rival("fastapi_cashews", environ),
        }


def _started(stack: ExitStack, socket: Path) -> StoreServer:
    store = StoreServer(socket)
    store.start()
    stack.callback(store.stop)
    return store


def _fill(cases: dict[str, Case]) -> None:
    """Every key is there, in the store and where it is kept near; the rivals fill theirs themselves."""
    for case in cases.values():
        if case.path.startswith("/api/") and not case.flags:
            url = f"{case.server.url}{case.path}{{key}}"
            client.run(url, "--keys", str(KEYS), "--sweep", "--header", "Prefer: wait=30")


def _run(case: Case, keys: int, seconds: float) -> Run:
    cpu = case.server.cpu()
    which = ("--keys", str(keys), "--connections", str(CONNECTIONS), "--seconds", str(seconds))
    seen = client.run(f"{case.server.url}{case.path}{{key}}", *which, *case.flags)
    cpu = case.server.cpu() - cpu
    if set(seen.statuses) != {200}:
        raise RuntimeError(f"{case.path} was answered {seen.statuses}")
    return Run(
        rate=seen.answers / seen.seconds,
        cost=1e6 * cpu / seen.answers,
        median_ms=seen.median_ms,
        p99_ms=seen.p99_ms,
        server_busy=cpu / seen.seconds,
        client_busy=seen.cpu / seen.seconds,
        body=seen.body,
    )


def _row(keys: str, name: str, all_runs: dict[str, list[Run]]) -> tuple[str, ...]:
    runs = all_runs[name]

    def to(other: str) -> str:
        # of the same round: what the machine did besides met both
        pairs = list(zip(runs, all_runs[other], strict=True))
        rate = median(run.rate / against.rate for run, against in pairs)
        return f"{rate:.3g} ({median(against.cost / run.cost for run, against in pairs):.3g})"

    return (
        keys,
        name,
        spread([run.cost for run in runs]),
        spread([run.rate for run in runs]),
        to(LIMIT),
        to(DJANGO),
        to(FASTAPI),
        f"{median(run.median_ms for run in runs):.1f} / {median(run.p99_ms for run in runs):.1f}",
        f"{runs[-1].body} bytes",
        saturated(median(run.server_busy for run in runs), median(run.client_busy for run in runs)),
    )
