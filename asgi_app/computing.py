"""Running a declared function: its value as bytes, its failure as a problem.

Invariant: whatever a declared function does short of ending its process comes out as bytes or as a MillpondError.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from typing import Any

import msgspec

from asgi_app.errors import ComputationTimeout, MillpondError, NotJson, Unavailable, ValueTooLarge, failure_of
from asgi_app.registry import Principal, Resource
from cache_layer.cache import MAX_RERUNS, Cache
from cache_layer.keys import Key

log = logging.getLogger(__name__)

_MIB = 1024 * 1024

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
        raise ValueTooLarge(
            f"the value has {len(payload) / _MIB:.1f} MiB; the limit is {limit / _MIB:.1f} MiB (MILLPOND_MAX_VALUE)"
        )
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

    A failure is remembered for `error_ttl`.  Raises StoreUnavailable.
    """
    for _ in range(MAX_RERUNS):
        begun = await cache.begin(key, seen=seen, lease=resource.time_limit + 5.0, force=force)
        if begun.what != "begun":
            return
        started = time.monotonic()
        try:
            async with asyncio.timeout(resource.time_limit):
                value = await resource.call(params, progress=no_progress, principal=principal)
            payload = encode_value(value, limit=limit)
        except TimeoutError:
            error: MillpondError = ComputationTimeout(f"{key.topic} took longer than {resource.time_limit:g} s")
            await cache.fail_in_place(key, problem_bytes(error), token=begun.token)
            return
        except Exception as raised:
            log.warning("%s failed", key.topic, exc_info=not isinstance(raised, MillpondError))
            error = failure_of(raised, show_message=show_message)
            await cache.fail_in_place(key, problem_bytes(error), token=begun.token)
            return
        committed = await cache.commit(
            key,
            payload,
            holder=begun.token,
            tag_versions=begun.tag_versions,
            compute_seconds=time.monotonic() - started,
            computed_at=time.time(),
            luck=random.random(),
        )
        if committed.what != "superseded":
            return
    log.warning("%s: %s", key.topic, SUPERSEDED.detail)
