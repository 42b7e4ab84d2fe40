"""Values as bytes: JSON, msgpack, or, where the settings allow it, signed pickle.

Invariant: bytes are unpickled only after their signature was found right for the very key they lie under; everything
else that can be read is data, whoever wrote it.

Whole numbers are digits in every serializer, so that the store can count; `bool` is no number here.  JSON and msgpack
are read by each other's caches, so that one may be changed for the other with values in the store.  One difference
between them: msgpack gives a `bytearray` back as `bytes`, where JSON refuses it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from hmac import compare_digest
from typing import Any

import msgpack  # type: ignore[import-untyped]
from django.conf import settings
from django.utils.crypto import salted_hmac

from asgi_app.cache_backend.tagging import BY_CODE, BY_NAME, tag_of, type_name
from cache_layer.kv import INTEGER, Kept

#: What `OPTIONS["serializer"]` may be, with the byte that marks its payloads.
KINDS = {"json": b"j", "msgpack": b"m", "pickle": b"p"}
_MARK = "__t"
_MARK_IN_JSON = b'"__t"'
#: How many msgpack extensions may lie in each other.  Each is unpacked by an unpacker of its own, and some hundred of
#: those overrun the stack of the process.
_DEEPEST = 32
_MAC = 32
_SALT = "asgi_app.cache_backend.pickle"
_PLAIN = frozenset({str, int, bool, type(None)})
_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)


class Serializer:
    """Encodes with one of `KINDS`, and decodes what it may."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._kind = KINDS[name]
        self._readable = {"p"} if name == "pickle" else {"j", "m"}

    def dumps(self, value: Any, name: str) -> Kept:
        """The value for the key `name`.  Raises TypeError, naming type and key, for what cannot be held."""
        if self.name == "pickle" and type(value) is not int:
            return Kept(kind=self._kind, payload=_signed(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), name))
        try:
            if type(value) is int:
                return Kept(kind=INTEGER, payload=str(value).encode())
            return Kept(kind=self._kind, payload=_ENCODERS[self.name](value))
        except TypeError as error:
            raise TypeError(_refusal(str(error), name, self.name)) from None
        except (RecursionError, ValueError) as error:
            what = f"a value of type {type_name(type(value))} ({error})"
            raise TypeError(_refusal(what, name, self.name)) from error

    def loads(self, kept: Kept, name: str) -> Any:
        """The value.  Raises an exception, of any class, for bytes that are no value of this serializer."""
        if kept.kind == INTEGER:
            return int(kept.payload)
        if kept.kind.decode("ascii") not in self._readable:
            raise ValueError("of a serializer that is not allowed here")
        if self.name == "pickle":
            return pickle.loads(_verified(kept.payload, name))  # noqa: S301  (signed by ourselves)
        return _to_json_value(kept.payload) if kept.kind == KINDS["json"] else _to_msgpack_value(kept.payload)


def _refusal(what: str, name: str, serializer: str) -> str:
    return (
        f"{what} cannot be kept under {name!r} by the serializer {serializer!r}: store plain data (numbers, strings, "
        "bytes, lists, dictionaries, tuples, sets, dates and times, Decimal, UUID, responses), or choose the "
        "serializer 'pickle', which needs \"allow_pickle\": True"
    )


def _from_json_value(value: Any) -> bytes:
    return _JSON.encode(_tagged(value)).encode()


def _to_json_value(payload: bytes) -> Any:
    return json.loads(payload, object_hook=_untagged if _MARK_IN_JSON in payload else None)


def _tagged(value: Any) -> Any:
    """The value with everything JSON does not know as a tag; lists and dictionaries are made anew."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [_tagged(one) for one in value]
    if kind is dict and _MARK not in value and all(type(key) is str for key in value):
        return {key: _tagged(one) for key, one in value.items()}
    if kind is float and value - value == 0:  # finite
        return value
    tag = tag_of(value)
    return {_MARK: tag.name, "v": _tagged(tag.plain(value))}


def _untagged(found: dict[str, Any]) -> Any:
    return BY_NAME[found[_MARK]].value(found["v"]) if _MARK in found else found


def _from_msgpack_value(value: Any, depth: int = 0) -> bytes:
    extension = partial(_extension, depth + 1)
    packed: bytes = msgpack.packb(value, default=extension, strict_types=True, unicode_errors="surrogatepass")
    return packed


def _to_msgpack_value(payload: bytes, depth: int = 0) -> Any:
    extended = partial(_extended, depth + 1)
    return msgpack.unpackb(payload, ext_hook=extended, strict_map_key=False, unicode_errors="surrogatepass")


def _extension(depth: int, value: Any) -> msgpack.ExtType:
    if depth > _DEEPEST or type(value) in (dict, list):  # the packer hands over lists that are too deep for it
        raise ValueError("nested too deeply")
    tag = tag_of(value)
    return msgpack.ExtType(tag.code, _from_msgpack_value(tag.plain(value), depth))


def _extended(depth: int, code: int, payload: bytes) -> Any:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    return BY_CODE[code].value(_to_msgpack_value(payload, depth))


_ENCODERS: dict[str, Callable[[Any], bytes]] = {"json": _from_json_value, "msgpack": _from_msgpack_value}


def _signed(payload: bytes, name: str) -> bytes:
    return _mac(payload, name, settings.SECRET_KEY) + payload


def _verified(signed: bytes, name: str) -> bytes:
    """The payload.  Raises ValueError unless a present or former secret key signed it for this key."""
    mac, payload = signed[:_MAC], signed[_MAC:]
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        if compare_digest(mac, _mac(payload, name, secret)):
            return payload
    raise ValueError("not signed by us for this key")


def _mac(payload: bytes, name: str, secret: str | bytes) -> bytes:
    key = name.encode()
    message = b"%d:%b%b" % (len(key), key, payload)
    return salted_hmac(_SALT, message, secret=secret, algorithm="sha256").digest()
