"""Shall an attempt go on?  Pure.

Invariant: an attempt is ended by force only after it had `GRACE` seconds to end by itself.
"""

from __future__ import annotations

from cache_layer.queues import Held, Reason

#: Seconds an attempt has to end by itself after it was asked to, or after its time limit.
GRACE = 5.0


def judge(held: Held, cancel: int | None, *, alive: bool, now: int) -> Reason | None:
    """Why an attempt shall end now, or None.

    `cancel`: when its end was asked for; `alive`: whether its process lives; times in unix ms.
    """
    if not alive:
        return "died"
    if held.fence == 0:  # about to be claimed
        return None
    if now > held.deadline:
        return "limit"
    if cancel is not None and now > cancel + GRACE * 1000:
        return "cancelled"
    return None
