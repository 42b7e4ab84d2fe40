"""Values as bytes: what is JSON comes out compact, what is not is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.computing import encode_value
from asgi_app.errors import NotJson, ValueTooLarge

quick = settings(max_examples=80, deadline=None)

MIB = 1024 * 1024
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@quick
@given(VALUES)
def test_a_value_is_read_back_from_its_bytes(value: Any) -> None:
    """What JSON can say survives, in one line."""
    payload = encode_value(value, limit=MIB)
    assert json.loads(payload) == value
    assert b"\n" not in payload


@quick
@given(VALUES)
def test_equal_values_have_equal_bytes(value: Any) -> None:
    """A computation that comes to the same result disturbs nobody."""
    assert encode_value(json.loads(json.dumps(value)), limit=MIB) == encode_value(value, limit=MIB)


@dataclass
class Row:
    name: str
    n: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True]}, '{"a":[1,2.5,null,true]}'),
        (float("nan"), "null"),
        ([float("inf")], "[null]"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"2026-01-02T03:04:05Z"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (Decimal("1.10"), '"1.10"'),
        (Row("a", 1), '{"name":"a","n":1}'),
        ((1, 2), "[1,2]"),
        ({1: "a"}, '{"1":"a"}'),
        ("ä\n", '"ä\\n"'),
    ],
)
def test_common_types_have_their_form(value: Any, text: str) -> None:
    """Times, decimals, rows and keys are written as readers expect them; no number is null."""
    assert encode_value(value, limit=MIB).decode() == text


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [object(), {"a": {"b": object()}}, "\ud800", {"\ud800": 1}, {(1, 2): 3}, endless(), iter([1]), encode_value],
)
def test_what_is_no_json_is_refused(value: Any) -> None:
    """Foreign objects, broken texts and endless nesting are one error, wherever they stand."""
    with pytest.raises(NotJson):
        encode_value(value, limit=MIB)


def test_the_refusal_names_the_type() -> None:
    """The author of the function learns what it returned, not what was in it."""
    with pytest.raises(NotJson, match="a value of type Secret"):
        encode_value({"a": type("Secret", (), {"__repr__": lambda self: "hunter2"})()}, limit=MIB)


def test_a_value_is_bounded() -> None:
    """The limit counts bytes of the text, itself included; the error names both sizes and the setting."""
    assert len(encode_value("x" * (MIB - 2), limit=MIB)) == MIB
    with pytest.raises(ValueTooLarge, match=r"1,572,866 bytes; the limit is 1,048,576 \(MILLPOND_MAX_VALUE\)"):
        encode_value("ä" * (MIB * 3 // 4), limit=MIB)
    with pytest.raises(ValueTooLarge):
        encode_value("x" * (MIB - 1), limit=MIB)


def test_raw_text_is_cut_at_no_newline() -> None:
    """A msgspec.Raw is passed on as it is, save that it has to fit into one line."""
    assert encode_value(msgspec.Raw(b'{"a":1}'), limit=MIB) == b'{"a":1}'
    assert encode_value({"rows": msgspec.Raw(b"[1,\n 2]")}, limit=MIB) == b'{"rows":[1,2]}'
    with pytest.raises(NotJson):
        encode_value(msgspec.Raw(b"[1,\n"), limit=MIB)
