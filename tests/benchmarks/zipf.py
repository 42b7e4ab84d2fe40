"""Which keys are asked for, and how often: few very often, most hardly ever, as on the web (Zipf's law).

Invariant: the same arguments give the same sequence, so that everybody who is compared is asked the same.
"""

from __future__ import annotations

import random


def sequence(keys: int, *, exponent: float = 1.0, seed: int = 1, length: int = 100_000) -> list[int]:
    """`length` keys out of 0 to `keys` - 1; key k comes in proportion to 1 / (k + 1) ** exponent."""
    weights = [1 / rank**exponent for rank in range(1, keys + 1)]
    return random.Random(seed).choices(range(keys), weights, k=length)
