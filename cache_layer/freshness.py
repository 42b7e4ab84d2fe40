"""When may a cached value be served?  Pure decisions: no clock, no Redis, no randomness of its own.

Invariant: a value is never served after `Policy.life` seconds, and between `fresh + stale` and that only when its
computation has just failed.  The windows are those of RFC 5861.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import log


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long a value may be served, in seconds."""

    #: Served as it is.
    fresh: float = 30.0
    #: After that: served at once while a refresh runs behind it (stale-while-revalidate).
    stale: float = 300.0
    #: After `fresh`: served when the computation fails (stale-if-error).
    stale_if_error: float = 3600.0
    #: How long a failure is remembered.
    error_ttl: float = 5.0
    #: Share by which `fresh` is varied per value, so that values born together do not expire together.
    jitter: float = 0.1
    #: Eagerness of the early refresh; 0 switches it off.
    early_refresh: float = 1.0

    @property
    def life(self) -> float:
        """Seconds until a value is gone for every purpose."""
        return self.fresh + max(self.stale, self.stale_if_error)

    def jittered_fresh(self, luck: float) -> float:
        """`fresh` varied by at most `jitter`; `luck` is uniform in [0, 1)."""
        return self.fresh * (1.0 + self.jitter * (2.0 * luck - 1.0))


class Verdict(Enum):
    """What to do with what was found."""

    SERVE = "serve"
    SERVE_AND_REFRESH = "serve and refresh behind"
    SERVE_AFTER_ERROR = "serve, the computation has just failed"
    FAIL = "the computation has just failed and nothing may be served"
    LOAD = "wait for the computation"


def decide(
    *, age: float | None, fresh: float, compute_seconds: float, policy: Policy, failed: bool, luck: float
) -> Verdict:
    """Judge a value of `age` seconds (None: there is none) that was stored as fresh for `fresh` seconds.

    `failed`: a failure of its computation is still remembered.  `luck` is uniform in (0, 1]; low luck refreshes early
    (XFetch: Vattani, Chierichetti, Lowenstein, VLDB 2015), so that a hot key is renewed before it expires.
    """
    if age is None or age >= policy.life:
        return Verdict.FAIL if failed else Verdict.LOAD
    head_start = -log(luck) * compute_seconds * policy.early_refresh
    if age + head_start < fresh:
        return Verdict.SERVE
    if failed:
        if age < fresh + max(policy.stale_if_error, policy.stale):
            return Verdict.SERVE if age < fresh else Verdict.SERVE_AFTER_ERROR
        return Verdict.FAIL
    return Verdict.SERVE_AND_REFRESH if age < fresh + policy.stale else Verdict.LOAD
