"""`channels_redis.core`, with our layer."""

from __future__ import annotations

from typing import Any

from channels.exceptions import ChannelFull

from channels_redis.utils import here
from consumers.layer import MillpondChannelLayer

__all__ = ["ChannelFull", "RedisChannelLayer"]


class RedisChannelLayer(MillpondChannelLayer):
    """Ours, on the store of the tests."""

    def __init__(self, hosts: list[str] | None = None, **options: Any) -> None:
        super().__init__(hosts=here(hosts), **options)

    def _group_key(self, group: str) -> bytes:
        return self._names.members(group).encode()
