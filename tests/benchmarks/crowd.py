"""Many websockets in one process that only count what comes: `python -m tests.benchmarks.crowd`, of fanout.py.

A closed loop: a message is published, and the next one when every socket has it.  The client decodes nothing and sends
nothing meanwhile, so that it costs little beside the server; its own share of a core is printed all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import os
import resource
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
#: Sockets that are being opened at once, and seconds that may take; seconds for one message to reach all.
_OPENING, _WITHIN, _REACH = 100, 60.0, 15.0
MESSAGE = "x" * 440


@dataclass(slots=True)
class Round:
    """What the sockets have had of one message."""

    missing: int
    began: float
    arrivals: list[float]
    over: asyncio.Future[None]


class Watcher(asyncio.Protocol):
    """One websocket: counts large frames."""

    def __init__(self, crowd: Crowd, request: bytes, hello: bytes) -> None:
        self._crowd, self._request, self._hello = crowd, request, hello
        self._rest = b""
        self._open = False
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
            self._crowd.arrived()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("closed"))


def masked(text: bytes, kind: int = 1) -> bytes:
    """A frame of a client, of text unless its kind is said; its mask is zero."""
    length = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0x80 | 126]) + len(text).to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + b"\0\0\0\0" + text


class Crowd:
    """All of them."""

    def __init__(self) -> None:
        self.sockets: list[Watcher] = []
        self._round: Round | None = None

    def arrived(self) -> None:
        current = self._round
        if current is not None:
            current.arrivals.append(time.perf_counter() - current.began)
            current.missing -= 1
            if current.missing == 0:
                current.over.set_result(None)

    async def open(self, url: str, count: int, hello: bytes) -> float:
        """Seconds it took."""
        parts = urlsplit(url)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        gate = asyncio.Semaphore(_OPENING)
        loop = asyncio.get_running_loop()

        async def one() -> None:
            async with gate, asyncio.timeout(_WITHIN):
                made = Watcher(self, request, hello)
                await loop.create_connection(lambda: made, parts.hostname or "", parts.port or 80)
                await made.ready
                self.sockets.append(made)

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return time.perf_counter() - began

    async def tell(self, publish: Callable[[], Awaitable[Any]]) -> Round:
        """One message to all; `missing` counts those who did not get it."""
        loop = asyncio.get_running_loop()
        self._round = Round(len(self.sockets), time.perf_counter(), [], loop.create_future())
        sending = asyncio.ensure_future(publish())
        await asyncio.wait({self._round.over}, timeout=_REACH)
        told, self._round = self._round, None
        await asyncio.wait({sending}, timeout=_REACH)
        if told.missing:
            await asyncio.sleep(1.0)  # what comes too late is not the next one
        return told


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
    print(json.dumps({"opened": opening}), flush=True)
    way, _, spec = options.publish.partition("=")
    publish = await WAYS[way](spec)
    for _ in range(3):
        await crowd.tell(publish)
    while True:
        command = await asyncio.to_thread(input)
        if command == "stop":
            return
        print(json.dumps(await measure(crowd, publish, float(command))), flush=True)


async def measure(crowd: Crowd, publish: Callable[[], Awaitable[Any]], seconds: float) -> dict[str, float]:
    """Publish for some seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    rounds: list[Round] = []
    while time.perf_counter() - began < seconds or not rounds:
        rounds.append(await crowd.tell(publish))
    took = time.perf_counter() - began
    last = sorted(told.arrivals[-1] if not told.missing else math.inf for told in rounds)
    return {
        "deliveries": sum(len(told.arrivals) for told in rounds) or 1,
        "lost": sum(told.missing for told in rounds),
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
