"""The schedulers' part in the inboxes: who asked for a computation hears of its end, and what is old is forgotten.

Invariant: any number of schedulers may do it; each end is told once, by whoever marks it as told.
"""

from __future__ import annotations

import asyncio

from asgi_app.noticing import completion, keeping
from asgi_app.rows import in_database
from asgi_app.wiring import Node
from tasks.rounds import keep

#: Seconds between two looks at computations that were asked for, and between two clean-ups; jittered.
LOOK, SWEEP = 1.0, 60.0


async def keep_noticing(node: Node) -> None:
    """Rounds until cancelled."""

    async def look() -> None:
        await completion.look_after(node)

    missed = "inboxes were not seen after"
    await asyncio.gather(keep(look, LOOK, missed), keep(sweep, SWEEP, missed))


async def sweep() -> None:
    """Forget what is old.  Raises Unavailable."""
    await in_database(keeping.trim, within=30.0)
    await in_database(completion.forget, within=30.0)
