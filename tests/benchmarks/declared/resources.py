"""The same value and the same slow function that the rivals have."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from asgi_app import action, resource
from tests.benchmarks.work import SLOW_SECONDS, note, rows


@resource("bench.rows", fresh=3600)
def table() -> list[dict[str, Any]]:
    """Some 2 KB of JSON."""
    return rows()


@resource("bench.page", fresh=3600, offload=False)
async def page(n: int = 0) -> list[dict[str, Any]]:
    """The same, under any number of keys; computed in the web process."""
    return rows()


@resource("bench.clock", fresh=3600)
def clock(n: int = 0) -> dict[str, Any]:
    """When it was computed, by the clock that all processes of the machine share, in a value of some 480 bytes."""
    return {"pad": "x" * 400, "at": time.perf_counter()}


@resource("bench.quick", fresh=3600)
def quick(n: int = 0) -> int:
    """Computed at once, by a worker."""
    return n


@resource("bench.slow", fresh=3600)
def slow(name: Annotated[str, Meta(max_length=40)]) -> list[dict[str, Any]]:
    """The same after half a second."""
    note(Path(os.environ["MILLPOND_HOME"]), name)
    time.sleep(SLOW_SECONDS)
    return rows()


@action("bench.sleep", retries=0)
def sleep(seconds: Annotated[float, Meta(ge=0, le=60)] = 0.2) -> None:
    """Waits, as a job does that asks another service."""
    time.sleep(seconds)


@action("bench.nothing", retries=0, access="public")
def nothing(n: int = 0) -> int:
    """Is done at once."""
    return n


@action("bench.short", retries=0)
def short(seconds: Annotated[float, Meta(ge=0, le=60)] = 0.01) -> None:
    """Is done soon."""
    time.sleep(seconds)


@action("bench.urgent", retries=0, priority=9)
def urgent(seconds: Annotated[float, Meta(ge=0, le=60)] = 0.01) -> None:
    """Is done soon, and comes first."""
    time.sleep(seconds)


@action("bench.apart", retries=0, queue="slow")
def apart(seconds: Annotated[float, Meta(ge=0, le=60)] = 1.5) -> None:
    """Waits on a queue of its own."""
    time.sleep(seconds)
