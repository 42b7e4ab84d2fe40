"""The same value and the same slow function that the rivals have."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from asgi_app import resource
from tests.benchmarks.work import SLOW_SECONDS, note, rows


@resource("bench.rows", fresh=3600)
def table() -> list[dict[str, Any]]:
    """Some 2 KB of JSON."""
    return rows()


@resource("bench.slow", fresh=3600)
def slow(name: Annotated[str, Meta(max_length=40)]) -> list[dict[str, Any]]:
    """The same after half a second."""
    note(Path(os.environ["MILLPOND_HOME"]), name)
    time.sleep(SLOW_SECONDS)
    return rows()
