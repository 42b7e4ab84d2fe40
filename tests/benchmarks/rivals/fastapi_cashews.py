"""FastAPI with cashews on Redis, as the documentation of both has it: the decorator on what is slow.

`BENCH_STORE` is the URL of the store, `BENCH_HOME` where the slow function writes down that it ran; with `BENCH_KEYS`
so many keys are there from the start.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cashews import cache
from cashews.backends.redis import Redis
from cashews.picklers import PicklerType
from cashews.wrapper.backend_settings import register_backend
from fastapi import FastAPI

from tests.benchmarks.work import SLOW_SECONDS, note, rows

# the others are on a unix socket, too; cashews knows the scheme as little as redis-py needs it to
register_backend("unix", Redis, pass_uri=True, pickler=PicklerType.DEFAULT)
cache.setup(os.environ["BENCH_STORE"])


@cache(ttl="1h", key="rows:{number}")
async def table(number: int) -> list[dict[str, Any]]:
    """The rows."""
    return rows()


@cache(ttl="1h", key="slow:{name}", lock=True)
async def slow(name: str) -> list[dict[str, Any]]:
    """The rows after half a second; one computes, under a lock in the store."""
    note(Path(os.environ["BENCH_HOME"]), name)
    await asyncio.sleep(SLOW_SECONDS)
    return rows()


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    for number in range(int(os.environ.get("BENCH_KEYS", "0"))):
        await table(number)
    yield


application = FastAPI(lifespan=lifespan)


@application.get("/rows")
async def get_rows(n: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await table(n)
    return found


@application.get("/slow/{name}")
async def get_slow(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await slow(name)
    return found
