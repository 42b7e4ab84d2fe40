"""The load generator: a process of its own that keeps HTTP/1.1 connections busy, one request at a time on each.

    python -m tests.benchmarks.client URL --connections 16 --seconds 3     one after another, until the time is over
    python -m tests.benchmarks.client URL --connections 200 --once         one on each, all in the same moment
    python -m tests.benchmarks.client 'URL?n={key}' --keys 10000           keys in turn by the law of Zipf
    python -m tests.benchmarks.client 'URL?n={key}' --keys 10000 --sweep   each key once

Prints one JSON object (`Outcome`).  Requests are made before; answers are cut by their Content-Length and otherwise not
looked at, so that the client costs less than any server; whether it did is part of the outcome.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from itertools import cycle
from typing import cast
from urllib.parse import urlsplit

import msgspec

from tests.benchmarks import zipf
from tests.benchmarks.figures import percentile

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
#: Seconds a request may take.
_PATIENCE = 60.0


class Outcome(msgspec.Struct, kw_only=True):
    """What one run of the client saw."""

    #: Answers by status.
    statuses: dict[int, int]
    #: Bytes of the body of the last answer.
    body: int
    seconds: float
    #: CPU seconds the client itself took meanwhile.
    cpu: float
    #: Milliseconds from a request to the end of its answer.
    median_ms: float
    p99_ms: float
    last_ms: float

    @property
    def answers(self) -> int:
        return sum(self.statuses.values())


def run(url: str, *flags: str) -> Outcome:
    """Run the client as a child process.  Raises CalledProcessError when it fails."""
    command = [sys.executable, "-m", "tests.benchmarks.client", url, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=4 * _PATIENCE)
    return msgspec.json.decode(done.stdout, type=Outcome)


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as it has an answer, while there is one."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._rest = b""
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport does not say that it is one
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        request = self._load.next(self._sent_at)
        if request is None:
            self._end(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        head = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
        if length is None or len(data) < head + 4 + int(length[1]):
            self._rest = data
            if head >= 0 and length is None:
                self._end(ValueError("an answer without Content-Length"))
            return
        self._rest = b""
        self._load.answered(data[9:12], length[1], time.perf_counter() - self._sent_at)
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionResetError("the server closed the connection"))

    def _end(self, error: Exception | None) -> None:
        self._transport.close()
        if self.ended.done():
            return
        if error is not None:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)


class _Load:
    """What is asked, and all answers of all connections."""

    def __init__(self, requests: Iterator[bytes], until: float) -> None:
        self._requests = requests
        #: Time of perf_counter from which on nothing more is sent.
        self.until = until
        self.statuses: dict[bytes, int] = {}
        self.took = array("d")
        self.length = b"0"

    def next(self, now: float) -> bytes | None:
        return next(self._requests, None) if now < self.until else None

    def answered(self, status: bytes, length: bytes, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.took.append(seconds)
        self.length = length


def _requests(options: argparse.Namespace) -> Iterator[bytes]:
    """Those of the whole run, made before it."""
    keys = range(options.first, options.first + options.keys) if options.keys else (0,)
    made = [_request(options.url.replace("{key}", str(key)), options.headers) for key in keys]
    if options.once:
        return iter(made * options.connections)
    if options.sweep:
        return iter(made)
    order = zipf.sequence(len(made)) if len(made) > 1 else [0]
    return cycle([made[key] for key in order])


def _request(url: str, headers: list[str]) -> bytes:
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


async def _run(options: argparse.Namespace) -> Outcome:
    parts = urlsplit(options.url)
    assert parts.hostname
    assert parts.port
    host, port, loop = parts.hostname, parts.port, asyncio.get_running_loop()
    seconds = _PATIENCE if options.once or options.sweep else options.seconds
    load = _Load(_requests(options), 0.0)
    opened = [
        (await loop.create_connection(lambda: _Connection(load), host, port))[1] for _ in range(options.connections)
    ]
    began, cpu = time.perf_counter(), time.process_time()
    load.until = began + seconds
    for connection in opened:
        connection.send()
    async with asyncio.timeout(seconds + _PATIENCE):
        await asyncio.gather(*(connection.ended for connection in opened))
    return Outcome(
        statuses={int(status): count for status, count in load.statuses.items()},
        body=int(load.length),
        seconds=time.perf_counter() - began,
        cpu=time.process_time() - cpu,
        median_ms=1000 * percentile(load.took, 0.5),
        p99_ms=1000 * percentile(load.took, 0.99),
        last_ms=1000 * max(load.took),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.client")
    parser.add_argument("url", help="with --keys: {key} in it is a number")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--keys", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first key")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--header", dest="headers", action="append", default=[])
    options = parser.parse_args()
    import uvloop

    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_run(options))))


if __name__ == "__main__":
    main()
