"""H. Scaling: what more processes, threads and workers do for jobs, and a queue of its own for slow ones.

Times are those of the jobs themselves (`created_at`, `started_at`, `finished_at`); the jobs only wait, as jobs do that
ask other services, so that the machine's few cores are not the limit.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from tests.benchmarks.table import Table
from tests.support.service import ROOT, Service

#: How many jobs are waited for in one round, and how long each sleeps.
JOBS, SLEEP = 16, 0.5
#: Long jobs that stand before the short ones, and how long they take.
LONG_JOBS, LONG, SHORT_JOBS = 6, 1.5, 10

Times = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to run workers."""

    name: str
    concurrency: int
    pool: str = "prefork"
    #: Arguments of a second worker, if there is one.
    second: tuple[str, ...] = ()


THROUGHPUT = (
    Case(name="1 worker, 1 process", concurrency=1),
    Case(name="1 worker, 2 processes", concurrency=2),
    Case(name="1 worker, 4 processes", concurrency=4),
    Case(name="2 workers, 2 processes each", concurrency=2, second=("--concurrency", "2")),
    Case(name="1 worker, 8 threads", concurrency=8, pool="threads"),
)
_TWO = Case(name="", concurrency=1, second=("--concurrency", "1"))
_APART = Case(name="", concurrency=1, second=("--concurrency", "1", "--queues", "default"))
#: What is compared, on which workers, and the actions of the long and the short jobs.
WAITING = (
    ("2 workers of 1 process, one queue, one priority", _TWO, "bench.sleep", "bench.short"),
    ("the same, short jobs with priority 9", _TWO, "bench.sleep", "bench.urgent"),
    ("the same, slow jobs on a queue that only one worker has", _APART, "bench.apart", "bench.short"),
)


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """One deployment after the other; at most two rounds each.  `seconds` means nothing here."""
    rounds = min(rounds, 2)
    rows: list[tuple[str, ...]] = []
    first = 0.0
    for number, case in enumerate(THROUGHPUT):
        with deployed(home / f"throughput-{number}", case) as client:
            rates = [_throughput(client) for _ in range(rounds)]
        first = first or median(rates)
        shown = f"{median(rates):.1f} ({min(rates):.1f}–{max(rates):.1f}) jobs/s"
        rows.append((case.name, f"{JOBS} jobs that sleep {SLEEP:g} s", shown, f"{median(rates) / first:.2f}"))
    first = 0.0
    for number, (name, case, long, short) in enumerate(WAITING):
        with deployed(home / f"waiting-{number}", case) as client:
            waits = [_waiting(client, long, short) for _ in range(rounds)]
        first = first or median(waits)
        shown = f"{median(waits):.2f} ({min(waits):.2f}–{max(waits):.2f}) s waited"
        what = f"{SHORT_JOBS} short jobs behind {LONG_JOBS} of {LONG:g} s"
        rows.append((name, what, shown, f"{median(waits) / first:.2f}"))
    return Table(
        title="H. Scaling of workers",
        about="Jobs that only wait, so that the cores are not the limit; the broker is the store.  Of the short jobs "
        f"the median wait of a round counts.  Medians of {rounds} rounds, and from the least to the most; the ratio is "
        "to the first line of each kind.",
        columns=("workers", "work", "median", "ratio"),
        rows=tuple(rows),
    )


@contextmanager
def deployed(home: Path, case: Case) -> Iterator[httpx.Client]:
    """A service with these workers, and a client that may run its actions."""
    service = Service(
        home,
        "--no-demo",
        MILLPOND_APPS="tests.benchmarks.declared",
        MILLPOND_WORKER_CONCURRENCY=str(case.concurrency),
        MILLPOND_WORKER_POOL=case.pool,
    ).start()
    second = _second_worker(service, case.second) if case.second else None
    try:
        service.command("shell", "-c", "from django.contrib.auth.models import User; User.objects.create_user('bench')")
        token = service.command("token", "create", "bench", "--scope", "read,run").strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"{service.url}/api/v1", headers=headers, timeout=40) as client:
            _run(client, "bench.sleep", 8, 0.1)  # every process has begun its work once
            yield client
    finally:
        if second is not None:
            second.terminate()
            second.wait(30)
        service.stop()


def _second_worker(service: Service, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "asgi_app", "worker", *arguments]
    log = service.home / "second.log"
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=ROOT, env=service.environment, stdout=output, stderr=output)
    deadline = time.monotonic() + 60
    while b"ready." not in log.read_bytes():
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text()[-2000:])
        time.sleep(0.1)
    return child


def _throughput(client: httpx.Client) -> float:
    times = _run(client, "bench.sleep", JOBS, SLEEP)
    return JOBS / (max(end for _, _, end in times) - min(start for _, start, _ in times))


def _waiting(client: httpx.Client, long: str, short: str) -> float:
    behind = _submit(client, long, LONG_JOBS, LONG)
    waits = [start - created for created, start, _ in _run(client, short, SHORT_JOBS, 0.01)]
    _ended(client, behind)
    return median(waits)


def _run(client: httpx.Client, action: str, many: int, seconds: float) -> list[Times]:
    return _ended(client, _submit(client, action, many, seconds))


def _submit(client: httpx.Client, action: str, many: int, seconds: float) -> list[str]:
    def post(_: int) -> str:
        return str(client.post(f"/actions/{action}", json={"seconds": seconds}).raise_for_status().json()["id"])

    with ThreadPoolExecutor(8) as posting:  # faster than any of the cases works
        return list(posting.map(post, range(many)))


def _ended(client: httpx.Client, ids: list[str]) -> list[Times]:
    """When each was created, began and ended, once all have."""
    found: list[Times] = []
    for job_id in ids:
        while (job := client.get(f"/jobs/{job_id}").json())["status"] in ("queued", "running", "retrying"):
            time.sleep(0.05)
        if job["status"] != "succeeded":
            raise RuntimeError(f"{job}")
        found.append(_times(job))
    return found


def _times(job: dict[str, Any]) -> Times:
    created, started, finished = (
        datetime.fromisoformat(job[name]).timestamp() for name in ("created_at", "started_at", "finished_at")
    )
    return created, started, finished
