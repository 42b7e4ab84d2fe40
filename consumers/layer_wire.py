"""Messages of the channel layer as bytes: msgpack or JSON, encrypted if asked for.

Invariant: what `load` returns is a dict that somebody with the same keys has dumped; everything else is Unreadable.
No moment is read from what a sender wrote: its clock decides nothing here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgpack  # type: ignore[import-untyped]

Message = dict[str, Any]


class Unreadable(Exception):
    """Bytes that are no message of this layer."""


class Codec(Protocol):
    """How a user's own class turns messages into bytes and back."""

    def serialize(self, message: Message, /) -> bytes: ...

    def deserialize(self, data: bytes, /) -> Message: ...


class Wire:
    """One way of writing messages."""

    def __init__(self, form: str | Codec = "msgpack", keys: Sequence[str | bytes] | None = None) -> None:
        """Raises ValueError for an unknown form, and for keys where the package `cryptography` is missing."""
        self._dump, self._load = _form(form)
        self._crypter = _crypter(keys) if keys else None

    def dump(self, message: Message) -> bytes:
        """Raises TypeError, OverflowError or ValueError for what the form cannot hold."""
        data = self._dump(message)
        return data if self._crypter is None else bytes(self._crypter.encrypt(data))

    def load(self, data: bytes) -> Message:
        """Raises Unreadable."""
        try:
            # without a time limit: it would be measured from the sender's clock
            message = self._load(data if self._crypter is None else self._crypter.decrypt(data))
        except Exception as error:
            raise Unreadable(type(error).__name__) from error
        if not isinstance(message, dict):
            raise Unreadable(f"{type(message).__name__} is no message")
        return message


def apart(value: Any) -> Any:
    """A copy that shares nothing that can be changed, of what a message may hold."""
    if isinstance(value, dict):
        return {key: apart(held) for key, held in value.items()}
    if isinstance(value, list):
        return [apart(held) for held in value]
    return value


def _form(form: str | Codec) -> tuple[Callable[[Message], bytes], Callable[[bytes], Any]]:
    if form == "msgpack":
        return msgpack.packb, _unpack
    if form == "json":
        return _json, json.loads
    if isinstance(form, str):
        raise ValueError(
            f"serializer_format {form!r} is not msgpack, json, or an object with serialize and deserialize"
        )
    return form.serialize, form.deserialize


def _unpack(data: bytes) -> Any:
    # Whatever was packed comes back: refused here, it would be lost after the sender has gone on.
    return msgpack.unpackb(data, strict_map_key=False)


def _json(message: Message) -> bytes:
    return json.dumps(message).encode()


def _crypter(keys: Sequence[str | bytes]) -> Any:
    if isinstance(keys, str | bytes):
        raise ValueError("symmetric_encryption_keys must be a list of possible keys")
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as error:
        raise ValueError("symmetric_encryption_keys need the package `cryptography`, which is not installed") from error
    return MultiFernet([Fernet(_fernet_key(key)) for key in keys])


def _fernet_key(key: str | bytes) -> bytes:
    raw = key.encode() if isinstance(key, str) else key
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest())
