"""When may a cached value be served?  Pure decisions: no clock, no Redis, no randomness of its own.

Invariant: a value is never served after `Policy.life` seconds, and between `fresh + stale` and that only when its
computation has just failed or takes too long, or the reader said it takes it.  The windows are those of RFC 5861.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import log

#: A reader that wants it younger than it is may cause a computation at most when the value is older than this many
#: seconds, and than this many times what computing it took: nobody can keep a worker busy with one question.
_YOUNGEST = 1.0
_YOUNGEST_COMPUTATIONS = 10.0


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
    #: How long "there is nothing" (a value that is null) is fresh; None: as any other value.
    negative_ttl: float | None = None
    #: How long a reader that waits for a computation is held although a value for stale-if-error is there; None: as
    #: long as it waits anyway.
    soft_timeout: float | None = None
    #: Share by which `fresh` is varied per value, so that values born together do not expire together.
    jitter: float = 0.1
    #: Eagerness of the early refresh; 0 switches it off.
    early_refresh: float = 1.0

    @property
    def life(self) -> float:
        """Seconds until a value is gone for every purpose."""
        return self.fresh + max(self.stale, self.stale_if_error)

    def fresh_for(self, payload: bytes, luck: float) -> float:
        """Seconds a new value is fresh, varied by at most `jitter`; `luck` is uniform in [0, 1)."""
        fresh = self.fresh
        if payload == b"null" and self.negative_ttl is not None:
            fresh = min(fresh, self.negative_ttl)
        return fresh * (1.0 + self.jitter * (2.0 * luck - 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a reader asks beyond the policy: the request directives of RFC 9111, section 5.2.1, in seconds."""

    #: No older than this.
    max_age: float | None = None
    #: Fresh for at least this long.
    min_fresh: float = 0.0
    #: Also this long after it stopped being fresh; infinite: as long as it is there.
    max_stale: float = 0.0
    #: Nothing that would have to be computed.
    only_cached: bool = False


ANYTHING = Demand()


class Verdict(Enum):
    """What to do with what was found."""

    SERVE = "serve"
    SERVE_AND_REFRESH = "serve and refresh behind"
    SERVE_AFTER_ERROR = "serve, the computation has just failed"
    FAIL = "the computation has just failed and nothing may be served"
    LOAD = "wait for the computation"


def decide(
    *,
    age: float | None,
    fresh: float,
    compute_seconds: float,
    policy: Policy,
    failed: bool,
    luck: float,
    softened: bool = False,
    demand: Demand = ANYTHING,
) -> Verdict:
    """Judge a value of `age` seconds (None: there is none) that was stored as fresh for `fresh` seconds.

    `failed`: a failure of its computation is still remembered.  `softened`: it was declared stale before its time.
    `luck` is uniform in (0, 1]; low luck refreshes early (XFetch: Vattani, Chierichetti, Lowenstein, VLDB 2015), so
    that a hot key is renewed before it expires.
    """
    if age is None or age >= policy.life:
        return Verdict.FAIL if failed else Verdict.LOAD
    still_fresh = age < fresh and not softened
    enough = _is_enough(age, fresh, compute_seconds, demand)
    if still_fresh and enough and is_served(age, fresh, compute_seconds, policy, luck):
        return Verdict.SERVE
    if failed:
        if age < fresh + max(policy.stale_if_error, policy.stale):
            return Verdict.SERVE if still_fresh and enough else Verdict.SERVE_AFTER_ERROR
        return Verdict.FAIL
    window = max(policy.stale, demand.max_stale)
    taken = age < fresh + window and (still_fresh or window > 0)
    return Verdict.SERVE_AND_REFRESH if taken and enough else Verdict.LOAD


def is_served(age: float, fresh: float, compute_seconds: float, policy: Policy, luck: float) -> bool:
    """Whether a value that was not declared stale is served as it is, without a refresh, to who asks no more."""
    return age < policy.life and age - log(luck) * compute_seconds * policy.early_refresh < fresh


def _is_enough(age: float, fresh: float, compute_seconds: float, demand: Demand) -> bool:
    """Whether a value is as young as its reader asks, as far as a reader may ask."""
    if age <= max(_YOUNGEST, _YOUNGEST_COMPUTATIONS * compute_seconds):
        return True
    if demand.max_age is not None and age > demand.max_age:
        return False
    return demand.min_fresh <= 0 or fresh - age >= demand.min_fresh
