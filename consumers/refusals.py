"""Which code of the protocol an error of the service becomes.

Invariant: what is not foreseen is temporary, so that clients come back, and it is logged.
"""

from __future__ import annotations

import logging

from asgi_app.errors import (
    BadParameters,
    Denied,
    MillpondError,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from asgi_app.publishing import NoHistory, Unrecoverable
from asgi_app.tokens import TokenExpired, TokenInvalid
from cache_layer.errors import StoreUnavailable
from consumers.frames import Code, Errors

log = logging.getLogger(__name__)

#: An error of the service as it is over HTTP, where the protocol has no code for it: its status is the code.
_OWN_CODES = frozenset({409, 422})


class NotAvailable(Exception):
    """The topic does not have what was asked for, or the method is unknown."""


def passes(error: Exception) -> bool:
    """Whether the same may well succeed in a moment."""
    return isinstance(error, (StoreUnavailable, Unavailable, TooManyRequests, TimeoutError))


def refusal(error: Exception) -> tuple[Code, str | None]:
    """The error code, and the text to send instead of its own."""
    match error:
        case BadParameters():
            return Errors.BAD_REQUEST, error.detail
        case NotFound():
            return Errors.UNKNOWN_CHANNEL, None
        case Denied() | Unauthenticated() | TokenInvalid():
            return Errors.PERMISSION_DENIED, None
        case TokenExpired():
            return Errors.TOKEN_EXPIRED, None
        case TooManyRequests():
            return Errors.TOO_MANY_REQUESTS, None
        case NotAvailable() | NoHistory():
            return Errors.NOT_AVAILABLE, None
        case Unrecoverable():
            return Errors.UNRECOVERABLE_POSITION, None
        case StoreUnavailable() | TimeoutError():
            return Errors.INTERNAL, None
        case MillpondError() if error.status in _OWN_CODES:
            return Code(error.status, error.detail, False), None
        case MillpondError() if error.status != 500:
            return Errors.INTERNAL, error.detail
    log.error("a command failed", exc_info=error)
    return Errors.INTERNAL, None
