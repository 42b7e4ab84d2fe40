"""Slow resources that many ask for at once; the ledger counts what really ran."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from msgspec import Meta

from asgi_app import resource
from tests.support.app.resources import note

Name = Annotated[str, Meta(max_length=40)]
#: How long a computation takes, in seconds.
SECONDS = 1.0


@resource("stampede.offloaded", fresh=600, stale=600)
def offloaded(name: Name) -> float:
    """Computed by a worker."""
    note(f"offloaded {name}")
    time.sleep(SECONDS)
    return time.time()


@resource("stampede.in_place", fresh=600, stale=600, offload=False)
async def in_place(name: Name) -> float:
    """Computed in a web process."""
    note(f"in_place {name}")
    await asyncio.sleep(SECONDS)
    return time.time()
