"""Progress of a running function: rare, never backwards, and the place where a cancellation is heard."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.progress import INTERVAL, NOTE_LENGTH, JobCancelled, ProgressReport

quick = settings(max_examples=80, deadline=None)


class Told:
    """What left the process, and a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 50.0
        self.reports: list[dict[str, Any]] = []
        self.progress = ProgressReport(lambda report: self.reports.append(json.loads(report)), clock=lambda: self.now)

    def at(self, seconds: float, done: float, total: float | None = None, note: str = "") -> None:
        self.now += seconds
        self.progress(done, total, note)

    @property
    def done(self) -> list[float]:
        return [report["done"] for report in self.reports]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_report_says_how_far_it_is(told: Told) -> None:
    """It carries what the function said, and the percentage where there is a total."""
    told.at(0, 1, 3, "first of three")
    told.at(1, 2)
    assert told.reports == [
        {"done": 1, "total": 3, "percent": 33.3, "note": "first of three"},
        {"done": 2, "total": None, "percent": None, "note": ""},
    ]


def test_reports_in_quick_succession_are_left_out(told: Told) -> None:
    """Within the interval after a report no other leaves the process, and none is made up for."""
    for _ in range(9):
        told.at(INTERVAL / 8, len(told.reports), 100)
    assert len(told.reports) == 2


def test_the_last_report_is_sent_whenever_it_comes(told: Told) -> None:
    """That all is done is said at once, even just after another report."""
    told.at(0, 99, 100)
    told.at(0, 100, 100)
    assert told.done == [99, 100]


def test_a_function_that_is_always_done_does_not_flood(told: Told) -> None:
    """Reports without a known end, `progress(i, i)`, are as rare as others."""
    for number in range(1, 101):
        told.at(0, number, number)
    assert told.done == [1]
    told.at(INTERVAL, 101, 101)
    assert told.done == [1, 101]


@quick
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e9), st.none() | st.floats(1e-3, 1e9)), max_size=20))
def test_progress_never_goes_back(steps: list[tuple[float, float, float | None]]) -> None:
    """Whatever a function says, `done` never shrinks, and no percentage is above 100."""
    told = Told()
    for seconds, done, total in steps:
        told.at(seconds, done, total)
    assert told.done == sorted(told.done)
    assert all(report["percent"] is None or 0 <= report["percent"] <= 100 for report in told.reports)


@quick
@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 10), st.none() | st.floats(1, 10)), max_size=30))
def test_only_a_few_reports_a_second_leave(steps: list[tuple[float, float, float | None]]) -> None:
    """In any time there is one report for each interval, and two more for the first and the last."""
    told = Told()
    for seconds, done, total in steps:
        told.at(seconds, done, total)
    assert len(told.reports) <= 2 + (told.now - 50.0) / INTERVAL


@pytest.mark.parametrize(
    ("done", "total"), [(-1, None), (math.nan, 1), (math.inf, 1), (1, -1), (1, math.nan), (1, math.inf)]
)
def test_a_bad_number_is_refused(told: Told, done: float, total: float | None) -> None:
    """A mistake in a function is an error where it was made, and nothing of it is told."""
    with pytest.raises(ValueError, match="progress: "):
        told.progress(done, total)
    assert told.reports == []


def test_a_note_is_bounded_and_any_text(told: Told) -> None:
    """A long note is cut, and what is no text is written as one."""
    told.at(0, 1, None, "n" * 10_000)
    told.progress(2, 2, 5)  # type: ignore[arg-type]
    assert told.reports[0]["note"] == "n" * NOTE_LENGTH
    assert told.reports[1]["note"] == "5"


def test_a_cancelled_job_is_stopped_at_its_next_report(told: Told) -> None:
    """The function hears of it even when that report would not have been sent."""
    told.at(0, 1)
    told.progress.cancelled = True
    with pytest.raises(JobCancelled):
        told.at(0, 2)
    assert told.done == [1]


def test_what_is_learnt_while_sending_stops_it_at_once() -> None:
    """The answer to a report may be that the job is cancelled."""

    def send(report: bytes) -> None:
        progress.cancelled = True

    progress = ProgressReport(send)
    with pytest.raises(JobCancelled):
        progress(1)


def test_a_broad_except_does_not_swallow_a_cancellation() -> None:
    """A function that catches every `Exception` is stopped all the same."""
    assert not issubclass(JobCancelled, Exception)


def test_nothing_to_do_is_all_done(told: Told) -> None:
    """Of an empty list all is done: a total of 0 is no mistake."""
    told.at(0, 0, 0)
    assert told.reports[-1]["percent"] == 100.0
