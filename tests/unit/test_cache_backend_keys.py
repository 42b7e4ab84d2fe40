"""What may be a key: any text that can be written in UTF-8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache.backends.base import InvalidCacheKey

from asgi_app.cache_backend import MillpondCache

#: Nobody listens there: nothing is asked of the store.
CACHE = MillpondCache("unix:///nowhere", {})


@pytest.mark.parametrize(
    "use",
    [
        lambda key: CACHE.get(key),
        lambda key: CACHE.set(key, 1),
        lambda key: CACHE.get_many(["good", key]),
        lambda key: CACHE.delete_many([key]),
        lambda key: CACHE.get_or_set(key, lambda: 1),
    ],
)
def test_half_a_character_is_refused_by_name(use: Callable[[str], Any]) -> None:
    """A lone surrogate, which no encoding of text has, is Django's error for keys."""
    with pytest.raises(InvalidCacheKey, match="ud800bad"):
        use("\ud800bad")


async def test_half_a_character_is_refused_on_a_loop() -> None:
    """The twins say the same."""
    with pytest.raises(InvalidCacheKey, match="ud800bad"):
        await CACHE.aset("\ud800bad", 1)
