"""Lost work is found: jobs whose worker went silent or whose message was lost are set going again, or end as dead.

Invariant: any number of reapers may run; what each does for a job is one atomic step that is harmless twice.
"""

from __future__ import annotations

import asyncio
import logging
import random

from asgi_app.errors import Unavailable
from asgi_app.wiring import Node
from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds between two rounds, jittered.
EVERY = 2.0


async def reap(node: Node) -> None:
    """One round.  Raises StoreUnavailable, and Unavailable when a broker elsewhere cannot be rung."""
    for job_id in await node.records.overdue():
        await see_after(node, job_id)


async def see_after(node: Node, job_id: str) -> None:
    """Look after one job that may have lost its worker or its message.  Raises as `reap`."""
    fields = await node.records.get(job_id) or {}
    queue, priority = fields.get("queue", "default"), int(fields.get("priority", 5))
    woken = await node.records.wake(job_id, node.doorbell.bell(job_id, queue=queue, priority=priority, time_limit=1.0))
    if woken.ring:
        await node.doorbell.ring(job_id, fields)
    if woken.what in ("rung", "requeued", "dead"):
        log.warning("job %s: %s (%s)", job_id, woken.what, fields.get("name"))


async def keep_reaping(node: Node) -> None:
    """Rounds until cancelled."""
    while True:
        await asyncio.sleep(EVERY * random.uniform(0.5, 1.5))
        try:
            await reap(node)
        except (StoreUnavailable, Unavailable) as error:
            log.warning("lost work was not looked for: %s", error)
        except Exception:
            log.exception("lost work was not looked for")
