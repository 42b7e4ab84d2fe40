"""Which code of the protocol an error of the service becomes.

Invariant: what is not foreseen is temporary, so that clients come back, and it is logged.
"""

from __future__ import annotations

import logging

from asgi_app.errors import BadParameters, Denied, MillpondError, NotFound, TooManyRequests, Unauthenticated
from cache_layer.errors import StoreUnavailable
from consumers.frames import Code, Errors

log = logging.getLogger(__name__)


def refusal(error: Exception) -> tuple[Code, str | None]:
    """The error code, and the text to send instead of its own."""
    match error:
        case BadParameters():
            return Errors.BAD_REQUEST, error.detail
        case NotFound():
            return Errors.UNKNOWN_CHANNEL, None
        case Denied() | Unauthenticated():
            return Errors.PERMISSION_DENIED, None
        case TooManyRequests():
            return Errors.TOO_MANY_REQUESTS, None
        case StoreUnavailable() | TimeoutError():
            return Errors.INTERNAL, None
        case MillpondError() if error.status != 500:
            return Errors.INTERNAL, error.detail
    log.error("a command failed", exc_info=error)
    return Errors.INTERNAL, None
