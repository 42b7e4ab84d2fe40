"""Which failures are tried again, and how long the pause before it is."""

from __future__ import annotations

from typing import Any

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
from asgi_app.registry import Action, action, registry
from tasks.limits import TimeLimitReached
from tasks.retry import BASE, LONGEST, pause, worth_retrying

quick = settings(max_examples=80, deadline=None)

LUCK = st.floats(0, 1, exclude_max=True)


def declared(**options: Any) -> Action:
    """An action with these options."""
    with registry.isolated() as here:

        @action("some.action", **options)
        def some_action() -> None:
            """Nothing."""

        return here.action("some.action")


@pytest.mark.parametrize(
    ("raised", "error", "worth"),
    [
        (ValueError(), ComputationFailed("ValueError"), True),
        (TimeLimitReached(), ComputationTimeout(), False),
        (ValueTooLarge(), ValueTooLarge(), False),
        (NotJson(), NotJson(), False),
        (Misdeclared(), Misdeclared(), False),
        (BadParameters([]), BadParameters([]), False),
        (Unavailable(), Unavailable(), True),
        (MillpondError(), MillpondError(), False),
    ],
)
def test_what_would_end_the_same_way_is_not_tried_again(raised: Exception, error: MillpondError, worth: bool) -> None:
    """Only what a function raised that may pass: of our own errors those that say so."""
    assert worth_retrying(declared(), raised, error) is worth


@pytest.mark.parametrize(
    ("options", "raised", "worth"),
    [
        ({"retry_on": (OSError,)}, ConnectionError(), True),
        ({"retry_on": (OSError,)}, ValueError(), False),
        ({"fail_on": (ValueError,)}, UnicodeError(), False),
        ({"fail_on": (ValueError,)}, OSError(), True),
        ({"retry_on": (OSError,), "fail_on": (ConnectionError,)}, ConnectionResetError(), False),
    ],
)
def test_a_declaration_says_what_is_tried_again(options: dict[str, Any], raised: Exception, worth: bool) -> None:
    """`retry_on` names what is, `fail_on` what is not, and the latter is stronger."""
    assert worth_retrying(declared(**options), raised, ComputationFailed("it raised")) is worth


def test_too_late_is_tried_again_where_it_is_said() -> None:
    """By TimeoutError in `retry_on`: another attempt may be quicker."""
    patient = declared(retry_on=(Exception, TimeoutError))
    assert worth_retrying(patient, TimeLimitReached(), ComputationTimeout())


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
