"""When a value may be served: the windows, the early refresh, and the end of every value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_layer.freshness import Policy, Verdict, decide

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


def judged(age: float | None, *, failed: bool = False, luck: float = 1.0, policy: Policy = POLICY) -> Verdict:
    return decide(age=age, fresh=policy.fresh, compute_seconds=2.0, policy=policy, failed=failed, luck=luck)


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
    assert abs(policy.jittered_fresh(luck) - policy.fresh) <= policy.fresh * (policy.jitter + 1e-9)


def test_a_life_ends_with_the_longer_window() -> None:
    """Both windows begin where `fresh` ends, and the longer one counts."""
    assert Policy(fresh=1, stale=5, stale_if_error=2).life == 6
    assert Policy(fresh=1, stale=2, stale_if_error=5).life == 6
