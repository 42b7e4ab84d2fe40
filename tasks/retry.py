"""When may a failed attempt be tried again, and after how long?  Pure.

Invariant: the pause is bounded, and random over its whole range, so that many jobs that failed together part
(exponential backoff with full jitter: Brooker, AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from asgi_app.errors import ComputationFailed, MillpondError

BASE = 0.5
LONGEST = 60.0


def worth_retrying(error: MillpondError) -> bool:
    """Whether another attempt may end otherwise: the function raised; a value that is no JSON would be none again."""
    return isinstance(error, ComputationFailed)


def pause(failures: int, luck: float) -> float:
    """Seconds to wait after the `failures`-th failure; `luck` is uniform in [0, 1)."""
    return luck * min(LONGEST, BASE * 2.0 ** min(failures, 20))
