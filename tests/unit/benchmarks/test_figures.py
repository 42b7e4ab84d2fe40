"""The sequences and figures of the comparisons."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.figures import percentile, saturated, spread
from tests.benchmarks.l2clients import conclusion
from tests.benchmarks.start import Import, by_package
from tests.benchmarks.zipf import sequence


def test_all_are_asked_for_the_same_keys() -> None:
    assert sequence(100, seed=7, length=1000) == sequence(100, seed=7, length=1000)
    assert sequence(100, seed=7, length=1000) != sequence(100, seed=8, length=1000)


def test_keys_come_by_the_law() -> None:
    counts = Counter(sequence(1000, length=200_000))
    # 1 / H(1000) of all is for the first
    assert 0.12 < counts[0] / 200_000 < 0.15
    assert 1.8 < counts[0] / counts[1] < 2.2
    assert 9 < counts[0] / counts[9] < 11


def test_every_key_is_one_of_them() -> None:
    assert set(sequence(5, length=10_000)) == {0, 1, 2, 3, 4}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_a_percentile_is_the_least_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert share == 0 or sum(value < found for value in values) < share * len(values)


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_spread_tells_the_median_and_the_ends() -> None:
    assert spread([3, 1, 2]) == "2 (1–3)"
    assert spread([0.25], 2) == "0.25 (0.25–0.25)"


def test_who_was_saturated() -> None:
    assert saturated(0.9, 0.3) == "server (server 90%, client 30% of a core)"
    assert saturated(0.2, 0.95).startswith("client (")
    assert saturated(0.5, 0.5).startswith("neither (")


def test_imports_are_summed_up_by_package() -> None:
    report = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |     django.utils
import time:       250 |        350 |   django
import time:        40 |         40 | redis
something else
"""
    assert by_package(report) == ([Import("django", 350), Import("redis", 40)], 390)


def test_a_library_within_a_fifth_would_be_taken() -> None:
    assert "should take" in conclusion({"ours": 10.0, "a": 12.0, "b": 30.0})
    assert "costs 2.0 times" in conclusion({"ours": 10.0, "ours, TCP": 11.0, "a": 20.0})
