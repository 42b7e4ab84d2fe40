"""Running actions and ending jobs on behalf of who asks, by whatever door they come.

Invariant: nothing happens that the principal may not do; another principal's job does not exist for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_app import access, jobs, wiring
from asgi_app.errors import BadParameters, NotFound
from asgi_app.registry import Principal, registry

_LONGEST_KEY = 255


async def run(name: str, params: Mapping[str, Any], principal: Principal, *, idempotency_key: str | None = None) -> str:
    """Run an action; the id of its job.  The same key again is the same job.

    Raises UnknownAction, BadParameters, Unauthenticated, Denied, IdempotencyMismatch, TooManyRequests, Unavailable.
    """
    action = registry.action(name)
    typed = action.parse(params, text=False)
    if action.access != "public":
        access.require_scope(principal, "run")
    if idempotency_key is not None and not 0 < len(idempotency_key) <= _LONGEST_KEY:
        raise BadParameters([{"name": "Idempotency-Key", "reason": f"1 to {_LONGEST_KEY} characters"}])
    await access.check_outside(action, principal, typed)
    return await wiring.node().submitter.action(action, typed, principal, idempotency_key=idempotency_key)


async def visible(job_id: str, principal: Principal) -> jobs.Fields:
    """The fields of a job that `principal` may see.  Raises NotFound, and what `Desk.find` raises."""
    if not jobs.is_job_id(job_id):
        raise NotFound("there is no such job")
    return await jobs.check_visible(await wiring.node().desk.find(job_id), principal)


async def cancel(job_id: str, principal: Principal) -> tuple[jobs.Fields, bool]:
    """Ask for the end of a job: what has become of it, and whether it was over already; needs the scope `run`.

    Raises NotFound, Unauthenticated, Denied, and what `Desk.cancel` raises.
    """
    access.require_scope(principal, "run")
    fields = await visible(job_id, principal)
    over = await wiring.node().desk.cancel(fields, principal)
    return await visible(fields["id"], principal), over
