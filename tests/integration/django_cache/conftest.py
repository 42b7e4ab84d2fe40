"""What the tests of Django's cache API share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from asgi_app.cache_backend.connections import connections
from tests.support.django_cache import MakeCache, caches
from tests.support.store import StoreServer


@pytest.fixture
def make(store_server: StoreServer, namespace: str) -> Iterator[MakeCache]:
    yield from caches(store_server, namespace)


@pytest.fixture
def client(store_server: StoreServer) -> Iterator[redis.Redis]:
    made = redis.Redis.from_url(store_server.url, protocol=2)
    yield made
    made.close()


@pytest.fixture
def own_server() -> Iterator[StoreServer]:
    """A store that may be frozen and killed."""
    with tempfile.TemporaryDirectory(prefix="mpstore-") as folder:
        server = StoreServer(Path(folder) / "store.sock")
        server.start()
        yield server
        connections().close()
        server.stop()
