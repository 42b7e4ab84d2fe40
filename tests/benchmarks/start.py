"""G. Start and memory: from `millpond web` to its first answer, what is imported meanwhile, what a kept value takes.

Memory is the growth of the process (RSS) while it is asked for ever more keys, so that everything is in it: the copy of
the value, the remembered question, and the answers that were prepared.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.benchmarks import client
from tests.benchmarks.figures import spread
from tests.benchmarks.servers import Server, millpond
from tests.benchmarks.table import Table
from tests.support.service import ROOT, free_port
from tests.support.store import StoreServer

#: Imports that are named.
_COSTLIEST = 10
#: Keys that are there before the memory is looked at, and those that come then.
_BEFORE, _MORE = 500, 2_000
_READY_WITHIN = 60.0
_LINE = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \|( +)(\S+)$")


class Import(NamedTuple):
    """A package, and what it has cost without those it imports, in microseconds."""

    name: str
    cost: int


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """Start `rounds` times.  `seconds` means nothing here."""
    store = StoreServer(home / "s")
    store.start()
    try:
        environ = _environ(home, store)
        subprocess.run(_millpond("migrate", "-v0"), cwd=ROOT, env=environ, check=True, timeout=120)
        started = [_start(environ) for _ in range(rounds)]
        imported, whole = _imports(environ)
    finally:
        store.stop()
    rows = [
        ("`millpond web` to its first answer", f"{spread([wall for wall, _ in started], 2)} s", "wall"),
        ("the same", f"{spread([cpu for _, cpu in started], 2)} s", "CPU"),
        ("all imports", f"{whole / 1000:.0f} ms", "with the measuring of it"),
        *((f"import of `{name}`", f"{cost / 1000:.0f} ms", "without other packages") for name, cost in imported),
        *_memory(home),
    ]
    return Table(
        title="G. Start and memory",
        about=f"Medians of {rounds} starts.  Imports as `python -X importtime` has them, summed up by package, the "
        f"{_COSTLIEST} costliest.  Memory for a value of 2 KB: growth from {_BEFORE:,} keys to {_BEFORE + _MORE:,}.",
        columns=("what", "median", "of what"),
        rows=tuple(rows),
    )


def by_package(report: str) -> tuple[list[Import], int]:
    """What `-X importtime` says, by package, the costliest first; and all together."""
    costs: dict[str, int] = {}
    for line in report.splitlines():
        if found := _LINE.match(line):
            package = found[4].partition(".")[0]
            costs[package] = costs.get(package, 0) + int(found[1])
    ordered = sorted((Import(name, cost) for name, cost in costs.items()), key=lambda each: -each.cost)
    return ordered, sum(costs.values())


def _environ(home: Path, store: StoreServer) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MILLPOND_", "DJANGO_"))}
    (home / "web").mkdir()
    ours = {"MILLPOND_HOME": str(home / "web"), "MILLPOND_REDIS_URL": store.url, "MILLPOND_NAMESPACE": "bench"}
    return {**inherited, **ours, "MILLPOND_APPS": "tests.benchmarks.declared"}


def _millpond(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "asgi_app", *arguments]


def _start(environ: dict[str, str]) -> tuple[float, float]:
    """Seconds until it answers: by the wall, and of its CPU."""
    import psutil

    port = free_port()
    began = time.perf_counter()
    with (Path(environ["MILLPOND_HOME"]) / "web.log").open("w") as log:
        child = subprocess.Popen(_millpond("web", "--port", str(port)), cwd=ROOT, env=environ, stdout=log, stderr=log)
    try:
        while not _answers(f"http://127.0.0.1:{port}/livez"):
            if child.poll() is not None or time.perf_counter() - began > _READY_WITHIN:
                raise RuntimeError((Path(environ["MILLPOND_HOME"]) / "web.log").read_text()[-2000:])
            time.sleep(0.01)
        wall, taken = time.perf_counter() - began, psutil.Process(child.pid).cpu_times()
        return wall, taken.user + taken.system
    finally:
        child.terminate()
        child.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _imports(environ: dict[str, str]) -> tuple[list[Import], int]:
    """Of what the web process imports until it serves."""
    code = "import django; django.setup(); import asgi_app.running.web, asgi_app.asgi, uvicorn, uvloop, httptools"
    command = [sys.executable, "-X", "importtime", "-c", code]
    settings = {"DJANGO_SETTINGS_MODULE": "asgi_app.settings", "MILLPOND_ROLE": "web"}
    done = subprocess.run(command, cwd=ROOT, env={**environ, **settings}, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    ordered, whole = by_package(done.stderr)
    return ordered[:_COSTLIEST], whole


def _memory(home: Path) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, near in (("in the process's own memory", "64MiB"), ("in the store alone (`MILLPOND_NEAR=0`)", "0")):
        settings = {"MILLPOND_NEAR": near, "MILLPOND_KEY_RATE": "10000000"}
        with millpond(home / f"memory-{near}", processes=1, **settings) as server:
            _ask(server, 0, _BEFORE)
            before = server.processes[0].memory_info().rss
            _ask(server, _BEFORE, _MORE)
            grown = server.processes[0].memory_info().rss - before
        rows.append((f"a value {name}", f"{grown / _MORE / 1024:.1f} KiB", "RSS of the web process"))
    return rows


def _ask(server: Server, first: int, many: int) -> None:
    """Compute each value, then hit each twice."""
    url = f"{server.url}/api/v1/resources/bench.page?n={{key}}"
    for _ in range(3):
        which = ("--keys", str(many), "--first", str(first), "--sweep")
        seen = client.run(url, *which, "--header", "Prefer: wait=30")
        assert set(seen.statuses) == {200}, seen.statuses
