"""Figures of many measurements: pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

#: Share of a core from which on a process counts as saturated.
SATURATED = 0.85


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the values that at least `share` of them do not exceed.  Raises ValueError without values."""
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(1000 * share) // 1000) - 1)]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and from the least to the most."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def saturated(server: float, generator: float) -> str:
    """Which side was at its limit; none when the machine had no more to give."""
    sides = [name for name, busy in (("server", server), ("client", generator)) if busy >= SATURATED]
    return f"{' and '.join(sides) or 'neither'} (server {server:.0%}, client {generator:.0%} of a core)"
