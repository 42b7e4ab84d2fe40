"""Intervals of means: right on samples whose answer is known, the same every time, and stoppable."""

from __future__ import annotations

from random import Random
from statistics import NormalDist, fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.demo.bootstrap import REPORT_EVERY, Interval, intervals_of_means


def interval(values: list[int], samples: int = 200) -> Interval:
    return intervals_of_means({"all": values}, samples, lambda done, total, group: None)["all"]


def test_of_a_large_symmetric_sample_it_is_the_textbook_interval() -> None:
    """Near mean ± 1.96 standard errors, the answer that theory gives."""
    values = [round(value) for value in NormalDist(100, 20).samples(900, seed=7)]
    low, mean, high = interval(values, samples=1000)
    half = 1.96 * stdev(values) / 30
    assert mean == fmean(values)
    assert mean - low == pytest.approx(half, rel=0.15)
    assert high - mean == pytest.approx(half, rel=0.15)


def test_of_a_skewed_sample_it_reaches_further_to_the_long_side() -> None:
    """Most on time, a few hours late: the mean may well be higher, but hardly lower."""
    low, mean, high = interval([0] * 60 + [5] * 30 + [60] * 8 + [400] * 2, samples=500)
    assert high - mean > 1.5 * (mean - low) > 0


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    """Of 100 samples from a known population the 95 % interval holds the mean of the population for 88 or more."""
    draw = Random(11)
    population = [round(draw.expovariate(1 / 30)) for _ in range(5000)]
    truth = fmean(population)
    intervals = [interval(draw.choices(population, k=40), samples=100) for _ in range(100)]
    assert sum(low <= truth <= high for low, _, high in intervals) >= 88


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-40, 1300), min_size=10, max_size=40), st.integers(50, 80))
def test_the_mean_lies_in_it_and_it_is_the_same_every_time(values: list[int], samples: int) -> None:
    """low <= mean <= high, whatever the values, and nothing depends on luck."""
    found = interval(values, samples)
    assert found.low <= found.mean <= found.high
    assert found == interval(values, samples)


def test_values_that_do_not_differ_have_no_width() -> None:
    """No spread, no doubt, and no division by zero."""
    assert interval([7] * 12) == Interval(7, 7, 7)


def test_progress_grows_to_the_total_and_what_it_raises_ends_the_work() -> None:
    """Reported per group every few resamples, the last report being the total."""
    groups = {"AA": [1, 5, 3, 9], "B6": [2, 4]}
    told: list[tuple[int, int, str]] = []
    intervals_of_means(groups, 50, lambda done, total, group: told.append((done, total, group)))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (300, 300, "B6")
    assert len(told) == 2 * 50 // REPORT_EVERY + 1

    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int, group: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        intervals_of_means(groups, 50, cancel)
