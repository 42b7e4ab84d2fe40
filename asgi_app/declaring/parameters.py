"""The parameters of one declaration: typed, bounded, canonical.

Invariant: equal questions have equal canonical text and equal bytes, however they were spelled; different questions
have different ones.  Texts are in NFC, floats are finite and never -0.0, instants are in UTC.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeAlias

import msgspec
import msgspec.inspect as mi

from asgi_app.declaring.bounds import Nested, Unsuitable, bounded, expected, leaves
from asgi_app.declaring.spelling import Misspelt, percent_decoded, percent_encoded, pieces, readings, write
from asgi_app.errors import BadParameters, shortened
from cache_layer.keys import digest

#: An instance of a `Parameters.type`.
Params: TypeAlias = msgspec.Struct
#: Bad parameters that one answer lists; a query can hold thousands.
MAX_ERRORS = 100
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Required:
    """Stands for the default of a parameter that has none."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: its bounded type and how values become it."""

    name: str
    #: The bounded annotation, as msgspec takes it.
    type: Any
    info: mi.Type
    #: The default as canonical JSON; None: the parameter is required.
    default: bytes | None

    @classmethod
    def declared(cls, name: str, annotation: Any, default: Any = Required) -> Parameter:
        """Raises `Unsuitable` when the type cannot be bounded or the default is not one of its values."""
        type_ = bounded(annotation)
        required = cls(name, type_, mi.type_info(type_), None)
        if default is Required:
            return required
        try:
            return cls(name, type_, required.info, canonical_json(required.from_python(default)))
        except Misspelt as error:
            raise Unsuitable(f"its default {shortened(repr(default), 60)} is refused: {error}") from error

    def from_builtin(self, raw: Any) -> Any:
        """The value of JSON builtins.  Raises `Misspelt` naming the allowed type and range."""
        try:
            return self._converted(_cleaned(raw))
        except msgspec.ValidationError as error:
            nested = any(isinstance(leaf, Nested) for leaf in leaves(self.info))
            raise Misspelt(f"must be {expected(self.info)}" + (f" ({error})" if nested else "")) from None
        except RecursionError:
            raise Misspelt("is nested too deeply") from None
        except OverflowError:
            raise Misspelt("is too close to the first or last year to be told in UTC") from None

    def _converted(self, clean: Any) -> Any:
        """JSON Schema calls 1.0 an integer, msgspec does not.  What is published is what is accepted."""
        try:
            return _settled(msgspec.convert(clean, self.type))
        except msgspec.ValidationError as error:
            try:
                return _settled(msgspec.convert(_whole(clean), self.type))
            except msgspec.ValidationError:
                raise error from None

    def from_python(self, raw: Any) -> Any:
        """The value of Python objects or JSON builtins; an instance of the author's class is checked like any other."""
        try:
            return self.from_builtin(msgspec.to_builtins(self.from_builtin(raw), order="sorted"))
        except TypeError as error:
            raise Misspelt(f"must be {expected(self.info)} ({error})") from None

    def from_text(self, text: str) -> Any:
        """The value of the text in a query.  Raises `Misspelt`."""
        first: Misspelt | None = None
        for reading in readings(text, self.info):
            try:
                return self.from_builtin(reading)
            except Misspelt as error:
                first = first or error
        raise first or Misspelt(f"must be {expected(self.info)}")

    def to_text(self, value: Any) -> str:
        """The canonical text of a value: `from_text` reads it as that very value."""
        return write(value, self.info, lambda text: self._reads_as(text, value))

    def is_default(self, value: Any) -> bool:
        return self.default is not None and canonical_json(value) == self.default

    def struct_field(self) -> tuple[Any, ...]:
        """The field of the Struct; a default that can change is decoded anew for every instance."""
        default = self.default
        if default is None:
            return self.name, self.type
        return self.name, self.type, msgspec.field(default_factory=self._default_factory())

    def _default_factory(self) -> Callable[[], Any]:
        value = self.from_builtin(msgspec.json.decode(self.default or b"null"))
        if any(isinstance(leaf, Nested) for leaf in leaves(self.info)):
            return lambda: self.from_builtin(msgspec.json.decode(self.default or b"null"))
        return lambda: value

    def _reads_as(self, text: str, value: Any) -> bool:
        try:
            return canonical_json(self.from_text(text)) == canonical_json(value)
        except Misspelt:
            return False


class Parameters:
    """All parameters of one declaration, with the Struct that holds them."""

    def __init__(self, parameters: Iterable[Parameter]):
        self.by_name = {p.name: p for p in sorted(parameters, key=lambda p: p.name)}
        fields = [p.struct_field() for p in self.by_name.values()]
        self.type: type[Params] = msgspec.defstruct(
            "Parameters", fields, frozen=True, kw_only=True, forbid_unknown_fields=True
        )

    def parse(self, raw: Mapping[str, Any], *, text: bool) -> Params:
        """Parameters from the members of a JSON object or from Python values; `text`: from the texts of a query.

        Raises `BadParameters` naming all that are unknown, missing or wrong.
        """
        return self._built(raw, text, {})

    def parse_query(self, query: str | bytes) -> Params:
        """Parameters from a query string without its '?'.  Raises `BadParameters`, also for one that is given twice."""
        errors: dict[str, str] = {}
        raw: dict[str, str] = {}
        try:
            for coded_name, coded_value in pieces(query):
                _take(coded_name, coded_value, raw, errors)
        except Misspelt as error:
            raise BadParameters([{"name": "", "reason": str(error)}]) from None
        return self._built(raw, True, errors)

    def _built(self, raw: Mapping[str, Any], text: bool, errors: dict[str, str]) -> Params:
        values: dict[str, Any] = {}
        for name, given in raw.items():
            if name in errors:
                continue
            try:
                values[name] = self._read(name, given, text)
            except Misspelt as error:
                errors[name] = str(error)
        for name, parameter in self.by_name.items():
            if name not in raw and name not in errors and parameter.default is None:
                errors[name] = f"is required and must be {expected(parameter.info)}"
        if errors:
            listed = sorted(errors.items(), key=lambda item: str(item[0]))[:MAX_ERRORS]
            raise BadParameters([{"name": shortened(str(n), 100), "reason": shortened(r, 1000)} for n, r in listed])
        return self.type(**values)

    def _read(self, name: str, given: Any, text: bool) -> Any:
        parameter = self.by_name.get(name)
        if parameter is None:
            there_are = f"there are {', '.join(self.by_name)}" if self.by_name else "there are none"
            raise Misspelt(f"is not a parameter: {there_are}")
        return parameter.from_text(given) if text else parameter.from_python(given)

    def query(self, params: Params) -> str:
        """The canonical query: sorted by name, defaults left out; `parse_query` reads it as equal parameters."""
        values = ((p, getattr(params, p.name)) for p in self.by_name.values())
        texts = ((p.name, p.to_text(value)) for p, value in values if not p.is_default(value))
        return "&".join(f"{percent_encoded(name)}={percent_encoded(text)}" for name, text in texts)

    def dump(self, params: Params) -> dict[str, Any]:
        """JSON builtins, complete and sorted by name."""
        builtins: dict[str, Any] = msgspec.to_builtins(params, order="sorted")
        return builtins

    def schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of the object of parameters, with exactly the bounds that are enforced."""
        (root,), parts = msgspec.json.schema_components((self.type,), ref_template="#/$defs/{name}")
        own = parts.pop(root["$ref"].rpartition("/")[2])
        own.pop("title", None)
        for name, parameter in self.by_name.items():
            if parameter.default is not None:
                own["properties"][name]["default"] = msgspec.json.decode(parameter.default)
        found = {"$schema": DIALECT, **own, **({"$defs": parts} if parts else {})}
        _allow_repeated_items(found)
        return found

    @cached_property
    def version(self) -> str:
        """Changes with the schema, so that values computed under other types or defaults are never found again."""
        return digest(msgspec.json.encode(self.schema(), order="sorted"))


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value."""
    return msgspec.json.encode(value, order="sorted")


def _take(coded_name: bytes, coded_value: bytes, raw: dict[str, str], errors: dict[str, str]) -> None:
    try:
        name = percent_decoded(coded_name)
    except Misspelt as error:
        errors[coded_name.decode("ascii", "replace")] = f"in its name: {error}"
        return
    if name in raw or name in errors:
        errors[name] = "is given more than once"
        return
    try:
        raw[name] = percent_decoded(coded_value)
    except Misspelt as error:
        errors[name] = str(error)


def _cleaned(raw: Any) -> Any:
    """Builtins with one form for what is equal: NFC texts, no -0.0; raises `Misspelt` for what JSON cannot carry."""
    if isinstance(raw, str):
        return _text(raw)
    if isinstance(raw, float):
        if not math.isfinite(raw):
            raise msgspec.ValidationError(f"{raw} is not finite")
        return raw + 0.0
    if type(raw) in (list, tuple):
        return [_cleaned(item) for item in raw]
    if isinstance(raw, set | frozenset):
        return _ordered(_cleaned(item) for item in raw)
    if type(raw) is dict:
        clean = {_cleaned(key): _cleaned(value) for key, value in raw.items()}
        if len(clean) < len(raw):
            raise Misspelt("has a member twice, once its name is normalised to NFC")
        return clean
    return raw


def _ordered(items: Iterable[Any]) -> list[Any]:
    """A set has another order in every process; where a list is wanted, the order must be one."""
    try:
        return sorted(items)
    except TypeError:
        raise Misspelt("is a set whose items have no order: give a list") from None


def _text(raw: str) -> str:
    text = unicodedata.normalize("NFC", raw)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Misspelt("is not valid Unicode text") from None
    return text


def _whole(raw: Any) -> Any:
    """Floats without a fraction as ints, at any depth."""
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
    if isinstance(raw, list):
        return [_whole(item) for item in raw]
    return {key: _whole(value) for key, value in raw.items()} if isinstance(raw, dict) else raw


def _settled(value: Any) -> Any:
    """Instants in UTC, so that equal ones are written alike; classes of the author's are left as they are."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if type(value) in (list, tuple):
        return type(value)(_settled(item) for item in value)
    if type(value) in (set, frozenset):
        return type(value)(_settled(item) for item in value)
    return {key: _settled(item) for key, item in value.items()} if type(value) is dict else value


def _allow_repeated_items(schema: Any) -> None:
    """A set reads [1, 1] as {1}; `uniqueItems` would promise a refusal."""
    if isinstance(schema, dict):
        if schema.get("type") == "array":
            schema.pop("uniqueItems", None)
        for part in schema.values():
            _allow_repeated_items(part)
