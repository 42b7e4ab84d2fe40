"""When may a failed attempt be tried again, and after how long?  Pure.

Invariant: the pause is bounded, and random over its whole range, so that many jobs that failed together part
(exponential backoff with full jitter: Brooker, AWS Architecture Blog, 2015); what failed says when it may be asked
again, and is not asked before.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from asgi_app.errors import ComputationFailed, ComputationTimeout, MillpondError
from asgi_app.registry import Action, Resource

BASE = 0.5
LONGEST = 60.0
#: Seconds a Retry-After may ask for.
LONGEST_ASKED = 3600.0


def worth_retrying(what: Resource | Action, raised: BaseException, error: MillpondError) -> bool:
    """Whether another attempt may end otherwise.

    It raised one of `retry_on` and none of `fail_on`; a value that is no JSON would be none again, and what took longer
    than its time limit would again, unless the declaration names TimeoutError.
    """
    if isinstance(raised, what.fail_on):
        return False
    if isinstance(error, ComputationTimeout):
        return TimeoutError in what.retry_on and TimeoutError not in what.fail_on
    if isinstance(raised, MillpondError):
        return error.retryable and isinstance(raised, what.retry_on)
    return isinstance(error, ComputationFailed) and isinstance(raised, what.retry_on)


def pause(failures: int, luck: float) -> float:
    """Seconds to wait after the `failures`-th failure; `luck` is uniform in [0, 1)."""
    return luck * min(LONGEST, BASE * 2.0 ** min(failures, 20))


def asked_pause(raised: BaseException, now: float) -> float:
    """Seconds that what failed asks to be left alone: `retry_after` of the exception, or of its `response` the header
    Retry-After (RFC 9110, section 10.2.3); 0 for nothing.  `now` is the unix time."""
    try:
        wait = _seconds(getattr(raised, "retry_after", None), now)
        headers = getattr(getattr(raised, "response", None), "headers", None)
        if wait is None and headers is not None:
            wait = _seconds(headers.get("Retry-After"), now)
    except Exception:  # of a foreign library; what it says is no reason not to write the failure down
        wait = None
    return min(LONGEST_ASKED, max(0.0, wait or 0.0))


def _seconds(value: Any, now: float) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - datetime.fromtimestamp(now, UTC).timestamp()
