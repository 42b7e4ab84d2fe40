"""A request that follows a job: held until something has become of it.

Invariant: it is held no longer than it asked for, and what it is shown was judged anew at each look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from asgi_app import jobs, wiring
from asgi_app.acting import visible
from asgi_app.registry import Principal
from asgi_app.waiting import Waiter
from cache_layer.publication import parse


async def followed(
    fields: jobs.Fields, principal: Principal, enough: Callable[[jobs.Fields], bool], wait: float
) -> jobs.Fields:
    """The job once it is over or `enough` has become of it, or as it is after `wait` seconds."""
    node, job_id = wiring.node(), fields["id"]

    def done() -> bool:
        return fields["status"] in jobs.TERMINAL or enough(fields)

    if done():
        return fields
    deadline = asyncio.get_running_loop().time() + wait
    async with Waiter(node.feed, node.store.names.job_channel(job_id), parse, deadline, None) as waiter:
        while waiter.listening:
            fields = await visible(job_id, principal)
            if done() or not await waiter.woken():
                break
            await node.desk.want(fields)
    return fields
