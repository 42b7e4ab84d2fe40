"""B. Fan-out: one message of some 490 bytes to many websockets of one process, and the next when all have it.

Publisher and sockets are one process, which decodes nothing; what serves them is another one, which hears of a message
through the store: of Channels by `group_send`, of Millpond by a publication on a log topic that keeps the last hundred.
`websockets.broadcast` is told by a line on a socket.  One message is under way at a time, so that nobody's capacity
(100 messages a channel, by default) is reached; what has not come fifteen seconds later is lost, and counted.
"""

from __future__ import annotations

import json
import math
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.rivals import PATIENT
from tests.benchmarks.servers import Server, millpond, serving, uvicorn
from tests.benchmarks.table import Table
from tests.support.service import ROOT, free_port
from tests.support.store import StoreServer

SOCKETS = (100, 1000, 5000)
TOPIC, NAMESPACE = "log:crowd", "bench"
_LAYERS = {
    "Channels, channels_redis pub/sub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "Channels, channels_redis core": "channels_redis.core.RedisChannelLayer",
    "Channels, Millpond's layer": "consumers.layer.MillpondChannelLayer",
}
#: Seconds for the next line of a crowd, beyond those it was asked for: more than all its own deadlines.
_PATIENCE = 90.0
_SATURATED = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A server with a crowd at it."""

    server: Server
    crowd: subprocess.Popen[str]
    #: Those that could be opened.
    sockets: int
    #: KiB of the server for each socket.
    memory: float

    def measure(self, seconds: float) -> dict[str, float]:
        assert self.crowd.stdin is not None
        cpu = self.server.cpu()
        self.crowd.stdin.write(f"{seconds}\n")
        self.crowd.stdin.flush()
        found = _line(self.crowd, seconds + _PATIENCE)
        spent = self.server.cpu() - cpu
        return {
            **found,
            "rate": found["deliveries"] / found["seconds"],
            "cost": 1e6 * spent / found["deliveries"] if found["deliveries"] else math.inf,
            "server_busy": spent / found["seconds"],
        }


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """All cases, each number of sockets in turns."""
    rows: list[tuple[str, ...]] = []
    for sockets in SOCKETS:
        with _cases(home / str(sockets), sockets) as cases:
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
            for _ in range(rounds):
                for name, case in cases.items():
                    runs[name].append(case.measure(seconds))
            limit = next(iter(runs.values()))
            rows += [_row(sockets, name, cases[name], those, limit) for name, those in runs.items()]
    return Table(
        title="B. Fan-out",
        about=f"One message of some 490 bytes to all sockets, and the next when all have it; {rounds} rounds of "
        f"{seconds:g} s, in turns; medians.  The ratios are to `websockets.broadcast` with as many sockets, of "
        "deliveries a second and, in brackets, of CPU time: where nobody is saturated, only that counts.  Lost is what "
        "had not come after fifteen seconds, of all rounds.",
        columns=(
            "sockets",
            "case",
            "deliveries/s",
            "ratio",
            "CPU µs of the server for one",
            "the last has it, p50 / p99 ms",
            "lost",
            "KiB for a socket",
            "saturated",
        ),
        rows=tuple(rows),
    )


@contextmanager
def _cases(home: Path, sockets: int) -> Iterator[dict[str, Case]]:
    with ExitStack() as stack:
        store = StoreServer(Path(stack.enter_context(_short())) / "s")
        store.start()
        stack.callback(store.stop)
        cases = {"websockets.broadcast (the limit)": stack.enter_context(_broadcast(sockets))}
        service = stack.enter_context(
            millpond(home / "m", processes=1, MILLPOND_REDIS_URL=store.url, MILLPOND_NAMESPACE=NAMESPACE)
        )
        cases["Millpond"] = stack.enter_context(watched(service, store, sockets))
        for name, layer in _LAYERS.items():
            cases[name] = stack.enter_context(_channels(layer, store, sockets))
        yield cases


@contextmanager
def _short() -> Iterator[str]:
    """A folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="mpb-") as made:
        yield made


@contextmanager
def _broadcast(sockets: int) -> Iterator[Case]:
    port, control = free_port(), free_port()
    command = [sys.executable, "-m", "tests.benchmarks.rivals.broadcast", str(port), str(control)]
    publish = f"line=127.0.0.1:{control}"
    with (
        serving(command, f"http://127.0.0.1:{port}") as server,
        _crowd(server, f"ws://127.0.0.1:{port}/", sockets, "", publish) as case,
    ):
        yield case


@contextmanager
def watched(server: Server, store: StoreServer, sockets: int) -> Iterator[Case]:
    """A crowd at a service of Millpond with this store and `NAMESPACE`."""
    hello = f'{{"id":1,"connect":{{}}}}\n{{"id":2,"subscribe":{{"channel":"{TOPIC}"}}}}'
    address = server.url.replace("http", "ws", 1) + "/connection/websocket"
    with _crowd(server, address, sockets, hello, f"store={store.url}|{NAMESPACE}|{TOPIC}") as case:
        yield case


@contextmanager
def _channels(layer: str, store: StoreServer, sockets: int) -> Iterator[Case]:
    patient = layer.startswith("channels_redis.")
    host = {"address": store.url, **PATIENT} if patient else store.url
    # They share a store and the name of the group: with one prefix a layer would send to another one's members, too.
    config = {"hosts": [host], "prefix": layer}
    environ = {"BENCH_LAYER": layer, "BENCH_LAYER_CONFIG": json.dumps(config)}
    with uvicorn("tests.benchmarks.rivals.channels_crowd:application", environ=environ) as server:
        address = server.url.replace("http", "ws", 1) + "/"
        with _crowd(server, address, sockets, "", f"layer={layer}|{json.dumps(config)}") as case:
            yield case


@contextmanager
def _crowd(server: Server, url: str, sockets: int, hello: str, publish: str) -> Iterator[Case]:
    command = [sys.executable, "-m", "tests.benchmarks.crowd", "--url", url, "--sockets", str(sockets)]
    command += ["--hello", hello, "--publish", publish]
    before = _memory(server)
    crowd = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        opened = _line(crowd, _PATIENCE)["sockets"]
        yield Case(
            server=server,
            crowd=crowd,
            sockets=opened,
            memory=(_memory(server) - before) / max(1, opened) / 1024,
        )
    finally:
        _stop(crowd)


def _stop(crowd: subprocess.Popen[str]) -> None:
    try:
        crowd.communicate("stop\n", timeout=10)
    except subprocess.TimeoutExpired:
        crowd.kill()
        crowd.communicate()


def _memory(server: Server) -> int:
    return int(sum(process.memory_info().rss for process in server.processes))


def _line(crowd: subprocess.Popen[str], within: float) -> dict[str, Any]:
    assert crowd.stdout is not None
    if not select.select([crowd.stdout], [], [], within)[0]:
        raise TimeoutError(f"the crowd has said nothing for {within:g} s")
    line = crowd.stdout.readline()
    if not line:
        raise RuntimeError("the crowd has ended")
    found: dict[str, Any] = json.loads(line)
    return found


def _row(
    sockets: int, name: str, case: Case, runs: list[dict[str, float]], limit: list[dict[str, float]]
) -> tuple[str, ...]:
    def middle(what: str, runs: list[dict[str, float]] = runs) -> float:
        return median(run[what] for run in runs)

    busy = [f"{who} {middle(key):.0%}" for who, key in (("server", "server_busy"), ("client", "client_busy"))]
    full = [
        who.split()[0]
        for who, key in zip(busy, ("server_busy", "client_busy"), strict=True)
        if middle(key) > _SATURATED
    ]
    return (
        str(sockets) if case.sockets == sockets else f"{sockets}, of which {case.sockets} were opened",
        name,
        f"{middle('rate'):.0f}",
        f"{middle('rate') / middle('rate', limit):.3f} ({middle('cost', limit) / middle('cost'):.3f})",
        f"{middle('cost'):.1f}",
        f"{_milliseconds(middle('last_p50'))} / {_milliseconds(middle('last_p99'))}",
        _lost(runs),
        f"{case.memory:.0f}",
        f"{' and '.join(full) or 'neither'} ({', '.join(busy)} of a core)",
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if math.isfinite(seconds) else "never"


def _lost(runs: list[dict[str, float]]) -> str:
    lost, came, ended = (int(sum(run[what] for run in runs)) for what in ("lost", "deliveries", "ended"))
    told = f"{lost} of {lost + came}" if lost else "0"
    return f"{told}; {ended} sockets ended" if ended else told
