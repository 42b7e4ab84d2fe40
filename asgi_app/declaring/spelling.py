"""The text of parameters: query strings and topics in, values out, and back.

Text of a value: bool `true`/`false` (`1`/`0` are read too); numbers in decimal; dates and durations in ISO 8601;
Literals and enums by value; lists, dicts and classes as JSON text; everything else as it is.  Where a type has
alternatives, the first that fits is taken: null, bool, int, float, JSON, text.  `null` means None; so does the empty
text, unless the type takes it as a text.  A JSON string (`"null"`, `"7"`) says "the text, not what it looks like".

Invariant: `read(write(value)) == value` for every value of the type, and `write` gives one text for equal values.
Percent-encoding follows RFC 3986: UTF-8, only unreserved characters stay; `+` means a space, as in forms.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import msgspec
import msgspec.inspect as mi

from asgi_app.declaring.bounds import Nested, choices, leaves

_INTEGER = re.compile(r"-?[0-9]{1,40}")
_DECIMAL = re.compile(r"-?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Misspelt(ValueError):
    """A text that means nothing; the message is the reason, for whoever sent it."""


def percent_encoded(text: str) -> str:
    """The one way a name or value is written in a canonical topic."""
    return quote(text, safe="")


def percent_decoded(raw: bytes) -> str:
    """Read one name or value of a query, normalised to NFC.  Raises `Misspelt`."""
    if bad := _BAD_PERCENT.search(raw):
        shown = raw[bad.start() : bad.start() + 3].decode("ascii", "replace")
        raise Misspelt(f"'{shown}' is not percent-encoding: two hexadecimal digits follow a '%'; '%' itself is '%25'")
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise Misspelt("is not UTF-8 once percent-decoded") from None
    return unicodedata.normalize("NFC", text)


def pieces(query: str | bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values of a query, still encoded; a name without '=' has the empty value.  Raises `Misspelt`."""
    try:
        raw = query.encode("utf-8") if isinstance(query, str) else query
    except UnicodeEncodeError:
        raise Misspelt("the query is not valid Unicode text") from None
    for piece in raw.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            yield name, value


def is_plain(info: mi.Type) -> bool:
    """Whether every text of the type has one reading, so that a value's plain text needs no proof."""
    (first, *others) = leaves(info)
    return not others and not isinstance(first, mi.LiteralType | mi.EnumType | mi.NoneType)


def readings(text: str, info: mi.Type) -> Iterator[Any]:
    """What `text` may mean, as JSON builtins, in the order in which a type should try them."""
    kinds = leaves(info)
    if any(isinstance(kind, mi.StrType) for kind in kinds) and len(kinds) == 1:
        yield text
        return
    nullable = any(isinstance(kind, mi.NoneType) or None in choices(kind) for kind in kinds)
    boolean = any(isinstance(kind, mi.BoolType) for kind in kinds)
    if text.startswith('"'):
        yield from _as_json(text)
    if nullable and text == "null":
        yield None
    if boolean and text in ("true", "false"):
        yield text == "true"
    if _INTEGER.fullmatch(text):
        yield int(text)
    if boolean and text in ("1", "0"):
        yield text == "1"
    if _DECIMAL.fullmatch(text) and any(isinstance(kind, mi.FloatType) for kind in kinds):
        yield float(text)
    if text[:1] in ("[", "{") and any(isinstance(kind, Nested) for kind in kinds):
        yield from _as_json(text)
    yield text
    if nullable and not text:
        yield None


def write(value: Any, info: mi.Type, same: Callable[[str], bool]) -> str:
    """The canonical text of `value`; `same(text)` tells whether that text is read as the very same value."""
    plain = _plain_text(value)
    if is_plain(info) or same(plain):
        return plain
    return msgspec.json.encode(value, order="sorted").decode()


def _plain_text(value: Any) -> str:
    builtin = msgspec.to_builtins(value, order="sorted")
    return builtin if isinstance(builtin, str) else msgspec.json.encode(value, order="sorted").decode()


def _as_json(text: str) -> Iterator[Any]:
    try:
        yield msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return
