"""Work of the scheduler that is done again and again.

Invariant: no failure ends it, and processes that began together do not keep step.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from asgi_app.errors import MillpondError
from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)


async def keep(work: Callable[[], Awaitable[None]], every: float, missed: str) -> None:
    """Do it every so many seconds, jittered, until cancelled.  `missed`: what a failure is logged as."""
    while True:
        await asyncio.sleep(every * random.uniform(0.75, 1.25))
        try:
            await work()
        except (StoreUnavailable, MillpondError) as error:
            log.warning("%s: %s", missed, error)
        except Exception:
            log.exception("%s", missed)
