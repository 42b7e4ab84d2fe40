"""Values of database columns come back from JSON as they went in."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.caching.packing import pack, unpack

quick = settings(max_examples=80, deadline=None)
BERLIN = ZoneInfo("Europe/Berlin")


def again(value: Any) -> Any:
    return unpack(msgspec.json.decode(msgspec.json.encode(pack(value))))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.times()
    | st.timedeltas()
    | st.uuids()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@quick
@given(values)
def test_what_comes_back_is_what_went_in(value: Any) -> None:
    """Equal, and of the same type."""
    found = again(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Decimal("1.50"),
        Decimal("-0"),
        Decimal("1E+5"),
        -0.0,
        math.inf,
        2**200,
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        time(2, 30, fold=1),
        ["decimal", "1"],
        {"date": ["list", [1]]},
        {1: (2, b"\xff")},
    ],
)
def test_nothing_is_lost_of_it(value: Any) -> None:
    """Not even what equality does not see: digits, signs, zones; and data that looks like our own marks."""
    found = again(value)
    assert repr(found) == repr(value)


def test_not_a_number_stays_one() -> None:
    """JSON would make it null."""
    assert math.isnan(again(math.nan))


def test_a_view_of_bytes_is_bytes() -> None:
    """What some drivers give for a binary column."""
    assert again(memoryview(b"\x00\xff")) == b"\x00\xff"


class Text(str):
    """A text that is more than one."""


@pytest.mark.parametrize("value", [object(), {1}, Text("a"), [UUID(int=1), object()], date.max.replace, 1j])
def test_what_cannot_be_kept_is_refused(value: Any) -> None:
    """Naming its type; never by keeping something like it."""
    with pytest.raises(TypeError, match="cannot be kept"):
        pack(value)
