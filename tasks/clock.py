"""The time by the store's clock: what workers on several machines and the store agree on.

Invariant: asked once a minute at most, and never waited for longer than two seconds; without the store it is this
machine's.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress

from asgi_app import wiring
from cache_layer.errors import StoreUnavailable

#: Seconds for which a difference counts.
_COUNTS = 60.0
#: Seconds the store's clock is ahead of ours; when that was measured, monotonic.
_ahead = 0.0
_measured = -math.inf


def store_time() -> float:
    """Unix seconds."""
    global _ahead, _measured
    if time.monotonic() - _measured > _COUNTS:
        with suppress(StoreUnavailable, TimeoutError):
            now = wiring.call(lambda node: node.store.milliseconds(), 2.0)
            _ahead, _measured = now / 1000 - time.time(), time.monotonic()
    return time.time() + _ahead
