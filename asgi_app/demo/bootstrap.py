"""Confidence intervals of means by the bootstrap-t (Efron and Tibshirani, An Introduction to the Bootstrap, 12.5).

Delays lean far to the right: most flights leave on time, a few leave hours late.  The textbook interval, mean ± 2 s.e.,
is too short on that side; the bootstrap-t finds each side's length by drawing again and again from the flights
themselves.  Pure Python on one core, and slow on purpose of the demo: it is the work that Millpond moves to a worker.
"""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from random import Random
from statistics import fmean, quantiles, stdev
from typing import NamedTuple

#: Resamples between two reports of progress.
REPORT_EVERY = 10


class Interval(NamedTuple):
    """low <= mean <= high, in the unit of the values."""

    low: float
    mean: float
    high: float

    def rounded(self) -> dict[str, float]:
        """To hundredths."""
        return {name: round(value, 2) for name, value in self._asdict().items()}


def intervals_of_means(
    groups: Mapping[str, Sequence[int]], samples: int, progress: Callable[[int, int, str], None]
) -> dict[str, Interval]:
    """The 95 % interval of the mean of every group of at least two values, from `samples` (40 or more) resamples.

    The same arguments give the same intervals.  `progress(done, total, group)` counts drawn values; what it raises
    ends the work.
    """
    done, total = 0, samples * sum(map(len, groups.values()))
    intervals = {}
    for group, values in groups.items():
        draw, mean = Random(group), fmean(values)
        scores = []
        for count in range(samples):
            scores.append(_score(draw.choices(values, k=len(values)), mean))
            done += len(values)
            if count % REPORT_EVERY == 0 or done == total:
                progress(done, total, group)
        lowest, *_, highest = quantiles(scores, n=40)  # the 2.5 % and the 97.5 % points
        standard_error = stdev(values) / sqrt(len(values))
        intervals[group] = Interval(mean - highest * standard_error, mean, mean - lowest * standard_error)
    return intervals


def _score(resample: Sequence[int], mean: float) -> float:
    """How many of its own standard errors the resample's mean lies above `mean`; 0 if all its values are one."""
    center = fmean(resample)
    spread = stdev(resample, center)
    return (center - mean) * sqrt(len(resample)) / spread if spread else 0.0
