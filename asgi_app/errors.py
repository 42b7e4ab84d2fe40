"""Errors a caller may see, in one shape: `problem()` is RFC 9457, over HTTP, in streams and in websocket frames.

An error type stands here where a receiver would act differently.  `type` is the bare code, so that it can be compared.

Invariant: nothing but `detail` and `extra` of an error leaves the process; no traceback, and no text of a foreign
exception unless it was asked for (`failure_of`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

#: Characters of a foreign exception's message that are shown; a message may hold a whole query or document.
MESSAGE_LIMIT = 500
#: Characters of the detail of `BadParameters`; its list is complete.
DETAIL_LIMIT = 2000
#: Members of a problem that are not `extra`.
_MEMBERS = frozenset({"type", "title", "status", "detail", "retryable", "retry_after"})
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_NAMING_ONE = r"\b\w*(?:password|passwd|secret|token|api_?key)\b"
_ASSIGNED_SECRET = re.compile(rf"(?i)({_NAMING_ONE}[\"']?\s*[=:]\s*)[\"']?[^\s,;&\"']+[\"']?")


class MillpondError(Exception):
    """The base of all errors with a public shape.  `retryable`: the very same request may succeed later."""

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"
    retryable: ClassVar[bool] = False
    _by_code: ClassVar[dict[str, type[MillpondError]]] = {}

    def __init__(self, detail: str = "", *, retry_after: float | None = None, extra: Mapping[str, Any] | None = None):
        """`retry_after` is in seconds; `extra` holds JSON-able members that are added to the problem as they are."""
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after = retry_after
        self.extra = dict(extra or {})

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            MillpondError._by_code[cls.code] = cls

    def __reduce__(self) -> tuple[Any, ...]:
        return from_problem, (self.problem(),)

    def problem(self) -> dict[str, Any]:
        """The error as `application/problem+json`; `extra` never replaces a standard member."""
        head = {"type": self.code, "title": self.title, "status": self.status, "detail": self.detail}
        tail = {"retryable": self.retryable}
        wait = {} if self.retry_after is None else {"retry_after": self.retry_after}
        return {**head, **{k: v for k, v in self.extra.items() if k not in _MEMBERS}, **tail, **wait}


MillpondError._by_code[MillpondError.code] = MillpondError


class BadParameters(MillpondError):
    """Parameters that are unknown, missing, of a wrong type or out of range: all of them, each with its name."""

    code, status, title = "bad-parameters", 400, "Some parameters are wrong"

    def __init__(self, errors: Sequence[Mapping[str, str]]):
        """`errors`: one `{"name", "reason"}` per bad parameter."""
        listed = [{"name": e["name"], "reason": e["reason"]} for e in errors]
        said = "; ".join(f"{e['name']}: {e['reason']}" for e in listed)
        super().__init__(shortened(said, DETAIL_LIMIT), extra={"errors": listed})


class Unauthenticated(MillpondError):
    code, status, title = "unauthenticated", 401, "Who asks is not known"


class Denied(MillpondError):
    code, status, title = "denied", 403, "This principal may not do this"


class NotFound(MillpondError):
    code, status, title = "not-found", 404, "There is no such thing"


class UnknownResource(NotFound):
    """No resource of that name is declared.  `extra` carries the name."""

    code, title = "unknown-resource", "No resource of this name is declared"

    def __init__(self, name: str):
        super().__init__(f"there is no resource '{shortened(name, 100)}'", extra={"name": shortened(name, 100)})


class UnknownAction(NotFound):
    """No action of that name is declared.  `extra` carries the name."""

    code, title = "unknown-action", "No action of this name is declared"

    def __init__(self, name: str):
        super().__init__(f"there is no action '{shortened(name, 100)}'", extra={"name": shortened(name, 100)})


class BadRequest(MillpondError):
    code, status, title = "bad-request", 400, "The request cannot be taken"


class MethodNotAllowed(MillpondError):
    code, status, title = "method-not-allowed", 405, "The method is not allowed"


class Conflict(MillpondError):
    code, status, title = "conflict", 409, "What is there does not allow it"


class BodyTooSlow(MillpondError):
    code, status, title, retryable = "body-too-slow", 408, "The body of the request took too long", True


class BodyTooLarge(MillpondError):
    code, status, title = "body-too-large", 413, "The body of the request is too large"


class IdempotencyMismatch(MillpondError):
    code, status, title = "idempotency-mismatch", 422, "This Idempotency-Key was used with another body"


class TooManyRequests(MillpondError):
    code, status, title, retryable = "too-many-requests", 429, "The quota of this principal is spent", True


class Misdeclared(MillpondError):
    """A function given to a declaration (`tags`, `vary`, `access`) returned what it must not: its author's mistake."""

    code, status, title = "misdeclared", 500, "The declaration does not do what it promises"


class ComputationFailed(MillpondError):
    """The function of a resource or action raised.  `extra["exception"]` is the name of the exception's class."""

    code, status, title, retryable = "computation-failed", 502, "The computation failed", True


class ValueTooLarge(MillpondError):
    code, status, title = "value-too-large", 502, "The value is larger than the limit"


class NotJson(MillpondError):
    code, status, title = "not-json", 502, "The value cannot be written as JSON"


class Unavailable(MillpondError):
    code, status, title, retryable = "unavailable", 503, "A part of the service cannot be reached or is full", True


class NotCached(MillpondError):
    code, status, title, retryable = "not-cached", 504, "There is no value, and the request wants no other", True


class ComputationTimeout(MillpondError):
    code, status, title, retryable = "computation-timeout", 504, "The computation took longer than its time limit", True


def store_away() -> Unavailable:
    """The store does not answer; worth asking again in two seconds."""
    return Unavailable("the store cannot be reached", retry_after=2.0, extra={"part": "store"})


def failure_of(error: BaseException, *, show_message: bool) -> MillpondError:
    """What users are told about an exception of a declared function.

    Errors of this module pass: their author wrote the detail for users.  Of any other exception only the class name is
    shown; `show_message` (development) adds its message, in one line, bounded, and without what looks like a secret.
    """
    if isinstance(error, MillpondError):
        return error
    name = type(error).__name__
    message = safe_message(error) if show_message else ""
    detail = f"{name}: {message}" if message else f"the computation raised {name}"
    return ComputationFailed(detail, extra={"exception": name})


def safe_message(error: BaseException) -> str:
    """The message of an exception in one bounded line.  Credentials in URLs and `password=...` are blotted out: a net,
    not a promise; therefore it is only shown in development.  Never raises, even where `str(error)` does."""
    try:
        text = str(error)
    except Exception:
        return ""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MESSAGE_LIMIT]).split())
    return shortened(_ASSIGNED_SECRET.sub(r"\1***", _URL_CREDENTIALS.sub("***@", text)), MESSAGE_LIMIT)


def shortened(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with a final ellipsis; lone surrogates, no UTF-8 carries them, become '?'."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")


def from_problem(problem: Mapping[str, Any]) -> MillpondError:
    """The error that `problem()` described, e.g. one a worker left in a job's record.

    An unknown `type` (an error of a newer version) becomes a plain `MillpondError` with that detail.
    """
    cls = MillpondError._by_code.get(str(problem.get("type")), MillpondError)
    error = cls.__new__(cls)
    extra = {k: v for k, v in problem.items() if k not in _MEMBERS}
    MillpondError.__init__(error, str(problem.get("detail", "")), retry_after=problem.get("retry_after"), extra=extra)
    return error
