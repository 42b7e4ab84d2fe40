"""When an attempt is ended by force."""

from __future__ import annotations

import pytest

from cache_layer.queues import Held
from tasks.verdict import GRACE, judge

NOW = 1_700_000_000_000
MS = round(GRACE * 1000)


def held(fence: int = 1, deadline: int = NOW) -> Held:
    return Held(kind="action", fence=fence, pid=1, queue="default", priority=5, lane="", deadline=deadline)


@pytest.mark.parametrize(
    ("what", "cancel", "alive", "verdict"),
    [
        (held(), None, True, None),
        (held(deadline=NOW - 1), None, True, "limit"),
        (held(), NOW, True, None),
        (held(), NOW - MS, True, None),
        (held(), NOW - MS - 1, True, "cancelled"),
        (held(deadline=NOW - 1), NOW - MS - 1, True, "limit"),
        (held(), None, False, "died"),
        (held(deadline=NOW - 1), NOW - MS - 1, False, "died"),
        (held(fence=0, deadline=0), None, True, None),
        (held(fence=0, deadline=0), NOW - MS - 1, True, None),
        (held(fence=0, deadline=0), None, False, "died"),
    ],
)
def test_an_attempt_has_its_time_and_a_moment_to_end_by_itself(
    what: Held, cancel: int | None, alive: bool, verdict: str | None
) -> None:
    """A dead process is a loss; a living one that has not claimed yet is left alone."""
    assert judge(what, cancel, alive=alive, now=NOW) == verdict
