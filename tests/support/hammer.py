"""Another process of the machine that looks one key up again and again, and knows when it saw which value last.

All times are of the monotonic clock, which the processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key
from tests.support.keys import key
from tests.support.processes import Process

ROOT = Path(__file__).resolve().parents[2]
#: What it looks up, and what that is tagged with.
TAG = "sales"


def hammered() -> Key:
    """The key."""
    return key("hammered", tags=(TAG,), fresh=1000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What it has seen: values, with when the last look-up that found them began."""

    #: As fresh, from wherever.
    fresh: Mapping[str, float]
    #: From its own memory.
    copies: Mapping[str, float]
    #: How many look-ups there were.
    looks: int


class Hammer:
    """`async with Hammer(url, namespace) as hammer`: it is at work."""

    def __init__(self, url: str, namespace: str, *, feed: str = "", tracking: str = "") -> None:
        self._arguments = [url, namespace, feed, tracking]

    async def __aenter__(self) -> Hammer:
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.hammer",
            *self._arguments,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert await self._line() == b"ready\n"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.go_on()
        assert self._child.stdin is not None
        self._child.stdin.close()
        async with asyncio.timeout(30):
            assert await self._child.wait() == 0

    async def report(self) -> Report:
        """What it has seen until now."""
        assert self._child.stdin is not None
        self._child.stdin.write(b"report\n")
        return Report(**json.loads(await self._line()))

    async def has_a_copy(self, value: str) -> None:
        """Return when it has served the value from its own memory."""
        async with asyncio.timeout(30):
            while value not in (await self.report()).copies:
                await asyncio.sleep(0.005)

    async def has_no_copies(self) -> None:
        """Return when it serves nothing from its own memory."""
        async with asyncio.timeout(30):
            before = after = await self.report()
            while after.looks == before.looks or after.copies != before.copies:
                await asyncio.sleep(0.05)
                before, after = after, await self.report()

    async def hold_still(self) -> None:
        """Stop the process; return when it is."""
        os.kill(self._child.pid, signal.SIGSTOP)
        async with asyncio.timeout(30):
            while psutil.Process(self._child.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.005)

    def go_on(self) -> None:
        os.kill(self._child.pid, signal.SIGCONT)

    async def _line(self) -> bytes:
        assert self._child.stdout is not None
        async with asyncio.timeout(30):
            return await self._child.stdout.readline()


@dataclass
class _Seen:
    fresh: dict[str, float] = field(default_factory=dict)
    copies: dict[str, float] = field(default_factory=dict)
    looks: int = 0


async def _hammer(url: str, namespace: str, feed: str, tracking: str) -> None:
    seen = _Seen()
    async with Process(url, namespace, feed=feed, tracking=tracking) as process:
        answering = asyncio.create_task(_answer(seen))
        while not answering.done():
            for _ in range(20):
                await _look(process, seen)
            await asyncio.sleep(0)
        await answering


async def _look(process: Process, seen: _Seen) -> None:
    began, hits = time.monotonic(), process.near.stats.hits
    seen.looks += 1
    try:
        found = await process.cache.lookup(hammered())
    except StoreUnavailable:
        return
    if found.entry is not None and found.age < found.entry.fresh and not found.softened:
        value = found.entry.payload.decode()
        seen.fresh[value] = began
        if process.near.stats.hits > hits:
            seen.copies[value] = began


async def _answer(seen: _Seen) -> None:
    """Until the end of the input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while await reader.readline():
        print(json.dumps(asdict(seen)), flush=True)


if __name__ == "__main__":
    asyncio.run(_hammer(*sys.argv[1:]))
