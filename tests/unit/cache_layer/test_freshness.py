"""When a value may be served: the windows, the early refresh, and the end of every value."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_layer.freshness import Demand, Policy, Verdict, decide

quick = settings(max_examples=80, deadline=None)

SECONDS = st.floats(0, 1e6)
LUCK = st.floats(0, 1, exclude_min=True)
POLICIES = st.builds(
    Policy,
    fresh=SECONDS,
    stale=SECONDS,
    stale_if_error=SECONDS,
    jitter=st.floats(0, 0.5),
    early_refresh=st.floats(0, 4),
)
#: From the most to the least that is served, with and without a remembered failure.
ORDER = {
    False: [Verdict.SERVE, Verdict.SERVE_AND_REFRESH, Verdict.LOAD],
    True: [Verdict.SERVE, Verdict.SERVE_AFTER_ERROR, Verdict.FAIL],
}
POLICY = Policy(fresh=10, stale=20, stale_if_error=100)


def judged(
    age: float | None,
    *,
    failed: bool = False,
    luck: float = 1.0,
    policy: Policy = POLICY,
    compute: float = 2.0,
    **asked: Any,
) -> Verdict:
    return decide(
        age=age, fresh=policy.fresh, compute_seconds=compute, policy=policy, failed=failed, luck=luck, **asked
    )


@pytest.mark.parametrize(
    ("age", "failed", "verdict"),
    [
        (None, False, Verdict.LOAD),
        (None, True, Verdict.FAIL),
        (0, False, Verdict.SERVE),
        (9.9, True, Verdict.SERVE),
        (10, False, Verdict.SERVE_AND_REFRESH),
        (29.9, False, Verdict.SERVE_AND_REFRESH),
        (10, True, Verdict.SERVE_AFTER_ERROR),
        (30, False, Verdict.LOAD),
        (30, True, Verdict.SERVE_AFTER_ERROR),
        (109.9, True, Verdict.SERVE_AFTER_ERROR),
        (110, True, Verdict.FAIL),
        (110, False, Verdict.LOAD),
    ],
)
def test_each_window_has_its_verdict(age: float | None, failed: bool, verdict: Verdict) -> None:
    """Fresh is served, stale is served and refreshed, older is served only after an error, and then it is over."""
    assert judged(age, failed=failed) is verdict


@quick
@given(POLICIES, SECONDS, SECONDS, SECONDS, st.booleans(), LUCK)
def test_nothing_is_served_after_its_life(
    policy: Policy, beyond: float, fresh: float, compute: float, failed: bool, luck: float
) -> None:
    """Past `life` the answer is to load or to fail, even for a value that was stored with a longer freshness."""
    verdict = decide(
        age=policy.life + beyond, fresh=fresh, compute_seconds=compute, policy=policy, failed=failed, luck=luck
    )
    assert verdict is (Verdict.FAIL if failed else Verdict.LOAD)


@quick
@given(POLICIES, SECONDS, SECONDS, SECONDS, SECONDS, st.booleans(), LUCK)
def test_a_value_gets_no_better_with_age(
    policy: Policy, age: float, older: float, fresh: float, compute: float, failed: bool, luck: float
) -> None:
    """Of two ages the larger never gets the better verdict, and a failure that is remembered starts no computation."""
    younger, older = sorted([age, older])
    first, second = (
        decide(age=a, fresh=fresh, compute_seconds=compute, policy=policy, failed=failed, luck=luck)
        for a in (younger, older)
    )
    assert ORDER[failed].index(first) <= ORDER[failed].index(second)


@quick
@given(POLICIES, SECONDS, SECONDS, SECONDS, LUCK, LUCK)
def test_lower_luck_refreshes_no_later(
    policy: Policy, age: float, fresh: float, compute: float, luck: float, other: float
) -> None:
    """Of two dice the lower one never serves without a refresh where the higher one refreshes."""
    low, high = (
        decide(age=age, fresh=fresh, compute_seconds=compute, policy=policy, failed=False, luck=dice)
        for dice in sorted([luck, other])
    )
    assert not (low is Verdict.SERVE and high is not Verdict.SERVE)


@quick
@given(POLICIES, SECONDS, SECONDS, SECONDS, st.booleans())
def test_the_best_luck_never_refreshes_early(
    policy: Policy, age: float, fresh: float, compute: float, failed: bool
) -> None:
    """With luck 1 a living value is served as it is exactly while it is fresh."""
    verdict = decide(age=age, fresh=fresh, compute_seconds=compute, policy=policy, failed=failed, luck=1.0)
    assert (verdict is Verdict.SERVE) == (age < min(fresh, policy.life))


def test_bad_luck_refreshes_a_slow_value_before_it_expires() -> None:
    """The head start grows with the time the computation takes, and `early_refresh=0` takes it away."""
    assert judged(9.0, luck=0.5) is Verdict.SERVE_AND_REFRESH
    assert judged(5.0, luck=0.5) is Verdict.SERVE
    assert judged(9.0, luck=1e-9, policy=Policy(fresh=10, early_refresh=0.0)) is Verdict.SERVE


def test_a_fresh_value_is_no_error_even_when_its_refresh_failed() -> None:
    """An early refresh that failed leaves the value served as fresh, and is not repeated at each reading."""
    assert judged(9.0, failed=True, luck=1e-9) is Verdict.SERVE


@quick
@given(POLICIES, st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_its_share(policy: Policy, luck: float) -> None:
    """The freshness of a value differs from the declared one by at most `jitter` of it."""
    assert abs(policy.fresh_for(b"1", luck) - policy.fresh) <= policy.fresh * (policy.jitter + 1e-9)


def test_a_life_ends_with_the_longer_window() -> None:
    """Both windows begin where `fresh` ends, and the longer one counts."""
    assert Policy(fresh=1, stale=5, stale_if_error=2).life == 6
    assert Policy(fresh=1, stale=2, stale_if_error=5).life == 6


def test_nothing_is_fresh_for_its_own_time() -> None:
    """A value that is null keeps `negative_ttl`, never longer than `fresh`; others are not touched by it."""
    policy = Policy(fresh=60, negative_ttl=5, jitter=0.0)
    assert policy.fresh_for(b"null", 0.5) == 5
    assert policy.fresh_for(b"[]", 0.5) == 60
    assert Policy(fresh=2, negative_ttl=5, jitter=0.0).fresh_for(b"null", 0.5) == 2
    assert Policy(fresh=2, jitter=0.0).fresh_for(b"null", 0.5) == 2


def test_a_softened_value_is_stale_at_once() -> None:
    """Declared stale before its time it is served within the same windows, and refreshed."""
    assert judged(1.0) is Verdict.SERVE
    assert judged(1.0, softened=True) is Verdict.SERVE_AND_REFRESH
    assert judged(1.0, softened=True, failed=True) is Verdict.SERVE_AFTER_ERROR
    assert judged(1.0, softened=True, policy=Policy(fresh=10, stale=0)) is Verdict.LOAD


def test_a_reader_may_ask_for_a_younger_value() -> None:
    """max-age and min-fresh make a fresh value too old, so that its reader waits for a newer one."""
    assert judged(5.0, demand=Demand(max_age=5), compute=0.1) is Verdict.SERVE
    assert judged(5.1, demand=Demand(max_age=5), compute=0.1) is Verdict.LOAD
    assert judged(5.0, demand=Demand(min_fresh=5), compute=0.1) is Verdict.SERVE
    assert judged(5.1, demand=Demand(min_fresh=5), compute=0.1) is Verdict.LOAD
    assert judged(5.1, demand=Demand(max_age=5), compute=0.1, failed=True) is Verdict.SERVE_AFTER_ERROR


def test_nobody_can_keep_the_workers_busy_by_asking_for_younger_values() -> None:
    """A value of the last second, or of ten times what computing it takes, is young enough for everybody."""
    assert judged(0.9, demand=Demand(max_age=0.1)) is Verdict.SERVE
    assert judged(9.0, compute=0.9, demand=Demand(max_age=0.1)) is Verdict.SERVE
    assert judged(9.1, compute=0.9, demand=Demand(max_age=0.1)) is Verdict.LOAD
    assert judged(0.9, demand=Demand(min_fresh=3600)) is Verdict.SERVE


def test_a_reader_may_take_an_older_value() -> None:
    """max-stale reaches beyond the window of stale-while-revalidate, but never beyond the value's life."""
    policy = Policy(fresh=10, stale=20, stale_if_error=100)
    assert judged(40.0, policy=policy) is Verdict.LOAD
    assert judged(40.0, policy=policy, demand=Demand(max_stale=31)) is Verdict.SERVE_AND_REFRESH
    assert judged(40.0, policy=policy, demand=Demand(max_stale=29)) is Verdict.LOAD
    assert judged(111.0, policy=policy, demand=Demand(max_stale=inf)) is Verdict.LOAD
