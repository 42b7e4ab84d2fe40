"""The load generator: a process of its own that keeps HTTP/1.1 connections busy, one request at a time on each.

    python -m tests.benchmarks.client URL --connections 16 --seconds 3     one after another, until the time is over
    python -m tests.benchmarks.client URL --connections 200 --once         one on each, all in the same moment

Prints one JSON object (`Outcome`).  Answers are cut by their Content-Length and otherwise not looked at, so that the
client costs less than any server; whether it did is part of the outcome.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from typing import cast
from urllib.parse import urlsplit

import msgspec

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
    """Sends its request again as soon as it has an answer, while `going`."""

    def __init__(self, request: bytes, tally: _Tally) -> None:
        self._request, self._tally = request, tally
        self._received = bytearray()
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport does not say that it is one
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._received, 0, head + 2)
        if length is None:
            self._end(ValueError("an answer without Content-Length"))
        elif len(self._received) >= head + 4 + int(length[1]):
            now = time.perf_counter()
            self._tally.answered(int(self._received[9:12]), int(length[1]), now - self._sent_at)
            self._received.clear()
            if self._tally.going(now):
                self.send()
            else:
                self._end(None)

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


class _Tally:
    """All answers of all connections."""

    def __init__(self) -> None:
        #: Time of perf_counter from which on nothing more is sent.
        self.until = 0.0
        self.statuses: Counter[int] = Counter()
        self.took: list[float] = []
        self.body = 0

    def answered(self, status: int, length: int, seconds: float) -> None:
        self.statuses[status] += 1
        self.took.append(seconds)
        self.body = length

    def going(self, now: float) -> bool:
        return now < self.until


async def _load(url: str, connections: int, seconds: float) -> Outcome:
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nPrefer: wait=30\r\n\r\n".encode()
    assert parts.hostname
    assert parts.port
    host, port = parts.hostname, parts.port
    tally = _Tally()
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: _Connection(request, tally), host, port))[1] for _ in range(connections)
    ]
    began, cpu = time.perf_counter(), time.process_time()
    tally.until = began + seconds
    for connection in opened:
        connection.send()
    async with asyncio.timeout(seconds + _PATIENCE):
        await asyncio.gather(*(connection.ended for connection in opened))
    took = sorted(tally.took)
    return Outcome(
        statuses=dict(tally.statuses),
        body=tally.body,
        seconds=time.perf_counter() - began,
        cpu=time.process_time() - cpu,
        median_ms=1000 * took[len(took) // 2],
        p99_ms=1000 * took[len(took) * 99 // 100],
        last_ms=1000 * took[-1],
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.client")
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    import uvloop

    outcome = uvloop.run(_load(options.url, options.connections, 0.0 if options.once else options.seconds))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
