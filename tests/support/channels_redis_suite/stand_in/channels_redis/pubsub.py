"""`channels_redis.pubsub`, with our layer, and its words for what ours has as well."""

from __future__ import annotations

from typing import Any

from channels_redis.utils import here
from consumers.layer import MillpondChannelLayer


class _Shard:
    """What the tests close."""

    _redis = None


class RedisPubSubChannelLayer(MillpondChannelLayer):
    """Ours, on the store of the tests."""

    _shards = (_Shard(),)

    def __init__(self, hosts: list[str] | None = None, **options: Any) -> None:
        super().__init__(hosts=here(hosts), **options)

    @property
    def _layers(self) -> Any:
        return self._lines_of
