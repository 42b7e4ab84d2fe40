"""The types a parameter may have, each with bounds: what the author left open gets a default bound here.

Invariant: a type that passed `bounded` has finitely many values of limited size, and its JSON Schema says so.
"""

from __future__ import annotations

import unicodedata
from datetime import date, datetime, time, timedelta
from sys import float_info
from typing import Annotated, Any, Literal, Union
from uuid import UUID

import msgspec.inspect as mi
from msgspec import Meta
from msgspec.json import Decoder

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
#: Characters of a text, items of a list and members of an object, where the author set no `max_length`.
MAX_LENGTH = 1000

Composite = mi.StructType | mi.DataclassType | mi.TypedDictType | mi.NamedTupleType
Array = mi.ListType | mi.SetType | mi.FrozenSetType | mi.VarTupleType
#: What JSON writes as an array or an object.
Nested = Composite | Array | mi.TupleType | mi.DictType
Fixed = mi.BoolType | mi.NoneType | mi.DateType | mi.TimeDeltaType | mi.UUIDType
_FIXED: dict[type[mi.Type], Any] = {
    mi.BoolType: bool,
    mi.NoneType: None,
    mi.DateType: date,
    mi.TimeDeltaType: timedelta,
    mi.UUIDType: UUID,
}


class Unsuitable(ValueError):
    """A type, a default or a signature that cannot be declared; the text is the reason, for the author."""


def bounded(annotation: Any) -> Any:
    """`annotation` with a bound on everything, to be given to msgspec.  Raises `Unsuitable`.

    A class of the author's (Struct, dataclass, TypedDict, NamedTuple) stays the very same class, so it cannot be
    bounded from outside: its fields must carry their bounds themselves.
    """
    try:
        type_ = _bounded(mi.type_info(annotation))
        Decoder(type_)
    except Unsuitable:
        raise
    except Exception as error:  # msgspec has a kind of its own for nearly every reason
        raise Unsuitable(str(error)) from error
    return type_


def leaves(info: mi.Type) -> tuple[mi.Type, ...]:
    """The alternatives of a type: the members of a union, else the type itself, without `Metadata` around them."""
    if isinstance(info, mi.Metadata):
        return leaves(info.type)
    if isinstance(info, mi.UnionType):
        return tuple(leaf for member in info.types for leaf in leaves(member))
    return (info,)


def choices(info: mi.Type) -> tuple[Any, ...]:
    """The values of a Literal or an enum as JSON has them; () for any other type."""
    if isinstance(info, mi.LiteralType):
        return tuple(info.values)
    return tuple(member.value for member in info.cls) if isinstance(info, mi.EnumType) else ()


def _bounded(info: mi.Type) -> Any:
    match info:
        case mi.Metadata():
            return Annotated[_bounded(info.type), Meta(extra_json_schema=info.extra_json_schema)]
        case mi.UnionType():
            return Union[tuple(_bounded(member) for member in info.types)]  # noqa: UP007 (built at run time)
        case mi.IntType():
            return Annotated[int, _range(info, INT_MIN, INT_MAX)]
        case mi.FloatType():
            return Annotated[float, _range(info, -float_info.max, float_info.max)]
        case mi.StrType():
            return Annotated[str, Meta(min_length=info.min_length, max_length=_longest(info), pattern=info.pattern)]
        case mi.BytesType():
            return Annotated[bytes, _lengths(info)]
        case mi.DateTimeType():
            return datetime if info.tz is None else Annotated[datetime, Meta(tz=info.tz)]
        case mi.TimeType():
            return time if info.tz is None else Annotated[time, Meta(tz=info.tz)]
        case mi.LiteralType() | mi.EnumType():
            return _chosen(info)
        case mi.TupleType():
            return tuple[tuple(_bounded(item) for item in info.item_types)]  # type: ignore[misc]
        case mi.VarTupleType() | mi.ListType() | mi.SetType() | mi.FrozenSetType() | mi.DictType():
            return Annotated[_collection(info), _lengths(info)]
        case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
            _check_class(info, ())
            return info.cls
        case mi.BoolType() | mi.NoneType() | mi.DateType() | mi.TimeDeltaType() | mi.UUIDType():
            return _FIXED[type(info)]
    raise Unsuitable(_refusal(info))


def _range(info: mi.IntType | mi.FloatType, low: float, high: float) -> Meta:
    own = {"ge": info.ge, "gt": info.gt, "le": info.le, "lt": info.lt, "multiple_of": info.multiple_of}
    bounds: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    if not bounds.keys() & {"ge", "gt"}:
        bounds["ge"] = low
    if not bounds.keys() & {"le", "lt"}:
        bounds["le"] = high
    return Meta(**bounds)


def _longest(info: mi.StrType | mi.BytesType | Array | mi.DictType) -> int:
    return MAX_LENGTH if info.max_length is None else info.max_length


def _lengths(info: mi.BytesType | Array | mi.DictType) -> Meta:
    return Meta(min_length=info.min_length, max_length=_longest(info))


def _collection(info: Array | mi.DictType) -> Any:
    _check_order(info)
    match info:
        case mi.DictType():
            return dict[_bounded(info.key_type), _bounded(info.value_type)]  # type: ignore[misc]
        case mi.VarTupleType():
            return tuple[_bounded(info.item_type), ...]  # type: ignore[misc]
        case mi.ListType():
            return list[_bounded(info.item_type)]  # type: ignore[misc]
    item = _bounded(info.item_type)
    return set[item] if isinstance(info, mi.SetType) else frozenset[item]  # type: ignore[valid-type]


def _check_order(info: mi.Type) -> None:
    """What has no order of its own needs one to be canonical: the members of a dict and of a set."""
    if isinstance(info, mi.DictType):
        textual = isinstance(info.key_type, mi.LiteralType) and all(isinstance(c, str) for c in choices(info.key_type))
        if not (textual or isinstance(info.key_type, mi.AnyType | mi.StrType)):
            raise Unsuitable("the keys of a dict must be str or a Literal of texts")
    elif isinstance(info, mi.SetType | mi.FrozenSetType):
        first, *others = leaves(info.item_type)
        plain = isinstance(first, mi.AnyType | mi.StrType | mi.IntType | mi.FloatType | mi.DateType | mi.UUIDType)
        alike = isinstance(first, mi.LiteralType) and len({type(choice) for choice in choices(first)}) == 1
        if others or not (plain or alike):
            raise Unsuitable("the items of a set must be str, int, float, date, UUID or a Literal of one of these")


def _chosen(info: mi.LiteralType | mi.EnumType) -> Any:
    for value in choices(info):
        if isinstance(value, str) and unicodedata.normalize("NFC", value) != value:
            raise Unsuitable(f"{value!r} is not in Unicode's NFC form, to which what clients send is normalised")
        if isinstance(value, bool):
            raise Unsuitable("a Literal of True or False has no text of its own: take bool")
        if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            raise Unsuitable(f"{value} does not fit into 64 bits")
    return Literal[tuple(info.values)] if isinstance(info, mi.LiteralType) else info.cls


def _check_class(info: Composite, outer: tuple[Any, ...]) -> None:
    """Refuse a class whose fields are open-ended: bounding the field would have to change it."""
    if info.cls in outer:
        raise Unsuitable(f"{_name(info.cls)} contains itself, so nothing bounds its depth")
    for field in info.fields:
        where = f"{_name(info.cls)}.{field.name}"
        for leaf in leaves(field.type):
            _check_inside(leaf, where, (*outer, info.cls))


def _check_inside(info: mi.Type, where: str, outer: tuple[Any, ...]) -> None:
    match info:
        case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
            _check_class(info, outer)
        case mi.IntType() if (info.ge is None and info.gt is None) or (info.le is None and info.lt is None):
            raise Unsuitable(f"{where} has no bounds: write e.g. Annotated[int, Meta(ge=0, le=1000)]")
        case mi.StrType() | mi.BytesType() | mi.DictType() if info.max_length is None:
            raise Unsuitable(f"{where} has no bound: write e.g. Annotated[..., Meta(max_length=100)]")
        case mi.ListType() | mi.SetType() | mi.FrozenSetType() | mi.VarTupleType() if info.max_length is None:
            raise Unsuitable(f"{where} has no bound: write e.g. Annotated[..., Meta(max_length=100)]")
    try:
        _check_order(info)
        if not isinstance(info, Nested):
            _bounded(info)
    except Unsuitable as error:
        raise Unsuitable(f"{where}: {error}") from None
    for leaf in (leaf for part in _parts(info) for leaf in leaves(part)):
        _check_inside(leaf, where, outer)


def _parts(info: mi.Type) -> tuple[mi.Type, ...]:
    if isinstance(info, mi.TupleType):
        return tuple(info.item_types)
    if isinstance(info, mi.DictType):
        return (info.key_type, info.value_type)
    return (info.item_type,) if isinstance(info, Array) else ()


def _name(cls: Any) -> str:
    return getattr(cls, "__name__", None) or str(cls)


def _refusal(info: mi.Type) -> str:
    if isinstance(info, mi.AnyType):
        return "Any (or a bare list, dict, tuple) cannot be checked: say what is in it, e.g. list[str]"
    if isinstance(info, mi.DecimalType):
        return "Decimal cannot be bounded: take an int of the smallest unit, or a str with a pattern"
    cls = info.cls if isinstance(info, mi.CustomType) else type(info)
    return f"{_name(cls)} cannot be read from JSON"


def expected(info: mi.Type) -> str:
    """What a value must be, in words for the one who sent a wrong one: type and range."""
    return " or ".join(dict.fromkeys(_expected(leaf) for leaf in leaves(info)))


def _expected(info: mi.Type) -> str:
    match info:
        case mi.IntType():
            return f"an integer{_words(info)}"
        case mi.FloatType():
            return f"a finite number{_words(info)}"
        case mi.StrType():
            matching = f" matching {info.pattern}" if info.pattern else ""
            return f"a text of {_span(info)} characters{matching}"
        case mi.BytesType():
            return f"base64 text of {_span(info)} bytes"
        case mi.LiteralType() | mi.EnumType():
            return "one of " + ", ".join("null" if choice is None else str(choice) for choice in choices(info))
        case mi.ListType() | mi.SetType() | mi.FrozenSetType() | mi.VarTupleType():
            return f"a list of {_span(info)} items, each {expected(info.item_type)}"
        case mi.TupleType():
            return f"a list of {len(info.item_types)} items: " + ", ".join(expected(item) for item in info.item_types)
        case mi.DictType():
            return f"an object of {_span(info)} members, each {expected(info.value_type)}"
        case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
            return f"an object {{{', '.join(field.encode_name for field in info.fields)}}}"
    return _FIXED_WORDS[type(info)]


_FIXED_WORDS: dict[type[mi.Type], str] = {
    mi.BoolType: "true or false",
    mi.NoneType: "null",
    mi.DateType: "a date such as 2013-07-04",
    mi.DateTimeType: "a date and time such as 2013-07-04T12:00:00Z",
    mi.TimeType: "a time such as 12:00:00",
    mi.TimeDeltaType: "a duration such as P1DT3600S",
    mi.UUIDType: "a UUID",
}


def _words(info: mi.IntType | mi.FloatType) -> str:
    low = f"above {info.gt}" if info.gt is not None else f"from {info.ge}"
    high = f"below {info.lt}" if info.lt is not None else f"to {info.le}"
    steps = f", a multiple of {info.multiple_of}" if info.multiple_of is not None else ""
    if isinstance(info, mi.FloatType) and (info.ge, info.le) == (-float_info.max, float_info.max):
        return steps
    return f" {low} {high}{steps}".replace(f" to {float_info.max}", "").replace(f" from {-float_info.max}", "")


def _span(info: mi.StrType | mi.BytesType | Array | mi.DictType) -> str:
    return f"{info.min_length or 0} to {_longest(info)}"
