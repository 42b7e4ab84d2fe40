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
from asgi_app.inline import Inline
from asgi_app.registry import Principal, Resource
from asgi_app.rows import in_database
from cache_layer import metrics
from cache_layer.cache import MAX_RERUNS, Begun, Cache
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key
from cache_layer.position import Position

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds a web process may be silent before another may compute its key; renewed while it computes.
LEASE = 15.0

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
    resource: Resource | Inline,
    params: Any,
    principal: Principal,
    key: Key,
    *,
    begun: Begun,
    token: str,
    seen: bytes,
    force: bool,
    asker: str | None,
    limit: int,
    show_message: bool,
) -> None:
    """Compute a resource with `offload=False` on this event loop and commit it; `begun` gave the right to, for `token`.

    `seen` and `force` are what `Cache.begin` was asked with.  It starts over when it, or what it was computed from, is
    invalidated meanwhile.  A failure is remembered for `error_ttl`.  However it ends, the key is free again: at once,
    or when the store is away within `LEASE` seconds.  `asker` is whose budget of new values it counts in.  Raises
    StoreUnavailable.
    """
    for _ in range(MAX_RERUNS):
        metrics.events["computed here"] += 1
        holding = asyncio.get_running_loop().create_task(_keep(cache, key, token))
        try:
            started = time.monotonic()
            try:
                payload = encode_value(await _value_here(resource, params, principal), limit=limit)
            except (Exception, asyncio.CancelledError) as raised:
                if _is_ours(raised):
                    raise
                error = failure_of(raised, show_message=show_message)
                if "unkept" not in error.extra:  # a page that may not be kept has not failed
                    log.warning("%s failed", key.topic, exc_info=not isinstance(raised, MillpondError))
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
                asker=asker,
            )
        finally:
            holding.cancel()
            await _let_go(cache, key, token)
        if committed.what == "stored":
            if isinstance(resource, Resource) and resource.alert_when is not None:
                _look_behind(resource, params, key, payload, committed.position)
            return
        begun = await cache.begin(key, seen=seen, token=token, lease=LEASE, force=force)
        if begun.what != "begun":
            return
    log.warning("%s: %s", key.topic, SUPERSEDED.detail)
    await cache.fail_in_place(key, problem_bytes(SUPERSEDED), token=token)


def _look_behind(resource: Resource, params: Any, key: Key, payload: bytes, position: Position) -> None:
    """Ask the alert rule; the key does not wait for it."""
    task = asyncio.get_running_loop().create_task(_look(resource, params, key, payload, position))
    _looking.add(task)
    task.add_done_callback(_looking.discard)


_looking: set[asyncio.Task[None]] = set()


async def _look(resource: Resource, params: Any, key: Key, payload: bytes, position: Position) -> None:
    from asgi_app.noticing import alerts  # it stands on Django's models

    with suppress(Unavailable):
        await in_database(alerts.look, resource, params, key, payload, position, within=2 * alerts.WITHIN)


async def _value_here(resource: Resource | Inline, params: Any, principal: Principal) -> Any:
    try:
        async with asyncio.timeout(resource.time_limit):
            # What is inline brings its own connections; and Django's one thread may be waiting for just this value.
            run = spared if isinstance(resource, Inline) else guarded
            return await run(resource.call(params, progress=no_progress, principal=principal))
    except TimeoutError:
        raise ComputationTimeout(f"{resource.name} took longer than {resource.time_limit:g} s") from None


async def guarded(work: Awaitable[T]) -> T:
    """Await a user's coroutine: as `spared`, and worn-out database connections are dropped before and after, as at the
    ends of a request."""
    await aclose_old_connections()
    try:
        return await spared(work)
    finally:
        await aclose_old_connections()


async def spared(work: Awaitable[T]) -> T:
    """Await a user's coroutine so that `sys.exit()` in it ends the computation and not the event loop."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise ComputationFailed(
            f"the computation ended with {type(error).__name__}", extra={"exception": type(error).__name__}
        ) from error


def _is_ours(error: BaseException) -> bool:
    """Whether it is this very task that was cancelled, and not something the function waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


async def _keep(cache: Cache, key: Key, token: str) -> None:
    held = True
    while held:
        await asyncio.sleep(LEASE / 3)
        with suppress(StoreUnavailable):
            held = await cache.hold(key, token, LEASE)


async def _let_go(cache: Cache, key: Key, token: str) -> None:
    with suppress(StoreUnavailable):
        await cache.hold(key, token, 0)
