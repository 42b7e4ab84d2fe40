"""The Python API for other code, each function twice: synchronous, and with an `a` in front for coroutines.

Invariant: the synchronous one is the asynchronous one, run on the process's own loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from channels.db import database_sync_to_async
from django.db import DEFAULT_DB_ALIAS

from asgi_app import log_source, publishing, wiring
from asgi_app.errors import ComputationTimeout, from_problem
from asgi_app.registry import Principal, Resource, registry
from cache_layer.errors import StoreUnavailable
from cache_layer.outdated import Outdated, of_keys, of_tags
from cache_layer.position import Position


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


async def ainvalidate(*tags: str, soft: bool = False) -> None:
    """Outdate every value that carries one of the tags.  When it returns, nobody is served an older one.

    `soft`: the values become stale instead, and are served within their windows while they are computed anew.

    It acts at once: a transaction of Django belongs to a thread, and a coroutine is in none.  Code that changes the
    data in one calls `invalidate` there, which waits for the commit.

    Raises ValueError naming what is no tag, and StoreUnavailable: then the invalidation is queued and done before this
    process trusts the cache again, and stands in the outbox, so that it is done even if this process ends.  Safe to
    repeat.
    """
    await _ainvalidate(of_tags(*_valid(tags), soft=soft))


async def ainvalidate_value(
    name: str, params: Mapping[str, Any] | None = None, *, soft: bool = False, principal: Principal | None = None
) -> None:
    """Outdate one value of a resource: that of these parameters, and with `vary` of this principal (else the public).

    Otherwise as `ainvalidate`.  Raises UnknownResource and BadParameters too.
    """
    await _ainvalidate(_value(name, params, soft, principal))


async def ainvalidate_all(*, soft: bool = False) -> None:
    """Outdate all values of this deployment, in one step.  Otherwise as `ainvalidate`."""
    await _ainvalidate(Outdated(everything=True, soft=soft))


async def arefresh(name: str, /, **params: Any) -> str:
    """Compute a resource anew although its value may be fresh; the id of the job."""
    resource = registry.resource(name)
    typed = resource.parse(params, text=False)
    return await wiring.acall(lambda node: node.reader.refresh(resource, typed, Principal.public(), trusted=True))


async def arun(name: str, /, **params: Any) -> str:
    """Run an action on a worker; the id of its job.  When this returns the job is written down, and ends.

    Code in a transaction of Django calls `run` there, which makes the job part of the transaction.  Raises
    UnknownAction, BadParameters, and Unavailable when its queue is full or the database away.
    """
    action = registry.action(name)
    typed = action.parse(params, text=False)
    return await wiring.acall(lambda node: node.submitter.action(action, typed, Principal.public(), trusted=True))


async def apublish(topic: str, data: Any) -> Position | None:
    """Publish what JSON can say on a declared log topic: everyone who follows it is told, in order.

    Its position, None where the topic keeps no history.  Raises BadParameters, NotFound for a topic that is not
    declared, and StoreUnavailable: then it may or may not have been published.
    """
    return await wiring.acall(lambda node: publishing.publish(topic, data))


def publish(topic: str, data: Any) -> Position | None:
    """See `apublish`.  Inside `transaction.atomic()` it happens after the commit, and not at all on a rollback; there
    it returns None, and what the store does not take then is logged and lost: what must not be is for `notify`."""
    from django.db import transaction

    if not transaction.get_connection().in_atomic_block:
        return wiring.call(lambda node: publishing.publish(topic, data))
    log_source.rules_of(topic)
    text = publishing.encode(data)
    transaction.on_commit(lambda: wiring.call(lambda node: publishing.publish_text(topic, text)), robust=True)
    return None


def read(name: str, /, **params: Any) -> Any:
    """See `aread`.  In a transaction that has changed what the value is made of, it is computed in there, and not kept:

    such a value is true for this transaction only.
    """
    from asgi_app.invalidating import uncommitted

    resource = registry.resource(name)
    typed = resource.parse(params, text=False)
    if uncommitted.is_dirty(resource, typed):
        return uncommitted.value_here(resource, typed)
    return wiring.call(lambda node: aread(name, **params), _patience(resource) + 5.0)


def invalidate(*tags: str, soft: bool = False) -> None:
    """See `ainvalidate`.  Inside `transaction.atomic()` it happens after the commit, and not at all on a rollback;

    it does not raise StoreUnavailable there: what the store did not take is done from the outbox.
    """
    _invalidate(of_tags(*_valid(tags), soft=soft))


def invalidate_value(
    name: str, params: Mapping[str, Any] | None = None, *, soft: bool = False, principal: Principal | None = None
) -> None:
    """See `ainvalidate_value`; inside a transaction as `invalidate`."""
    _invalidate(_value(name, params, soft, principal))


def invalidate_all(*, soft: bool = False) -> None:
    """See `ainvalidate_all`; inside a transaction as `invalidate`."""
    _invalidate(Outdated(everything=True, soft=soft))


def refresh(name: str, /, **params: Any) -> str:
    """See `arefresh`."""
    return wiring.call(lambda node: arefresh(name, **params))


def run(name: str, /, **params: Any) -> str:
    """See `arun`.  Inside `transaction.atomic()` the job is written in the transaction: a rollback runs nothing, and
    what was committed is run, even when this process dies right after."""
    action = registry.action(name)
    typed = action.parse(params, text=False)
    return wiring.here(lambda node, loop: node.submitter.action_here(action, typed, Principal.public(), loop))


def _patience(resource: Resource) -> float:
    """Seconds after which all attempts of a computation have had their time."""
    return resource.time_limit * (resource.retries + 1) + 5.0


# Imported when needed: this module can be imported before Django's models.


def _valid(tags: tuple[str, ...]) -> list[str]:
    from asgi_app.invalidation import valid_tags

    return valid_tags(tags)


def _value(name: str, params: Mapping[str, Any] | None, soft: bool, principal: Principal | None) -> Outdated:
    resource = registry.resource(name)
    key = resource.key(resource.parse(params or {}, text=False), principal or Principal.public())
    return of_keys(key, soft=soft)


def _invalidate(outdated: Outdated) -> None:
    from asgi_app.invalidating.after_commit import invalidate_after_commit

    invalidate_after_commit(outdated)


async def _ainvalidate(outdated: Outdated) -> None:
    from asgi_app.invalidating import outbox

    try:
        await wiring.acall(lambda node: node.cache.invalidate(outdated))
    except StoreUnavailable:
        await database_sync_to_async(outbox.keep)(DEFAULT_DB_ALIAS, outdated)
        raise
