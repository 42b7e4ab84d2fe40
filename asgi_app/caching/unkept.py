"""What becomes of a stored page when its view, asked again, makes one that may not be kept.

Invariant: it is gone, and that none is kept is remembered, before anybody is told; otherwise the old page would come
back as soon as that is forgotten, for as long as it may be stale.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec

from asgi_app import computing, wiring
from asgi_app.errors import ComputationFailed
from cache_layer.cache import fresh_token
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Key
from cache_layer.outdated import of_keys

log = logging.getLogger(__name__)


async def made(key: Key, make: Callable[[], Awaitable[msgspec.Raw]]) -> msgspec.Raw:
    """What `make` makes of the page.  Raises what it raises, after the old page is dropped where none is kept now."""
    try:
        return await make()
    except ComputationFailed as refusal:
        if "unkept" in refusal.extra:
            await _drop(key, refusal)
        raise


async def _drop(key: Key, error: ComputationFailed) -> None:
    """Drop what is stored under the key, and remember the error in its place; called by the run that computes it."""

    async def work(node: wiring.Node) -> None:
        cache = node.cache
        if (await cache.lookup(key, near=False)).entry is None:
            return
        # The run loses its right to the key by this, and could not say any more what came of it.
        await cache.invalidate(of_keys(key))
        token = fresh_token()
        begun = await cache.begin(key, seen=b"", token=token, lease=computing.LEASE)
        if begun.what == "begun":
            await cache.fail_in_place(key, computing.problem_bytes(error), token=token)

    try:
        await wiring.acall(work)
    except StoreUnavailable:
        log.warning("%s is not kept any more, and an old one waits for the store", key.topic)
