"""Which failures are tried again, and how long the pause before it is."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
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
from tasks.retry import BASE, LONGEST, LONGEST_ASKED, asked_pause, pause, worth_retrying

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
    torn = declared(retry_on=(TimeoutError,), fail_on=(TimeoutError,))
    assert not worth_retrying(torn, TimeLimitReached(), ComputationTimeout())


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


NOW = 1_700_000_000.0


class Asks(Exception):
    """An exception that says when to come again, as libraries do."""

    def __init__(self, retry_after: Any = None, headers: Any = None) -> None:
        super().__init__()
        self.retry_after = retry_after
        self.response = None if headers is None else SimpleNamespace(headers=headers)


class Broken:
    def get(self, name: str) -> str:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    ("raised", "pause_"),
    [
        (ValueError(), 0),
        (Asks(7), 7),
        (Asks(0.5), 0.5),
        (Asks("12"), 12),
        (Asks(" 12 "), 12),
        (Asks(-3), 0),
        (Asks(10**9), LONGEST_ASKED),
        (Asks(10**400), 0),
        (Asks("9" * 400), LONGEST_ASKED),
        (Asks(True), 0),
        (Asks(float("nan")), 0),
        (Asks(float("inf")), 0),
        (Asks("soon"), 0),
        (Asks("-5"), 0),
        (Asks("١٢"), 0),
        (Asks(timedelta(seconds=3)), 0),
        (Asks(headers={"Retry-After": "30"}), 30),
        (Asks(headers={"Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}), 30),
        (Asks(headers={"Retry-After": "Tue, 14 Nov 2023 22:13:50"}), 30),
        (Asks(headers={"Retry-After": "Tue, 14 Nov 2023 23:13:50 +0100"}), 30),
        (Asks(headers={"Retry-After": "Tue, 14 Nov 2023 22:00:00 GMT"}), 0),
        (Asks(headers={"Retry-After": "Sat, 14 Nov 99999 22:00:00 GMT"}), 0),
        (Asks(headers={}), 0),
        (Asks(headers=Broken()), 0),
        (Asks(5, headers={"Retry-After": "30"}), 5),
    ],
    ids=lambda value: None if isinstance(value, int | float) else f"{vars(value)}"[:60],
)
def test_a_failure_may_say_when_to_come_again(raised: BaseException, pause_: float) -> None:
    """By `retry_after`, or the header of its `response` in either form, up to an hour; nonsense says nothing."""
    assert asked_pause(raised, NOW) == pytest.approx(pause_)
