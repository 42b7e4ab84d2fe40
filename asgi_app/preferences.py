"""The Prefer header (RFC 7240), as far as we honour it.  Pure.

Invariant: a preference that is not understood is ignored, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds a request is held at the most.
LONGEST_WAIT = 30.0


@dataclass(frozen=True, slots=True)
class Preferences:
    #: `wait=N`, seconds, capped; None when not asked for.
    wait: float | None = None
    #: `respond-async`: do not hold the request (longer than `wait`, if that is there too).
    respond_async: bool = False

    def seconds(self, default: float) -> float:
        """How long to hold the request for a value."""
        if self.wait is not None:
            return self.wait
        return 0.0 if self.respond_async else default

    @property
    def applied(self) -> str:
        """The value of Preference-Applied, "" for none."""
        applied = ["respond-async"] if self.respond_async else []
        if self.wait is not None:
            applied.append(f"wait={self.wait:g}")
        return ", ".join(applied)


def preferences(headers: Mapping[str, str]) -> Preferences:
    """Read the Prefer header; of a preference given twice the first counts."""
    wait: float | None = None
    respond_async = False
    for part in headers.get("Prefer", "").split(","):
        name, _, value = part.split(";")[0].strip().partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "respond-async":
            respond_async = True
        elif name == "wait" and wait is None and value.isascii() and value.isdigit():
            wait = min(LONGEST_WAIT, float(value))
    return Preferences(wait, respond_async)


def prefers_stream(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, section 12.5.1) names text/event-stream, and not JSON with more weight."""
    weights = dict(_weight(part) for part in accept.lower().split(","))
    stream = weights.get("text/event-stream", 0.0)
    return stream > 0 and stream >= weights.get("application/json", 0.0)


def _weight(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media, float(value)
            except ValueError:
                return media, 0.0
    return media, 1.0
