"""Python values of database columns as JSON, and back, type for type.

    null, true, 1, 1.5, "text"   as they are           ["decimal", "1.50"]   everything else, by the name of its type

Invariant: what comes back equals what went in and is of its type; a type that is not named here is refused.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

#: Integers that JSON readers keep exactly.
_EXACT = 2**63
_PLAIN = frozenset({type(None), bool, str})


def pack(value: Any) -> Any:
    """A value as JSON can say it.  Raises TypeError naming a type that it cannot keep."""
    kind = type(value)
    if kind in _PLAIN or (kind is int and -_EXACT <= value < _EXACT) or (kind is float and math.isfinite(value)):
        return value
    found = _KINDS.get(kind)
    if found is None:
        raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__} cannot be kept")
    name, packed = found
    return [name, packed(value)]


def unpack(packed: Any) -> Any:
    """What `pack` was given."""
    return _READERS[packed[0]](packed[1]) if type(packed) is list else packed


def _pack_datetime(value: datetime) -> list[Any]:
    zone = _zone(value.tzinfo)
    return [(value if zone is None else value.replace(tzinfo=None)).isoformat(), zone, value.fold]


def _unpack_datetime(packed: list[Any]) -> datetime:
    text, zone, fold = packed
    value = datetime.fromisoformat(text).replace(fold=fold)
    return value if zone is None else value.replace(tzinfo=ZoneInfo(zone))


def _pack_time(value: time) -> list[Any]:
    if value.tzinfo is not None and _zone(value.tzinfo) is not None:
        raise TypeError("a time of day in a named zone cannot be kept")
    return [value.isoformat(), value.fold]


def _zone(zone: tzinfo | None) -> str | None:
    """The name of a zone that has one; None where the text of the value says all."""
    if zone is None or type(zone) is timezone:
        return None
    if isinstance(zone, ZoneInfo) and zone.key:
        return zone.key
    raise TypeError(f"a time in a zone of type {type(zone).__qualname__} cannot be kept")


def _pack_each(values: Any) -> list[Any]:
    return [pack(value) for value in values]


def _unpack_each(packed: list[Any]) -> list[Any]:
    return [unpack(value) for value in packed]


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode("ascii")


#: type -> its name, and what is written behind it
_KINDS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    int: ("int", str),
    float: ("float", repr),
    Decimal: ("decimal", str),
    datetime: ("datetime", _pack_datetime),
    date: ("date", date.isoformat),
    time: ("time", _pack_time),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    UUID: ("uuid", str),
    bytes: ("bytes", _base64),
    # some drivers give these; that they are views of a buffer is no part of the value
    memoryview: ("bytes", _base64),
    list: ("list", _pack_each),
    tuple: ("tuple", _pack_each),
    dict: ("dict", lambda value: [_pack_each(item) for item in value.items()]),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "decimal": Decimal,
    "datetime": _unpack_datetime,
    "date": date.fromisoformat,
    "time": lambda packed: time.fromisoformat(packed[0]).replace(fold=packed[1]),
    "timedelta": lambda packed: timedelta(*packed),
    "uuid": UUID,
    "bytes": base64.b64decode,
    "list": _unpack_each,
    "tuple": lambda packed: tuple(_unpack_each(packed)),
    "dict": lambda packed: {unpack(name): unpack(value) for name, value in packed},
}
