"""The Python API for other code, each function twice: synchronous, and with an `a` in front for coroutines.

Invariant: the synchronous one is the asynchronous one, run on the process's own loop.
"""

from __future__ import annotations

from typing import Any

import msgspec

from asgi_app import wiring
from asgi_app.errors import ComputationTimeout, from_problem
from asgi_app.registry import Principal, Resource, registry


async def aread(name: str, /, **params: Any) -> Any:
    """The value of a resource, fresh or stale within its window; waits for its computation if there is none.

    Raises BadParameters, UnknownResource, ComputationFailed, ComputationTimeout after the resource's time limit, and
    Unavailable.  It asks with all rights: access is the caller's matter.  Resources with `vary` cannot be read so.
    """
    resource = registry.resource(name)
    typed = resource.parse(params, text=False)
    wait = _patience(resource)
    reading = await wiring.acall(
        lambda node: node.reader.read(resource, typed, Principal.public(), wait=wait, trusted=True)
    )
    if reading.entry is not None:
        return msgspec.json.decode(reading.entry.payload)
    if reading.error is not None:
        raise from_problem(reading.error)
    raise ComputationTimeout(f"{name} was not there after {wait:g} s")


async def ainvalidate(*tags: str) -> None:
    """Outdate every value that carries one of the tags.  When it returns, nobody is served an older one.

    Raises StoreUnavailable; safe to repeat.  Inside a transaction use `invalidate`, which waits for the commit.
    """
    await wiring.acall(lambda node: node.cache.invalidate(*tags))


async def arefresh(name: str, /, **params: Any) -> str:
    """Compute a resource anew although its value may be fresh; the id of the job."""
    resource = registry.resource(name)
    typed = resource.parse(params, text=False)
    return await wiring.acall(lambda node: node.reader.refresh(resource, typed, Principal.public(), trusted=True))


async def arun(name: str, /, **params: Any) -> str:
    """Run an action on a worker; the id of its job."""
    action = registry.action(name)
    typed = action.parse(params, text=False)
    return await wiring.acall(lambda node: node.submitter.action(action, typed, Principal.public(), trusted=True))


def read(name: str, /, **params: Any) -> Any:
    """See `aread`."""
    deadline = _patience(registry.resource(name)) + 5.0
    return wiring.call(lambda node: aread(name, **params), deadline)


def invalidate(*tags: str) -> None:
    """See `ainvalidate`.  Inside `transaction.atomic()` it happens after the commit, and not at all on a rollback."""
    from asgi_app.invalidation import invalidate_after_commit

    invalidate_after_commit(tags)


def refresh(name: str, /, **params: Any) -> str:
    """See `arefresh`."""
    return wiring.call(lambda node: arefresh(name, **params))


def run(name: str, /, **params: Any) -> str:
    """See `arun`."""
    return wiring.call(lambda node: arun(name, **params))


def _patience(resource: Resource) -> float:
    """Seconds after which all attempts of a computation have had their time."""
    return resource.time_limit * (resource.retries + 1) + 5.0
