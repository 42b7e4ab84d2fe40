"""Many websockets in one process that only count what comes: `python -m tests.benchmarks.crowd`, of fanout.py.

A closed loop: a message is published, and the next one when every socket has it, or when it has had its time: then who
has not got it has lost it.  The client decodes nothing and sends nothing meanwhile, so that it costs little beside the
server; its own share of a core is printed all the same.

Invariant: everything ends within a bound; sockets that could not be opened, or have ended, are counted and not waited
for.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import uvloop

from cache_layer.history import History
from cache_layer.redis import Store

#: Frames of fewer bytes are no messages.
_SMALL = 100
#: Kinds of frames (RFC 6455, section 5.2).
_PING, _PONG = 9, 10
#: Sockets that are being opened at once, and seconds for all of them.
_OPENING, _WITHIN = 100, 40.0
#: Seconds for one message to reach all.  After a loss: seconds without a message until the next one, and at most.
_REACH, _QUIET, _QUIET_WITHIN = 15.0, 1.0, 5.0
#: Messages that warm up, and seconds after which there is no further one.
_WARM, _WARM_WITHIN = 3, 2.0
MESSAGE = "x" * 440


@dataclass(slots=True)
class Round:
    """What the sockets have had of one message."""

    #: Those that may still get it.
    missing: int
    began: float
    #: Seconds from the beginning, in their order.
    arrivals: list[float]
    over: asyncio.Future[None]
    #: Sockets that ended before they had it; when the round is over, those that never got it, too.
    lost: int = 0

    def less(self) -> None:
        """One less to wait for."""
        self.missing -= 1
        if self.missing == 0:
            self.over.set_result(None)


class Watcher(asyncio.Protocol):
    """One websocket: counts large frames."""

    def __init__(self, crowd: Crowd, request: bytes, hello: bytes) -> None:
        self._crowd, self._request, self._hello = crowd, request, hello
        self._transport: Any = None
        self.closed = False
        self._rest = b""
        self._open = False
        #: The message it had last.
        self.had: Round | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if not self._open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.ready.set_exception(ConnectionError(head.decode("latin-1")))
                return
            self._open = True
            if self._hello:
                self._transport.write(masked(self._hello))
            else:
                self.ready.set_result(None)
        at = 0
        while len(data) - at >= 2:
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if len(data) < begin + size or len(data) < begin:
                break
            kind, at = data[at] & 0x0F, begin + size
            self._take(kind, size, data[begin:at])
        self._rest = data[at:]

    def _take(self, kind: int, size: int, text: bytes) -> None:
        if kind == _PING:
            self._transport.write(masked(text, _PONG))
        elif text == b"{}":
            self._transport.write(masked(text))
        elif not self.ready.done():
            if b'"subscribe"' in text or b'"error"' in text:
                self.ready.set_result(None)
        elif size >= _SMALL:
            self._crowd.arrived(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("closed"))
        self._crowd.ended(self)

    def give_up(self) -> None:
        """Close it; may be called before it was open."""
        if self._transport is not None:
            self._transport.abort()


def masked(text: bytes, kind: int = 1) -> bytes:
    """A frame of a client, of text unless its kind is said; its mask is zero."""
    length = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0x80 | 126]) + len(text).to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + b"\0\0\0\0" + text


class Crowd:
    """All of them."""

    def __init__(self) -> None:
        self.sockets: set[Watcher] = set()
        self._round: Round | None = None
        self._heard_at = 0.0

    def arrived(self, socket: Watcher) -> None:
        """A message has come to one of them."""
        self._heard_at = time.perf_counter()
        current = self._round
        if current is not None and socket.had is not current:
            socket.had = current
            current.arrivals.append(self._heard_at - current.began)
            current.less()

    def ended(self, socket: Watcher) -> None:
        """One of them is closed: what is under way is lost to it, and nothing more is waited for."""
        if socket not in self.sockets:
            return
        self.sockets.discard(socket)
        current = self._round
        if current is not None and socket.had is not current:
            current.lost += 1
            current.less()

    async def open(self, url: str, count: int, hello: bytes) -> float:
        """Open as many as can be in time; the seconds it took."""
        parts = urlsplit(url)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        gate = asyncio.Semaphore(_OPENING)
        loop = asyncio.get_running_loop()

        async def one() -> None:
            async with gate:
                made = Watcher(self, request, hello)
                try:
                    await loop.create_connection(lambda: made, parts.hostname or "", parts.port or 80)
                    await made.ready
                    if made.closed:
                        raise ConnectionError("closed")
                except BaseException:
                    made.give_up()
                    raise
                self.sockets.add(made)

        began = time.perf_counter()
        opening = [loop.create_task(one()) for _ in range(count)]
        _, late = await asyncio.wait(opening, timeout=_WITHIN)
        for task in late:
            task.cancel()
        took = time.perf_counter() - began
        failures = await asyncio.gather(*opening, return_exceptions=True)
        if failed := [error for error in failures if error is not None]:
            print(f"{len(failed)} sockets of {count} were not opened: {failed[0]!r}", file=sys.stderr)
        return took

    async def tell(self, publish: Callable[[], Awaitable[Any]]) -> Round:
        """One message to all."""
        loop = asyncio.get_running_loop()
        current = self._round = Round(len(self.sockets), time.perf_counter(), [], loop.create_future())
        sending = asyncio.ensure_future(publish())
        await asyncio.wait({current.over}, timeout=_REACH)
        self._round = None
        current.lost += current.missing
        async with asyncio.timeout(_REACH):
            await sending
        if current.lost:
            await self._quiet()  # what comes too late is not the next one
        return current

    async def _quiet(self) -> None:
        began = self._heard_at = time.perf_counter()
        while (now := time.perf_counter()) < min(self._heard_at + _QUIET, began + _QUIET_WITHIN):
            await asyncio.sleep(min(self._heard_at + _QUIET - now, _QUIET))


async def over_store(spec: str) -> Callable[[], Awaitable[Any]]:
    """`<url of the store>|<namespace>|<topic>`: publish on a log of Millpond, as any process of it does."""
    url, namespace, topic = spec.split("|")
    history = History(Store(url, namespace))
    data = json.dumps(MESSAGE).encode()
    return lambda: history.append(topic, data, size=100, ttl=60)


async def over_layer(spec: str) -> Callable[[], Awaitable[None]]:
    """`<backend>|<config as JSON>`: group_send of a layer of Channels."""
    backend, config = spec.split("|", 1)
    module, _, name = backend.rpartition(".")
    layer = getattr(import_module(module), name)(**json.loads(config))

    async def publish() -> None:
        await layer.group_send("crowd", {"type": "crowd.message", "text": MESSAGE})

    return publish


async def over_line(address: str) -> Callable[[], Awaitable[None]]:
    """`host:port`: a line to a port of the server."""
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))

    async def publish() -> None:
        writer.write(b"\n")

    return publish


WAYS = {"store": over_store, "layer": over_layer, "line": over_line}


async def main(options: argparse.Namespace) -> None:
    crowd = Crowd()
    opening = await crowd.open(options.url, options.sockets, options.hello.encode())
    print(json.dumps({"seconds": opening, "sockets": len(crowd.sockets)}), flush=True)
    way, _, spec = options.publish.partition("=")
    publish = await WAYS[way](spec)
    until = time.perf_counter() + _WARM_WITHIN
    for _ in range(_WARM):
        if crowd.sockets and time.perf_counter() < until:
            await crowd.tell(publish)
    while True:
        command = await asyncio.to_thread(input)
        if command == "stop":
            return
        print(json.dumps(await measure(crowd, publish, float(command))), flush=True)


async def measure(crowd: Crowd, publish: Callable[[], Awaitable[Any]], seconds: float) -> dict[str, float]:
    """Publish for some seconds."""
    began, cpu, at_first = time.perf_counter(), time.process_time(), len(crowd.sockets)
    rounds: list[Round] = []
    while crowd.sockets and (time.perf_counter() - began < seconds or not rounds):
        rounds.append(await crowd.tell(publish))
    took = time.perf_counter() - began
    last = sorted(math.inf if told.lost else told.arrivals[-1] for told in rounds) or [math.inf]
    return {
        "deliveries": sum(len(told.arrivals) for told in rounds),
        "lost": sum(told.lost for told in rounds),
        "ended": at_first - len(crowd.sockets),
        "seconds": took,
        "last_p50": median(last),
        "last_p99": last[min(len(last) - 1, int(len(last) * 0.99))],
        "client_busy": (time.process_time() - cpu) / took,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.crowd")
    parser.add_argument("--url", required=True)
    parser.add_argument("--sockets", type=int, required=True)
    parser.add_argument("--hello", default="", help="text of the first frame; its answer is waited for")
    parser.add_argument("--publish", required=True, help="store=..., layer=... or line=...")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(main(parser.parse_args()))
