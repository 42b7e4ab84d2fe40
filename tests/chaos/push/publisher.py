"""A process that publishes: `python -m tests.chaos.push.publisher`, with the environment of a service.

It stands for workers and other code of users.  Each publication carries a number and the time; what the store has
answered goes into a ledger, a line each: number, epoch, offset.  What it did not answer may have been published or not.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.push.children import serve


class Publisher:
    """What can be asked of it."""

    def __init__(self) -> None:
        self._home = Path(os.environ["MILLPOND_HOME"])
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._numbers: dict[str, int] = {}
        self._tops: dict[str, tuple[str, int]] = {}
        self._failed: dict[str, int] = {}

    def able(self) -> Mapping[str, Callable[..., Awaitable[Any]]]:
        return {"begin": self.begin, "end": self.end, "burst": self.burst}

    async def begin(self, topic: str, rate: float, size: int = 0) -> bool:
        """Publish `rate` a second from now on, with `size` bytes each."""
        self._tasks[topic] = asyncio.create_task(self._publish(topic, rate, size))
        return True

    async def end(self, topic: str) -> dict[str, Any]:
        """No more; how much it was, and the last position."""
        task = self._tasks.pop(topic)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return self._state(topic)

    async def burst(self, topic: str, count: int, size: int = 0) -> dict[str, Any]:
        """Publish so many, one after the other."""
        with self._ledger(topic).open("a") as ledger:
            for _ in range(count):
                ledger.write(await self._one(topic, size))
        return self._state(topic)

    def _state(self, topic: str) -> dict[str, Any]:
        return {
            "published": self._numbers.get(topic, 0),
            "failed": self._failed.get(topic, 0),
            "top": self._tops.get(topic),
            "ledger": str(self._ledger(topic)),
        }

    def _ledger(self, topic: str) -> Path:
        return self._home / f"ledger-{topic}"

    async def _publish(self, topic: str, rate: float, size: int) -> None:
        due = time.monotonic()
        value = topic.startswith("push.value")
        with self._ledger(topic).open("a", buffering=1) as ledger:
            while True:
                # Shielded: what was begun is written down.
                one = asyncio.ensure_future(self._change(topic, size) if value else self._one(topic, size))
                try:
                    line = await asyncio.shield(one)
                except asyncio.CancelledError:
                    ledger.write(await one)
                    raise
                ledger.write(line)
                due = max(due + 1 / rate, time.monotonic() - 1.0)
                await asyncio.sleep(due - time.monotonic())

    async def _one(self, topic: str, size: int) -> str:
        from asgi_app import apublish
        from cache_layer.errors import StoreUnavailable

        number = self._numbers[topic] = self._numbers.get(topic, 0) + 1
        try:
            position = await apublish(topic, {"n": number, "t": time.monotonic(), "pad": "x" * size})
        except StoreUnavailable:
            self._failed[topic] = self._failed.get(topic, 0) + 1
            await asyncio.sleep(0.05)
            return ""
        assert position is not None
        self._tops[topic] = (position.epoch, position.offset)
        return f"{number} {position.epoch} {position.offset}\n"

    async def _change(self, topic: str, size: int) -> str:
        from asgi_app import ainvalidate

        name = topic.rpartition("=")[2]
        number = self._numbers[topic] = self._numbers.get(topic, 0) + 1
        put_value(self._home, name, number, size)
        await ainvalidate(f"push.{name}")
        return ""


def put_value(home: Path, name: str, number: int, size: int) -> None:
    """What `push.value` of this name shall be, changed in one moment."""
    draft = home / f"value-{name}.draft"
    draft.write_text(f"{number} {size}")
    draft.rename(home / f"value-{name}")


async def _make() -> Mapping[str, Callable[..., Awaitable[Any]]]:
    import django

    django.setup()
    from asgi_app import wiring

    await wiring.start_node()
    return Publisher().able()


if __name__ == "__main__":
    serve(_make)
