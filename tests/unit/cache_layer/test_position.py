"""Positions: their text, and which of two covers the other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_layer.position import Position

quick = settings(max_examples=80, deadline=None)

POSITIONS = st.builds(Position, st.text("abcXYZ019", min_size=1, max_size=32), st.integers(0, 10**16 - 1))


@quick
@given(POSITIONS)
def test_a_position_is_read_back_from_its_text(position: Position) -> None:
    """In the form it is written, and in that of the stream protocols."""
    assert Position.parse(str(position)) == position
    assert Position.parse(f"{position.epoch}:{position.offset}") == position
    assert position.etag() == f'"{position}"'


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "a", "a-", "-1", "a--1", "a-1 ", " a-1", "a-1\n", '"a-1"', "a_b-1", "ä-1", "a-1.0", "a-+1", "a-١"),
        *("a-²", "a-" + "1" * 17, "a" * 33 + "-1", "a-1-1", "W/a-1"),
    ],
)
def test_anything_else_is_no_position(text: str) -> None:
    """A text that was not written by a position is None, never an error."""
    assert Position.parse(text) is None


@quick
@given(st.text())
def test_no_text_raises(text: str) -> None:
    """Whatever a client sends is a position or None."""
    found = Position.parse(text)
    assert found is None or Position.parse(str(found)) == found


@quick
@given(POSITIONS, POSITIONS)
def test_only_a_position_of_the_same_epoch_covers(one: Position, other: Position) -> None:
    """Within an epoch the larger offset covers; across epochs nothing does."""
    assert one.covers(other) == (one.epoch == other.epoch and one.offset >= other.offset)
    assert one.covers(one)
    assert not one.covers(Position(one.epoch + "x", 0))
    assert not one.covers(Position(one.epoch, one.offset + 1))
