"""F. Deltas: what they save of the demo's own values, and what they cost.

The whole service runs with the demo; its topics are watched as they are for some seconds, and what came is told again
as to a subscription with deltas.  The bytes are those of the frames on the wire; the microseconds are those of one
delta, which all subscriptions share, with the text of its JSON string.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, cast

import msgspec
from websockets.asyncio.client import connect

from cache_layer.position import Position
from consumers import delta, frames, rendering
from consumers.channel import Channel, News, Subscription
from tests.benchmarks.table import Table
from tests.support.service import Service

TOPICS = (
    "flights.clock",
    "flights.board",
    "flights.delays_by_carrier",
    "flights.delays_by_hour",
    "flights.delays_by_route",
    "flights.cancellations",
    "host.metrics",
)
#: How often a delta is made for its time.
_REPEAT = 5


class _Publication(msgspec.Struct):
    data: msgspec.Raw
    offset: int = 0


class _Push(msgspec.Struct):
    channel: str = ""
    pub: _Publication | None = None


class _Frame(msgspec.Struct):
    push: _Push | None = None


@dataclass
class Told:
    """What was told of one topic."""

    payloads: list[int] = field(default_factory=list)
    plain: list[int] = field(default_factory=list)
    with_deltas: list[int] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)


def measure(home: Path, seconds: float, rounds: int) -> Table:
    """Watch the demo for `seconds` times `rounds`, and tell it again."""
    service = Service(home, MILLPOND_APPS="", MILLPOND_WORKER_CONCURRENCY="2").start(within=120)
    try:
        heard = asyncio.run(_watch(service.websocket, seconds * rounds))
    finally:
        service.stop()
    rows = [(topic, *_row(_tell(topic, payloads))) for topic, payloads in heard.items() if len(payloads) > 1]
    return Table(
        title="F. Deltas",
        about=f"The demo's values as they came in {seconds * rounds:g} s, told in whole and as deltas; medians.",
        columns=(
            "topic",
            "values",
            "bytes of a value",
            "of its frame",
            "as a delta",
            "saved of all",
            "µs for it",
            "µs/KB",
        ),
        rows=tuple(rows),
    )


async def _watch(url: str, seconds: float) -> dict[str, list[bytes]]:
    heard: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}
    commands = [{"id": 1, "connect": {}}]
    commands += [{"id": 2 + number, "subscribe": {"channel": topic}} for number, topic in enumerate(TOPICS)]
    decoder = msgspec.json.Decoder(_Frame)
    async with connect(url, proxy=None, max_size=None) as socket:
        await socket.send("\n".join(msgspec.json.encode(command).decode() for command in commands))
        try:
            async with asyncio.timeout(seconds):
                async for text in socket:
                    for line in str(text).splitlines():
                        if line == frames.PING:
                            await socket.send(frames.PING)
                        push = decoder.decode(line).push
                        if push is not None and push.pub is not None and push.pub.offset:
                            heard[push.channel].append(bytes(push.pub.data))
        except TimeoutError:
            return heard
    raise AssertionError("the service closed the connection")


def _tell(topic: str, payloads: list[bytes]) -> Told:
    told = Told()
    nobody = cast(Any, None)
    subscription = Subscription(Channel(), nobody, nobody, topic)
    delta.begin(subscription, [News("value", payloads[0], None, 1)])
    for offset, payload in enumerate(payloads[1:], start=2):
        base, took = subscription.base, []
        for _ in range(_REPEAT):
            subscription.base = base
            news = News("value", payload, Position("e", offset), offset)
            begun = time.perf_counter()
            frame = rendering.frame(subscription, news)
            took.append(time.perf_counter() - begun)
        told.payloads.append(len(payload))
        told.plain.append(len(frames.push(topic, "pub", frames.publication(payload, offset))))
        told.with_deltas.append(len(frame))
        told.microseconds.append(1e6 * min(took))
    return told


def _row(told: Told) -> tuple[str, ...]:
    saved = 1 - sum(told.with_deltas) / sum(told.plain)
    per_kilobyte = 1024 * sum(told.microseconds) / sum(told.payloads)
    sizes = (f"{median(told.payloads):.0f}", f"{median(told.plain):.0f}", f"{median(told.with_deltas):.0f}")
    return (str(len(told.plain)), *sizes, f"{saved:.0%}", f"{median(told.microseconds):.0f}", f"{per_kilobyte:.0f}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as home:
        print(measure(Path(home), seconds=3.0, rounds=20).markdown())


if __name__ == "__main__":
    main()
