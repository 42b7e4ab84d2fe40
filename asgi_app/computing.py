"""Running a declared function: its value as bytes, its failure as a problem.

Invariant: whatever a declared function does short of ending its process comes out as bytes or as a MillpondError.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from channels.db import aclose_old_connections

from asgi_app.errors import (
    ComputationFailed,
    ComputationTimeout,
    MillpondError,
    NotJson,
    Unavailable,
    ValueTooLarge,
    failure_of,
)
from asgi_app.registry import Principal, Resource
from cache_layer.cache import MAX_RERUNS, Cache, fresh_token
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds a web process may be silent before another may compute its key; renewed while it computes.
_LEASE = 15.0

SUPERSEDED = Unavailable(
    "its data was invalidated again and again while it was computed: shorten the computation, or drop the tag",
    extra={"reason": "superseded"},
)


def encode_value(value: Any, *, limit: int) -> bytes:
    """A value as compact JSON.  Raises NotJson, or ValueTooLarge above `limit` bytes."""
    try:
        payload = msgspec.json.encode(value, enc_hook=_refuse)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise NotJson(f"the function returned something that is not JSON: {error}") from error
    if b"\n" in payload:  # from a msgspec.Raw, which is passed on unread; frames and events are cut at newlines
        return encode_value(_decoded(payload), limit=limit)
    if len(payload) > limit:
        raise ValueTooLarge(f"the value has {len(payload):,} bytes; the limit is {limit:,} (MILLPOND_MAX_VALUE)")
    return payload


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotJson(f"the function returned raw text that is not JSON: {error}") from error


def _refuse(value: Any) -> Any:
    raise TypeError(f"a value of type {type(value).__name__}")


def problem_bytes(error: MillpondError) -> bytes:
    """A problem as JSON text."""
    return json.dumps(error.problem(), separators=(",", ":")).encode()


def no_progress(done: float, total: float | None = None, note: str = "") -> None:
    """The `progress` of what is computed in a web process: cheap enough to have none."""


async def compute_here(
    cache: Cache,
    resource: Resource,
    params: Any,
    principal: Principal,
    key: Key,
    *,
    seen: bytes,
    force: bool,
    limit: int,
    show_message: bool,
) -> None:
    """Compute a resource with `offload=False` on this event loop, if no other process does, and commit it.

    A failure is remembered for `error_ttl`.  However it ends, the key is free again: at once, or when the store is away
    within `_LEASE` seconds.  Raises StoreUnavailable.
    """
    token = fresh_token()
    for _ in range(MAX_RERUNS):
        begun = await cache.begin(key, seen=seen, token=token, lease=_LEASE, force=force)
        if begun.what != "begun":
            return
        holding = asyncio.get_running_loop().create_task(_keep(cache, key, token))
        try:
            started = time.monotonic()
            try:
                payload = encode_value(await _value_here(resource, params, principal), limit=limit)
            except Exception as raised:
                log.warning("%s failed", key.topic, exc_info=not isinstance(raised, MillpondError))
                error = failure_of(raised, show_message=show_message)
                await cache.fail_in_place(key, problem_bytes(error), token=token)
                return
            committed = await cache.commit(
                key,
                payload,
                holder=token,
                tag_versions=begun.tag_versions,
                compute_seconds=time.monotonic() - started,
                computed_at=time.time(),
                luck=random.random(),
            )
        finally:
            holding.cancel()
            await _let_go(cache, key, token)
        if committed.what != "superseded":
            return
    log.warning("%s: %s", key.topic, SUPERSEDED.detail)


async def _value_here(resource: Resource, params: Any, principal: Principal) -> Any:
    try:
        async with asyncio.timeout(resource.time_limit):
            return await guarded(resource.call(params, progress=no_progress, principal=principal))
    except TimeoutError:
        raise ComputationTimeout(f"{resource.name} took longer than {resource.time_limit:g} s") from None


async def guarded(work: Awaitable[T]) -> T:
    """Await a user's coroutine so that `sys.exit()` in it ends the computation and not the event loop.

    Worn-out database connections are dropped before and after, as at the ends of a request.
    """
    await aclose_old_connections()
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise ComputationFailed(
            f"the computation ended with {type(error).__name__}", extra={"exception": type(error).__name__}
        ) from error
    finally:
        await aclose_old_connections()


async def _keep(cache: Cache, key: Key, token: str) -> None:
    held = True
    while held:
        await asyncio.sleep(_LEASE / 3)
        with suppress(StoreUnavailable):
            held = await cache.hold(key, token, _LEASE)


async def _let_go(cache: Cache, key: Key, token: str) -> None:
    with suppress(StoreUnavailable):
        await cache.hold(key, token, 0)
