"""Reads inside of a transaction that has changed what they are made of.

Invariant: their value is computed in this very transaction, which alone sees the change, and goes nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
from asgiref.sync import async_to_sync

from asgi_app.computing import encode_value, no_progress
from asgi_app.env import env
from asgi_app.errors import ComputationTimeout, MillpondError, failure_of
from asgi_app.invalidating.after_commit import anything_dirty, dirty
from asgi_app.registry import Principal, Resource


def is_dirty(resource: Resource, params: Any) -> bool:
    """Whether a transaction of this thread has changed what the value for the public is made of."""
    if not anything_dirty():
        return False
    key = resource.key(params, Principal.public())
    return dirty(key.name, key.digest, key.tags)


def value_here(resource: Resource, params: Any) -> Any:
    """The value as a reader would get it after the commit, computed in this thread; stored nowhere.

    An `async def` runs on a loop of its own, and Django's asynchronous ORM comes back to this thread, to this
    transaction.  A plain function is not held to the resource's time limit.  Raises what reading it would.
    """
    try:
        value = resource.call(params, no_progress, resource.asker(Principal.public()))
        if resource.is_async:
            value = async_to_sync(_in_time)(resource, value)
        return msgspec.json.decode(encode_value(value, limit=env().max_value))
    except MillpondError:
        raise
    except Exception as error:
        raise failure_of(error, show_message=not env().production) from error


async def _in_time(resource: Resource, value: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(resource.time_limit):
            return await value
    except TimeoutError:
        raise ComputationTimeout(f"{resource.name} took longer than {resource.time_limit:g} s") from None
