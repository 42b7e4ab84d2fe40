"""Deltas, put together again by the decoder of the stock client."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import example, given
from hypothesis import strategies as st

from consumers import fossil

#: Few different bytes make repetitions, where a wrong place looks right.
repetitive = st.binary(max_size=400).map(lambda raw: bytes(byte & 3 for byte in raw))
texts = st.binary(max_size=400) | repetitive | st.text(max_size=200).map(str.encode)


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A text and what some edits have made of it: insertions, deletions, parts moved or doubled."""
    base = draw(texts) * draw(st.integers(1, 6))
    news = base
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(news)))
        end = draw(st.integers(start, min(len(news), start + 60)))
        to = draw(st.integers(0, len(news)))
        new = draw(st.sampled_from([b"", draw(st.binary(max_size=40)), news[start:end]]))
        news = draw(st.sampled_from([news[:start] + new + news[end:], news[:to] + new + news[to:]]))
    return base, news


def restored(base: bytes, delta: bytes) -> bytes:
    return bytes(apply_delta(base, delta))


@given(st.tuples(texts, texts) | edited())
@example((b"", b""))
@example((b"", b"x"))
@example((b"x", b""))
@example((b"\xff" * 64, b"\xff" * 65))
@example(("Привет, мир 🌍".encode(), "Привет, мор 🌏".encode()))
def test_a_delta_gives_the_news(pair: tuple[bytes, bytes]) -> None:
    """Whatever the two are: no byte is lost, and the checksum is right."""
    base, news = pair
    assert restored(base, fossil.encode(base, news)) == news


def test_the_format_is_that_of_fossil() -> None:
    """Size, copy, insertion, copy, and the checksum of the bytes "abcd" * 4 + "XY" + "abcd" * 4 by hand."""
    delta = fossil.encode(b"abcd" * 8, b"abcd" * 4 + b"XY" + b"abcd" * 4)
    words = [0x61626364] * 4 + [0x58596162] + [0x63646162] * 3 + [0x63640000]
    head, copies = delta.split(b"\n", 1)
    assert head == b"Y"  # 34
    assert copies[:-1].split(b",")[:2] == [b"G@0", b"2:XYG@G"]
    assert _value(copies[:-1].split(b",")[2]) == sum(words) % 2**32


def _value(digits: bytes) -> int:
    value = 0
    for digit in digits:
        value = value * 64 + b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~".index(digit)
    return value


@pytest.mark.parametrize("middle", [b"d" * 520, random.Random(1).randbytes(520)], ids=["uniform", "random"])
def test_what_differs_at_both_ends_is_found_in_between(middle: bytes) -> None:
    """540 bytes, of which neither the first nor the last are the same."""
    base, news = b"0123456789" + middle + b"abcdefghij", b"ABCDEFGHI!" + middle + b"9876543210"
    delta = fossil.encode(base, news)
    assert restored(base, delta) == news
    assert len(delta) < 60


def test_a_row_on_top_and_one_less_at_the_bottom_cost_that_row() -> None:
    rows = [{"flight": f"UA{number * 7919 % 9973}", "delay": number * 31 % 60} for number in range(60)]
    base, news = _json(rows[1:51]), _json(rows[:50])
    delta = fossil.encode(base, news)
    assert restored(base, delta) == news
    assert len(delta) < 2 * len(_json(rows[:1]))


def test_a_number_in_every_tenth_row_costs_little() -> None:
    rows = [{"carrier": f"{number * 7919:08x}", "flights": number} for number in range(1000)]
    later = [row | {"flights": 90_000 + number} if number % 10 == 0 else row for number, row in enumerate(rows)]
    base, news = _json(rows), _json(later)
    delta = fossil.encode(base, news)
    assert restored(base, delta) == news
    assert len(delta) < len(news) / 15


@pytest.mark.parametrize("kilobytes", [64, 256])
def test_large_texts_with_nothing_or_very_much_in_common(kilobytes: int) -> None:
    """Where looking for more has an end, the delta is long and still right."""
    luck = random.Random(kilobytes)
    one, other = (luck.randbytes(kilobytes * 512).hex().encode() for _ in range(2))
    mixed = b"".join(one[at : at + 24] + other[at : at + 8] for at in range(0, len(one), 40))
    for base, news in ((one, other), (one, mixed), (mixed, one), (b"[" + one, one + b"]")):
        assert restored(base, fossil.encode(base, news)) == news


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
