"""Keys for tests of the cache layer, without any declaration."""

from __future__ import annotations

from cache_layer.freshness import Policy
from cache_layer.keys import Key, digest


def key(name: str = "sales.daily", *, tags: tuple[str, ...] = (), **policy: float) -> Key:
    """A key of its own name, with a policy of these seconds."""
    return Key(name=name, digest=digest(name), topic=name, tags=tags, policy=Policy(**policy))
