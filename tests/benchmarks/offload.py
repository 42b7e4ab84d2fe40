"""C. Offload: from the question to the answer of a worker; what a submit costs; when the last one knows.

Rivals: Celery as its tutorial has it, `delay()` and `get()`, with as many worker processes; and the same Millpond,
asked each 100 ms instead of heard.  The tasks do nothing: all that is measured is the way there and back.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from tests.benchmarks.crowd import Crowd, over_line
from tests.benchmarks.figures import percentile
from tests.benchmarks.servers import serving
from tests.benchmarks.submitting import AT_ONCE
from tests.benchmarks.table import Table
from tests.benchmarks.talker import Talker
from tests.support.service import ROOT, Service, free_port
from tests.support.store import StoreServer

WATCHERS, WORKERS = 1000, 2
#: Rounds of the watchers for each round of the others.
_TELLINGS = 10
_POLLING = "Millpond, 202, then polled each 100 ms"
#: One way there and back, and a number that was not used before.
Way = Callable[[Any, int], Awaitable[None]]
_WAYS: dict[str, Way] = {
    "Millpond, action: 202, then `job:<id>` on a websocket": Talker.action_by_websocket,
    "Millpond, computation: 202, then its value on a websocket": Talker.computation,
    _POLLING: Talker.action_by_polling,
}
_CELERY = "Celery, `delay()` and `get()`"


@dataclass(slots=True)
class Trips:
    """Round trips of one case."""

    #: Seconds each took.
    took: list[float] = field(default_factory=list)
    #: Trips a second, of each round.
    rates: list[float] = field(default_factory=list)


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """All of it, one after the other; cases that are compared take turns."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    store = StoreServer(home / "s")
    store.start()
    try:
        with _service(home / "m") as (service, token), _worker(store.url):
            rows = _trips(service, seconds, rounds)
            rows += uvloop.run(_watchers(service, token, rounds * _TELLINGS))
        rows += _submits(home, store.url, rounds)
    finally:
        store.stop()
    return Table(
        title="C. Offload",
        about=f"Jobs that do nothing, with {WORKERS} worker processes; {rounds} rounds of {seconds:g} s, in turns.  "
        "The cost of a submit is the CPU time of the event loop's thread, from the call to its return, on a loop that "
        f"has nothing else to do.  The end of a job is the return of its function; {WATCHERS:,} sockets watch its "
        "value, and `websockets.broadcast` sends as many bytes to as many.",
        columns=("what", "case", "p50 / p99", "more"),
        rows=tuple(rows),
    )


# There and back


def _trips(service: Service, seconds: float, rounds: int) -> list[tuple[str, ...]]:
    numbers = count(int(time.time()) % 1_000_000 * 1000)
    rows: list[tuple[str, ...]] = []
    for many, load in ((1, "idle"), (AT_ONCE, f"{AT_ONCE} at once")):
        trips = {name: Trips() for name in (_CELERY, *_WAYS)}
        _by_celery(many, 0.3, numbers)
        for _ in range(rounds):
            _add(trips[_CELERY], _by_celery(many, seconds, numbers))
            for name, way in _WAYS.items():
                _add(trips[name], uvloop.run(_by_talkers(service.url, way, many, seconds, numbers)))
        rows += [(f"there and back, {load}", name, *_shown(those)) for name, those in trips.items()]
    return rows


def _by_celery(many: int, seconds: float, numbers: Iterator[int]) -> tuple[list[float], float]:
    from tests.benchmarks.rivals.celery_app import nothing

    until = time.perf_counter() + seconds

    def work(_: int) -> list[float]:
        took = []
        while (began := time.perf_counter()) < until:
            nothing.delay(next(numbers)).get(timeout=30)
            took.append(time.perf_counter() - began)
        return took

    began = time.perf_counter()
    with ThreadPoolExecutor(many) as threads:
        took = [each for those in threads.map(work, range(many)) for each in those]
    return took, time.perf_counter() - began


async def _by_talkers(
    url: str, way: Way, many: int, seconds: float, numbers: Iterator[int]
) -> tuple[list[float], float]:
    async with AsyncExitStack() as stack:
        talkers = [await stack.enter_async_context(Talker(url)) for _ in range(many)]
        until, took = time.perf_counter() + seconds, []

        async def work(talker: Talker) -> None:
            while (began := time.perf_counter()) < until:
                await way(talker, next(numbers))
                took.append(time.perf_counter() - began)

        began = time.perf_counter()
        async with asyncio.timeout(seconds + 60):
            await asyncio.gather(*(work(talker) for talker in talkers))
        return took, time.perf_counter() - began


def _add(trips: Trips, seen: tuple[list[float], float]) -> None:
    took, seconds = seen
    trips.took += took
    trips.rates.append(len(took) / seconds)


def _shown(trips: Trips) -> tuple[str, str]:
    p50, p99 = (1000 * percentile(trips.took, share) for share in (0.5, 0.99))
    return f"{p50:.1f} / {p99:.1f} ms", f"{median(trips.rates):.0f} jobs/s"


# The end of a job, and the last who knows


async def _watchers(service: Service, token: str, tellings: int) -> list[tuple[str, ...]]:
    port, control = free_port(), free_port()
    command = [sys.executable, "-m", "tests.benchmarks.rivals.broadcast", str(port), str(control)]
    ours, theirs, talker = Crowd(), Crowd(), Talker(service.url)
    topic = "bench.clock?n=1"
    hello = f'{{"id":1,"connect":{{}}}}\n{{"id":2,"subscribe":{{"channel":"{topic}"}}}}'
    told: list[float] = []
    ended: list[float] = []
    with serving(command, f"http://127.0.0.1:{port}"):
        async with talker, _opened(theirs, f"ws://127.0.0.1:{port}/", ""), _opened(ours, service.websocket, hello):
            await talker.request("GET", f"/api/v1/resources/{topic}", token=token)
            publish = await over_line(f"127.0.0.1:{control}")

            async def refresh() -> None:
                status, _ = await talker.request("POST", "/api/v1/resources/bench.clock/refresh?n=1", token=token)
                assert status == 202, status

            for _ in range(tellings + 2):
                round_ = await theirs.tell(publish)
                told.append(round_.arrivals[-1])
                round_ = await ours.tell(refresh)
                _, value = await talker.request("GET", f"/api/v1/resources/{topic}", token=token)
                ended.append(round_.began + round_.arrivals[-1] - value["at"])
    told, ended = told[2:], ended[2:]
    what = f"to the last of {WATCHERS:,} watchers"
    ratio = median(ended) / median(told)
    return [
        (what, "`websockets.broadcast`, from the send", _milliseconds(told), "1.0"),
        (what, "Millpond, from the end of the job", _milliseconds(ended), f"{ratio:.1f} times the broadcast"),
    ]


@asynccontextmanager
async def _opened(crowd: Crowd, url: str, hello: str) -> AsyncIterator[None]:
    await crowd.open(url, WATCHERS, hello.encode())
    try:
        await asyncio.sleep(0.5)  # what they are told at first has come
        yield
    finally:
        for socket in crowd.sockets:
            socket._transport.close()
        await asyncio.sleep(0.2)


def _milliseconds(seconds: list[float]) -> str:
    return f"{1000 * percentile(seconds, 0.5):.1f} / {1000 * percentile(seconds, 0.99):.1f} ms"


# What a submit costs


def _submits(home: Path, store: str, rounds: int) -> list[tuple[str, ...]]:
    """In a store and a database of its own, where no worker takes anything."""
    own = StoreServer(home / "t")
    own.start()
    try:
        settings = {"MILLPOND_HOME": str(home / "alone"), "MILLPOND_REDIS_URL": own.url, "MILLPOND_NAMESPACE": "bench"}
        limits = {"MILLPOND_QUEUE_LIMIT": "1000000", "MILLPOND_APPS": "tests.benchmarks.declared"}
        environ = {**os.environ, **settings, **limits, "BENCH_STORE": own.url}
        Path(settings["MILLPOND_HOME"]).mkdir()
        subprocess.run(
            [sys.executable, "-m", "asgi_app", "migrate", "-v0"], cwd=ROOT, env=environ, check=True, timeout=120
        )
        command = [sys.executable, "-m", "tests.benchmarks.submitting"]
        seen = [
            json.loads(subprocess.run(command, cwd=ROOT, env=apart, stdout=-1, check=True, timeout=180).stdout)
            for apart in ({**environ, "MILLPOND_NAMESPACE": f"bench{number}"} for number in range(rounds))
        ]
    finally:
        own.stop()
    return [
        (
            "the event loop, for one submit",
            name,
            f"p50 {median(run[name][0] for run in seen):.0f} µs of CPU",
            f"{AT_ONCE} at once: {median(run[name][1] for run in seen):.0f} µs each",
        )
        for name in seen[0]
    ]


# Who serves


@contextmanager
def _service(home: Path) -> Iterator[tuple[Service, str]]:
    settings = {"MILLPOND_APPS": "tests.benchmarks.declared", "MILLPOND_KEY_RATE": "10000000"}
    service = Service(home, "--no-demo", MILLPOND_WORKER_CONCURRENCY=str(WORKERS), **settings).start(within=120)
    try:
        service.command("shell", "-c", "from django.contrib.auth.models import User; User.objects.create_user('bench')")
        yield service, service.command("token", "create", "bench", "--scope", "read,run").strip()
    finally:
        service.stop()


@contextmanager
def _worker(store: str) -> Iterator[None]:
    """A worker of bare Celery, and its application in this process."""
    os.environ["BENCH_STORE"] = store
    command = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.rivals.celery_app", "worker"]
    command += [
        "--pool",
        "prefork",
        "--concurrency",
        str(WORKERS),
        "--without-gossip",
        "--without-mingle",
        "-l",
        "ERROR",
    ]
    child = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        from tests.benchmarks.rivals.celery_app import nothing

        nothing.delay(0).get(timeout=60)
        yield
    finally:
        child.terminate()
        child.wait(30)
