"""The schedulers' part in the inboxes: who asked for a computation hears of its end, and what is old is forgotten.

Invariant: any number of schedulers may do it; each end is told once, by whoever marks it as told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from asgi_app.errors import MillpondError
from asgi_app.noticing import completion, keeping
from asgi_app.rows import in_database
from asgi_app.wiring import Node
from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds between two looks at computations that were asked for, and between two clean-ups; jittered.
LOOK, SWEEP = 1.0, 60.0


async def keep_noticing(node: Node) -> None:
    """Rounds until cancelled."""

    async def look() -> None:
        await completion.look_after(node)

    await asyncio.gather(_keep(look, LOOK), _keep(sweep, SWEEP))


async def sweep() -> None:
    """Forget what is old.  Raises Unavailable."""
    await in_database(keeping.trim, within=30.0)
    await in_database(completion.forget, within=30.0)


async def _keep(work: Callable[[], Awaitable[None]], every: float) -> None:
    while True:
        await asyncio.sleep(every * random.uniform(0.75, 1.25))
        try:
            await work()
        except (StoreUnavailable, MillpondError) as error:
            log.warning("inboxes wait: %s", error)
        except Exception:
            log.exception("inboxes were not seen after")
