"""Memory of one open websocket, idle and at one message a second: `python -m tests.benchmarks.connections`.

Side by side with uvicorn alone and with a stock Channels consumer in a group of channels_redis, in turns, each with a
new server.  Clients offer no compression, so that nobody pays for its buffers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import psutil
import uvloop

from tests.benchmarks import machine, servers
from tests.benchmarks.table import Table
from tests.chaos.push.deployment import Deployment, deployed
from tests.chaos.push.fleet import raise_limit
from tests.chaos.push.sockets import Socket
from tests.support.store import StoreServer

COUNTS = (1000, 2000)
_TOPIC = "push.long.memory"
#: Connections that warm a server up, and seconds for its memory to settle.
_WARM, _SETTLE = 100, 3.0
_COLUMNS = ("", *(f"idle, {count}: KB each" for count in COUNTS), "busy: KB each", "CPU of it, % of a core")


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and how to speak to it."""

    process: psutil.Process
    port: int
    path: str
    first: bytes
    #: None: whoever is asked with the text `busy` begins.
    deployment: Deployment | None


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """KB each connection adds to the server's resident memory; medians of the rounds."""
    raise_limit()
    found: dict[str, list[list[float]]] = {}
    for number in range(rounds):
        for name, start in (("uvicorn alone", _bare), ("stock Channels consumer", _channels), ("Millpond", _millpond)):
            with start(home / f"{number}-{name.split()[0].lower()}") as contender:
                found.setdefault(name, []).append(uvloop.run(_one(contender, seconds)))
    rows = tuple(
        (name, *(f"{median(column):.1f}" for column in zip(*runs, strict=True))) for name, runs in found.items()
    )
    about = (
        "Growth of the resident memory of the server process for each connection with one subscription (Millpond: a "
        f"log; the others: everybody), after {_WARM} connections that came and went; busy: one message of 130 bytes a "
        f"second to each of {COUNTS[-1]}, for {seconds:g} s."
    )
    return Table(title="Memory of a connection", about=about, columns=_COLUMNS, rows=rows)


async def _one(contender: Contender, seconds: float) -> list[float]:
    held: list[_Held] = []
    try:
        await _hold(contender, _WARM, held)
        for one in held:
            one.socket.abort()
        held.clear()
        await asyncio.sleep(_SETTLE)
        before, figures = contender.process.memory_info().rss, []
        for count in COUNTS:
            await _hold(contender, count - len(held), held)
            await asyncio.sleep(_SETTLE)
            figures.append((contender.process.memory_info().rss - before) / count / 1024)
        async with AsyncExitStack() as stack:
            if contender.deployment is None:
                held[0].socket.send(b"busy")
            else:
                publisher = await stack.enter_async_context(contender.deployment.publisher())
                await publisher.ask("begin", topic=_TOPIC, rate=1, size=100)
            await asyncio.sleep(2.0)
            texts, used = sum(one.texts for one in held), sum(contender.process.cpu_times()[:2])
            await asyncio.sleep(seconds)
            texts, used = sum(one.texts for one in held) - texts, sum(contender.process.cpu_times()[:2]) - used
            figures.append((contender.process.memory_info().rss - before) / COUNTS[-1] / 1024)
            figures.append(100 * used / seconds)
        assert texts > 0.8 * (seconds - 1) * len(held), f"{texts} texts came to {len(held)} clients in {seconds:g} s"
        return figures
    finally:
        for one in held:
            one.socket.abort()
        await asyncio.sleep(0.1)


class _Held:
    """One client that stays."""

    def __init__(self, contender: Contender) -> None:
        self.texts = 0
        self.ready = asyncio.get_running_loop().create_future()
        self._first = contender.first
        self.socket = Socket("localhost", self._opened, self._heard, self._lost, contender.path)

    def of(self) -> Socket:
        """For whoever connects it."""
        return self.socket

    def _opened(self) -> None:
        if self._first:
            self.socket.send(self._first)
        else:
            self.ready.set_result(None)

    def _heard(self, text: bytes) -> None:
        if text == b"{}":
            self.socket.send(b"{}")
        elif not self.ready.done():
            if b'"subscribe"' in text:
                self.ready.set_result(None)
        else:
            self.texts += text.count(b"\n") + 1

    def _lost(self, code: int) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"closed with {code}"))


async def _hold(contender: Contender, count: int, held: list[_Held]) -> None:
    """So many more, fifty at a time."""
    loop = asyncio.get_running_loop()
    for start in range(0, count, 50):
        some = [_Held(contender) for _ in range(min(50, count - start))]
        for one in some:
            await loop.create_connection(partial(_Held.of, one), "127.0.0.1", contender.port)
        await asyncio.wait_for(asyncio.gather(*(one.ready for one in some)), 30)
        held += some


@contextmanager
def _bare(home: Path) -> Iterator[Contender]:
    with servers.uvicorn("tests.benchmarks.rivals.sockets:bare") as server:
        yield Contender(server.processes[0], _port(server.url), "/", b"", None)


@contextmanager
def _channels(home: Path) -> Iterator[Contender]:
    home.mkdir(parents=True)
    store = StoreServer(home / "store.sock")
    store.start()
    try:
        environ = {"STORE": f"unix://{store.socket}"}
        with servers.uvicorn("tests.benchmarks.rivals.sockets:channels", environ=environ) as server:
            yield Contender(server.processes[0], _port(server.url), "/", b"", None)
    finally:
        store.stop()


@contextmanager
def _millpond(home: Path) -> Iterator[Contender]:
    with deployed(home, processes=1) as service:
        first = (
            b'{"connect":{"name":"js"},"id":1}\n'
            + json.dumps({"subscribe": {"channel": _TOPIC, "flag": 1}, "id": 2}).encode()
        )
        yield Contender(service.web()[0], service.port, "/connection/websocket", first, service)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.connections")
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds of the busy part (15)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    with tempfile.TemporaryDirectory(prefix="millpond-memory-") as home:
        print(measure(Path(home), options.seconds, options.rounds).markdown())


if __name__ == "__main__":
    main()
