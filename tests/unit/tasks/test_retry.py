"""Which failures are tried again, and how long the pause before it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.errors import (
    BadParameters,
    ComputationFailed,
    ComputationTimeout,
    MillpondError,
    Misdeclared,
    NotJson,
    Unavailable,
    ValueTooLarge,
)
from tasks.retry import BASE, LONGEST, pause, worth_retrying

quick = settings(max_examples=80, deadline=None)

LUCK = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        (ComputationFailed("ValueError"), True),
        (ComputationTimeout(), False),
        (ValueTooLarge(), False),
        (NotJson(), False),
        (Misdeclared(), False),
        (BadParameters([]), False),
        (Unavailable(), False),
        (MillpondError(), False),
    ],
)
def test_only_a_function_that_raised_is_tried_again(error: MillpondError, worth: bool) -> None:
    """What would end the same way, or as late, is not repeated."""
    assert worth_retrying(error) is worth


@quick
@given(st.integers(0, 10**6), LUCK)
def test_every_pause_is_bounded(failures: int, luck: float) -> None:
    """However often it failed, a pause is never negative and never longer than the longest."""
    assert 0 <= pause(failures, luck) <= LONGEST


@quick
@given(st.integers(0, 30), LUCK, LUCK)
def test_the_pause_is_random_over_its_whole_range(failures: int, one: float, other: float) -> None:
    """Luck 0 waits not at all, and the pause grows with luck in proportion."""
    assert pause(failures, 0.0) == 0
    assert (one < other) <= (pause(failures, one) <= pause(failures, other))
    assert pause(failures, 0.5) == min(LONGEST, BASE * 2**failures) / 2


def test_each_failure_doubles_the_range_up_to_the_longest() -> None:
    """The range is 1, 2, 4 seconds and so on after the first, second and third failure, and a minute at the end."""
    assert [2 * pause(failures, 0.5) for failures in (1, 2, 3, 7, 8, 10**9)] == [1, 2, 4, 60, 60, 60]
