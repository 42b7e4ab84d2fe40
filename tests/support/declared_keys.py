"""Keys of resources that a test has declared."""

from __future__ import annotations

from typing import Any

from asgi_app.registry import Principal, registry
from cache_layer.keys import Key


def key_of(name: str, principal: Principal | None = None, **params: Any) -> Key:
    """Of its value with these parameters, for the public or this principal."""
    what = registry.resource(name)
    return what.key(what.parse(params, text=False), principal or Principal.public())
