"""How long a running job may still take."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.desk import seconds_left

quick = settings(max_examples=80, deadline=None)
START = 1_700_000_000
SECONDS = st.floats(0, 1e6)


def fields(percent: float | None = None) -> dict[str, str]:
    progress = "" if percent is None else f'{{"percent":{percent}}}'
    return {"started_at": str(START * 1000), "progress": progress}


@pytest.mark.parametrize(
    ("percent", "usual", "elapsed", "left"),
    [
        (None, None, 10, None),
        (None, 30, 10, 20),
        (None, 30, 40, 0),
        (0, 30, 10, 20),
        (0, None, 10, None),
        (50, None, 10, 10),
        (25, None, 10, 30),
        (100, None, 10, 0),
        (50, 30, 10, 15),  # half of what its like say, half of what it says itself
        (90, 30, 9, 3),
        (50, None, -5, 0),  # clocks differ
    ],
)
def test_what_is_left_follows_from_progress_and_from_its_like(
    percent: float | None, usual: float | None, elapsed: float, left: float | None
) -> None:
    """The further it is, the more its own progress counts; nobody knows while neither does."""
    assert seconds_left(fields(percent), usual, START + elapsed) == (None if left is None else pytest.approx(left))


@quick
@given(st.none() | st.floats(0, 100), st.none() | SECONDS, SECONDS)
def test_it_is_never_negative(percent: float | None, usual: float | None, elapsed: float) -> None:
    """Whatever is known."""
    left = seconds_left(fields(percent), usual, START + elapsed)
    assert left is None or left >= 0
