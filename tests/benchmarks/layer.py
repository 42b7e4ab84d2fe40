"""One message to a group of 100 or 1,000 channels of one process: our channel layer beside both of channels_redis.

    python -m tests.benchmarks.layer [--rounds 7] [--messages 30]

Each channel has a task that awaits `receive`, as a consumer has.  A round sends some messages with `group_send`, one
after the other as fast as each returns, and ends when every task has got all of them; a round of each layer follows one
of the others, so that they share what the machine is busy with.  Given are medians over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from consumers.layer import MillpondChannelLayer
from tests.benchmarks import machine
from tests.benchmarks.table import Table
from tests.support.redis_servers import RedisServer

_LAYERS: dict[str, Any] = {
    "ours": MillpondChannelLayer,
    "channels_redis core": RedisChannelLayer,
    "channels_redis pubsub": RedisPubSubChannelLayer,
}
_SIZES = (100, 1000)
_MESSAGE = {"type": "news.came", "text": "x" * 400, "numbers": list(range(20))}
#: Seconds a round may take.
_PATIENCE = 120


class Audience:
    """The channels of one layer, and the tasks that read them."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._readers: list[asyncio.Task[None]] = []
        self._missing = 0
        self._complete = asyncio.Event()

    async def gather(self, size: int) -> None:
        """All are in the group and wait."""
        for _ in range(size):
            channel = await self._layer.new_channel()
            await self._layer.group_add("audience", channel)
            self._readers.append(asyncio.create_task(self._read(channel)))
        await self.round(1)

    async def round(self, messages: int) -> tuple[float, float]:
        """Seconds, and seconds of CPU, until everybody has all of them."""
        self._missing = messages * len(self._readers)
        self._complete.clear()
        began, cpu = time.perf_counter(), _cpu()
        async with asyncio.timeout(_PATIENCE):
            for _ in range(messages):
                await self._layer.group_send("audience", _MESSAGE)
            await self._complete.wait()
        return time.perf_counter() - began, _cpu() - cpu

    async def leave(self) -> None:
        """Nothing of it is left in the store."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await self._layer.flush()

    async def _read(self, channel: str) -> None:
        while True:
            await self._layer.receive(channel)
            self._missing -= 1
            if not self._missing:
                self._complete.set()


async def measure(url: str, size: int, rounds: int, messages: int) -> tuple[tuple[str, ...], ...]:
    """One row for each layer."""
    audiences = {}
    for name, layer in _LAYERS.items():
        # core keeps all messages of a process in one list, of which capacity is the bound
        capacity = {} if name.endswith("pubsub") else {"capacity": 10_000}
        audiences[name] = Audience(layer(hosts=[url], prefix=name.replace(" ", "-"), **capacity))
        await audiences[name].gather(size)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in audiences}
    for _ in range(rounds):
        for name, audience in audiences.items():
            gc.collect()
            took[name].append(await audience.round(messages))
    for audience in audiences.values():
        await audience.leave()
    return tuple(_row(name, size, messages, took) for name in audiences)


def _row(name: str, size: int, messages: int, took: dict[str, list[tuple[float, float]]]) -> tuple[str, ...]:
    seconds = median(wall for wall, _ in took[name])
    ratios = [theirs / ours for (theirs, _), (ours, _) in zip(took[name], took["ours"], strict=True)]
    deliveries = size * messages
    cpu = median(spent for _, spent in took[name]) / deliveries * 1e6
    return (
        str(size),
        name,
        f"{deliveries / seconds:,.0f}",
        f"{seconds / messages * 1000:.2f}",
        f"{cpu:.1f}",
        f"{median(ratios):.2f}",
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.layer")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=30)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("channels", "channels_redis", "msgpack"))
    print(f"{machine.describe()}\n* {packages}", flush=True)
    rows: tuple[tuple[str, ...], ...] = ()
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as home, RedisServer(Path(home)) as server:
        for size in _SIZES:
            rows += asyncio.run(measure(server.url, size, options.rounds, options.messages))
    table = Table(
        title="A message to a group",
        about=f"{options.messages} messages in a round, {options.rounds} rounds; TCP on loopback.",
        columns=("channels", "layer", "deliveries/s", "ms a message", "CPU µs a delivery", "time, ours = 1"),
        rows=rows,
    )
    print(f"\n{table.markdown()}")


if __name__ == "__main__":
    main()
