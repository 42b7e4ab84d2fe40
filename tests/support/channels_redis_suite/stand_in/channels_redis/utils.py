"""What the tests take from `channels_redis.utils`, and where their fixed addresses really are."""

from __future__ import annotations

import os
from typing import Any

import redis

from consumers import layer_hosts

#: A Redis or Valkey of whoever runs the tests, without a database.
URL = os.environ["MILLPOND_CHANNELS_REDIS_SUITE_STORE"]
_FIXED = "redis://localhost:6379"


def here(hosts: list[str] | None) -> list[str]:
    """The tests' addresses, on the store they are given."""
    return [URL + (host.removeprefix(_FIXED) or "/0") for host in hosts or [_FIXED]]


async def _close_redis(_: Any) -> None:
    """The tests end a connection of the layer behind its back."""
    with redis.Redis.from_url(URL) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


def _consistent_hash(value: str | bytes, ring_size: int) -> int:
    return layer_hosts.index(value if isinstance(value, str) else value.decode(), ring_size)
