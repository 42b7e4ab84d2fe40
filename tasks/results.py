"""Results of plain Celery tasks are forgotten when their time is over, also where the place itself forgets nothing.

Celery leaves that to a task of its beat, which we do not run.  Invariant: any number of schedulers may do it at once.
"""

from __future__ import annotations

import asyncio
import logging
import random

from asgi_app.wiring import Node
from tasks.app import app

log = logging.getLogger(__name__)

#: Seconds between two rounds, jittered.
EVERY = 900.0


async def keep_forgetting(node: Node) -> None:
    """Rounds until cancelled; in a Redis results have a time to live, and there is nothing to do."""
    if not (node.env.result_backend or "").startswith("db+"):
        return
    while True:
        await asyncio.sleep(EVERY * random.uniform(0.5, 1.5))
        try:
            await asyncio.to_thread(forget)
        except Exception as error:  # each back end has errors of its own, and all mean the same here
            log.warning("old results of plain tasks were not forgotten: %s", type(error).__name__)


def forget() -> None:
    """Drop what is older than `result_expires`.  Raises what the back end raises."""
    app.backend.cleanup()
