"""Values come back equal and of the same types, and what cannot is refused by name."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack  # type: ignore[import-untyped]
import pytest
from django.http import HttpResponse, HttpResponseNotModified, JsonResponse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from asgi_app.cache_backend.serializers import Serializer
from cache_layer.kv import Kept

DATA = ("json", "msgpack")
ALL = (*DATA, "pickle")
BERLIN = ZoneInfo("Europe/Berlin")

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.sampled_from([None, dt.UTC, BERLIN, dt.timezone(dt.timedelta(hours=-3, minutes=30))]))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.text().map(mark_safe)
)
_KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers()) | st.just("__t") | st.uuids()
VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(_KEYS, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["__t", "v"]), inner, max_size=2)
        | st.sets(_KEYS, max_size=4)
        | st.frozensets(_KEYS, max_size=4)
    ),
    max_leaves=12,
)


def there_and_back(value: Any, name: str) -> Any:
    """Encoded and decoded by the serializer of that name."""
    serializer = Serializer(name)
    return serializer.loads(serializer.dumps(value, "key"), "key")


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types at every depth."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        keys = {(type(key), key) for key in one} == {(type(key), key) for key in other}
        return keys and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return all(map(same, one, other))
    if isinstance(one, dt.datetime):
        return (one.tzinfo, one.fold) == (other.tzinfo, other.fold)
    return True


@pytest.mark.parametrize("name", ALL)
@given(value=VALUES)
def test_values_come_back_as_they_were(name: str, value: Any) -> None:
    """Whatever is made of plain types, at any depth, and also what looks like a tag."""
    assert same(there_and_back(value, name), value)


@pytest.mark.parametrize("name", ALL)
def test_the_odd_ones(name: str) -> None:
    """The second hour of the night the clocks go back, numbers that are none, lone surrogates, text that is safe."""
    night = dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN)
    found = there_and_back([night, math.inf, math.nan, -0.0, "\ud800", mark_safe("<b>"), Decimal("1.10")], name)
    assert found[0].utcoffset() == night.utcoffset()
    assert found[0].tzinfo is BERLIN
    assert found[1] == math.inf
    assert math.isnan(found[2])
    assert math.copysign(1, found[3]) == -1
    assert found[4] == "\ud800"
    assert type(found[5]) is SafeString
    assert str(found[6]) == "1.10"


@pytest.mark.parametrize("name", ALL)
def test_whole_numbers_are_digits_and_bools_are_not(name: str) -> None:
    """So that the store can count the former, and leaves the latter alone."""
    serializer = Serializer(name)
    assert serializer.dumps(-42, "key") == Kept(kind=b"i", payload=b"-42")
    assert serializer.dumps(True, "key").kind != b"i"
    assert there_and_back(True, name) is True


class Subclass(dict[str, int]):
    """Would come back as its base."""


_RECURSIVE: list[Any] = []
_RECURSIVE.append(_RECURSIVE)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"),
        (Subclass(a=1), "test_cache_backend_values.Subclass"),
        (lambda: 1, "function"),
        (dict, "type"),
        (gettext_lazy("Yes"), "__proxy__"),
        ([{"deep": (1j,)}], "complex"),
        (_RECURSIVE, "recursion"),
    ],
)
def test_what_is_no_data_is_refused(name: str, value: Any, named: str) -> None:
    """The message names the type, the key, and what could hold it."""
    with pytest.raises(TypeError) as refused:
        Serializer(name).dumps(value, "the-key")
    message = str(refused.value)
    assert named in message
    assert "'the-key'" in message
    assert repr(name) in message
    assert "allow_pickle" in message


@pytest.mark.parametrize("name", ALL)
def test_a_number_of_too_many_digits_is_refused(name: str) -> None:
    """Like any other value that cannot be held, alone and, where it has to be digits, inside another."""
    with pytest.raises(TypeError, match="'the-key'"):
        Serializer(name).dumps(10**5000, "the-key")
    if name in DATA:
        with pytest.raises(TypeError, match="'the-key'"):
            Serializer(name).dumps([10**5000], "the-key")


def test_extensions_of_msgpack_lie_in_each_other_to_a_bound() -> None:
    """Each level takes of the process's stack: what is deeper is refused, also by the cache that only reads it."""
    value: Any = 1
    for _ in range(32):
        value = (value,)
    assert there_and_back(value, "msgpack") == value
    with pytest.raises(TypeError, match="nested too deeply.*'the-key'"):
        Serializer("msgpack").dumps((value,), "the-key")
    deeper = msgpack.packb(msgpack.ExtType(1, Serializer("msgpack").dumps([value], "key").payload))
    for name in DATA:
        with pytest.raises(ValueError, match="nested too deeply"):
            Serializer(name).loads(Kept(kind=b"m", payload=deeper), "key")


@pytest.mark.parametrize("name", ALL)
def test_responses_say_the_same_afterwards(name: str) -> None:
    """A cached page: status, headers, cookies, content."""
    response = JsonResponse({"a": "ü"}, status=203, reason="So so", headers={"Vary": "Cookie", "X-Name": "日本ü"})
    response.set_cookie("c", 'a "quoted"; value', max_age=9, httponly=True, samesite="Lax")
    found = there_and_back(response, name)
    assert isinstance(found, HttpResponse)
    assert found.serialize() == response.serialize()
    assert found.reason_phrase == "So so"
    assert found.cookies.output() == response.cookies.output()
    assert found.cookies == response.cookies
    unchanged = HttpResponseNotModified()
    assert there_and_back(unchanged, name).serialize() == unchanged.serialize()


def test_json_and_msgpack_read_each_other() -> None:
    """One may be changed for the other with values in the store."""
    for one, other in (DATA, reversed(DATA)):
        assert Serializer(other).loads(Serializer(one).dumps((1, b"x"), "key"), "key") == (1, b"x")


def test_pickle_is_read_only_where_it_is_written_and_signed() -> None:
    """Not by another serializer, not under another key, not changed, not unsigned; and data is no pickle."""
    pickle = Serializer("pickle")
    kept = pickle.dumps({UUID(int=1)}, "key")
    assert pickle.loads(kept, "key") == {UUID(int=1)}
    for serializer, candidate, key in (
        (Serializer("json"), kept, "key"),
        (Serializer("msgpack"), kept, "key"),
        (pickle, kept, "other"),
        (pickle, Kept(kind=b"p", payload=kept.payload[:-1] + b"!"), "key"),
        (pickle, Kept(kind=b"p", payload=kept.payload[32:]), "key"),
        (pickle, Kept(kind=b"p", payload=bytes(32) + kept.payload[32:]), "key"),
        (pickle, Serializer("json").dumps("x", "key"), "key"),
    ):
        with pytest.raises(ValueError):
            serializer.loads(candidate, key)


def test_a_former_secret_key_is_still_good(settings: Any) -> None:
    """While it stands in SECRET_KEY_FALLBACKS."""
    kept = Serializer("pickle").dumps([1], "key")
    former, settings.SECRET_KEY = settings.SECRET_KEY, "another secret key, quite as long as the first"
    with pytest.raises(ValueError):
        Serializer("pickle").loads(kept, "key")
    settings.SECRET_KEY_FALLBACKS = [former]
    assert Serializer("pickle").loads(kept, "key") == [1]
