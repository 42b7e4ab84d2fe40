"""The machine's metrics come from the machine, and Millpond's processes are found among all others."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta

import psutil

from asgi_app.demo import host
from asgi_app.registry import registry


async def test_the_metrics_are_those_of_this_machine() -> None:
    """Every core, the memory, rates that are not negative, and the time."""
    found = await registry.resource("host.metrics").function()
    assert len(found["cpu"]) == psutil.cpu_count()
    assert all(0 <= percent <= 100 for percent in found["cpu"])
    assert len(found["load"]) == 3
    assert found["memory"]["total"] == psutil.virtual_memory().total
    assert 0 < found["memory"]["available"] <= found["memory"]["total"]
    assert min(found["net"].values()) >= 0
    assert abs(datetime.fromisoformat(found["time"]) - datetime.now(UTC)) < timedelta(seconds=10)


async def test_a_process_is_found_by_its_command_and_gone_when_it_ends() -> None:
    """A worker shows with its role, its number and its memory, until it ends; this process, a test, never."""
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, "-m", "asgi_app", "worker"]
    worker = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"up\n"
    machine = host.Host()
    shown = {row["pid"]: row for row in (await machine.metrics())["processes"]}
    assert shown[worker.pid]["role"] == "worker"
    assert shown[worker.pid]["rss"] > 1_000_000
    assert os.getpid() not in shown
    await worker.communicate(b"")
    assert worker.pid not in {row["pid"] for row in (await machine.metrics())["processes"]}
