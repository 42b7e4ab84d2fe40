"""Values that neither JSON nor msgpack can hold by itself, and how they are written in both.

Invariant: what is encoded comes back equal and of the same type; what cannot is refused with a TypeError that names its
type.  Types are compared exactly: a subclass would come back as its base.

In JSON a tagged value is {"__t": <name>, "v": <plain>}, in msgpack an extension of the tag's code that holds <plain>.
A dictionary of one's own that has the key "__t", or keys that are no strings, is tagged itself (`dict`, as pairs), so
that nothing a user stores is taken for a tag.
"""

from __future__ import annotations

import datetime as dt
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.http import HttpResponse
from django.utils.safestring import SafeString

from asgi_app.cache_backend import pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """One type."""

    #: Of the msgpack extension; never given to another type.
    code: int
    #: In JSON.
    name: str
    type: type
    #: To what JSON and msgpack hold, or to other tagged values; and back.
    plain: Callable[[Any], Any]
    value: Callable[[Any], Any]


def _zoned(value: dt.datetime | dt.time) -> list[Any]:
    """ISO text, fold, and the name of the zone, which is more than its offset."""
    zone = value.tzinfo
    if zone is None or type(zone) is dt.timezone:
        return [value.isoformat(), value.fold, None]
    if type(zone) is not ZoneInfo or zone.key is None:
        raise TypeError(f"a time zone of type {type_name(type(zone))}")
    return [value.replace(tzinfo=None).isoformat(), value.fold, zone.key]


def _unzoned(kind: type[Any]) -> Callable[[list[Any]], Any]:
    def read(plain: list[Any]) -> Any:
        text, fold, zone = plain
        value = kind.fromisoformat(text)
        return value.replace(fold=fold, tzinfo=ZoneInfo(zone) if zone else value.tzinfo)

    return read


TAGS = (
    Tag(code=1, name="tuple", type=tuple, plain=list, value=tuple),
    Tag(code=2, name="set", type=set, plain=list, value=set),
    Tag(code=3, name="frozenset", type=frozenset, plain=list, value=frozenset),
    Tag(code=4, name="datetime", type=dt.datetime, plain=_zoned, value=_unzoned(dt.datetime)),
    Tag(code=5, name="date", type=dt.date, plain=dt.date.isoformat, value=dt.date.fromisoformat),
    Tag(code=6, name="time", type=dt.time, plain=_zoned, value=_unzoned(dt.time)),
    Tag(
        code=7,
        name="timedelta",
        type=dt.timedelta,
        plain=lambda value: [value.days, value.seconds, value.microseconds],
        value=lambda plain: dt.timedelta(*plain),
    ),
    Tag(code=8, name="decimal", type=Decimal, plain=str, value=Decimal),
    Tag(code=9, name="uuid", type=UUID, plain=lambda value: value.hex, value=UUID),
    Tag(code=10, name="safe", type=SafeString, plain=lambda value: value + "", value=SafeString),
    # of cached pages: a response of any class comes back as a plain one that says the same to a browser
    Tag(code=11, name="response", type=HttpResponse, plain=pages.plain, value=pages.response),
    # the rest are needed in one format only: msgpack's integers have 64 bits, JSON's numbers are finite
    Tag(code=12, name="int", type=int, plain=str, value=int),
    Tag(code=13, name="float", type=float, plain=repr, value=float),
    Tag(code=14, name="bytes", type=bytes, plain=lambda value: b64encode(value).decode(), value=b64decode),
    Tag(code=15, name="dict", type=dict, plain=lambda value: [list(pair) for pair in value.items()], value=dict),
)

BY_TYPE = {tag.type: tag for tag in TAGS}
BY_CODE = {tag.code: tag for tag in TAGS}
BY_NAME = {tag.name: tag for tag in TAGS}


def tag_of(value: Any) -> Tag:
    """The tag of a value that is not plain.  Raises TypeError for a type that has none."""
    tag = BY_TYPE.get(type(value))
    if tag is None and isinstance(value, HttpResponse):
        tag = BY_TYPE[HttpResponse]
    if tag is None:
        raise TypeError(f"a value of type {type_name(type(value))}")
    return tag


def type_name(kind: type) -> str:
    """Module and name, as one would import it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
