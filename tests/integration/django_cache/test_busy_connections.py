"""That all connections are in use says nothing of the store: callers are told so, and no breaker opens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from cache_layer.blocking import BlockingStore
from cache_layer.errors import StoreUnavailable
from cache_layer.redis import Store
from tests.support.django_cache import until
from tests.support.store import StoreServer

#: Seconds; half as long a call waits for a connection.
DEADLINE = 3.0


class Holder:
    """Lets go of the one connection, which waits for something to be pushed."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self.key = key
        self._client = client

    def holds(self) -> bool:
        return any("b" in one["flags"] for one in self._client.client_list())

    def let_go(self) -> None:
        self._client.rpush(self.key, "go")


@pytest.fixture
def holder(store_server: StoreServer, namespace: str) -> Iterator[Holder]:
    client = redis.Redis.from_url(store_server.url)
    yield Holder(client, f"held:{namespace}")
    client.delete(f"held:{namespace}")
    client.close()


def test_threads_that_find_no_connection_open_no_breaker(store_server: StoreServer, holder: Holder) -> None:
    """The next one is served as soon as a connection is free."""
    store = BlockingStore(store_server.url, deadline=DEADLINE, connections=1)
    with ThreadPoolExecutor(5) as pool:
        held = pool.submit(store.command, "BLPOP", holder.key, 0)
        until(holder.holds, "the connection is in use")
        for one in [pool.submit(store.command, "PING") for _ in range(4)]:
            with pytest.raises(StoreUnavailable, match="all 1 connections are in use"):
                one.result(30)
        timer = threading.Timer(0.2, holder.let_go)
        timer.start()
        assert store.command("PING") == b"PONG"
        assert held.result(30)[1] == b"go"
        timer.join()
    store.close()


async def test_calls_on_a_loop_that_find_no_connection_open_no_breaker(
    store_server: StoreServer, holder: Holder, namespace: str
) -> None:
    """The same for event loops."""
    store = Store(store_server.url, namespace, deadline=DEADLINE, connections=1)
    await store.ping()
    held = asyncio.create_task(store.command("BLPOP", holder.key, 0))
    await asyncio.to_thread(until, holder.holds, "the connection is in use")
    refused = await asyncio.gather(*(store.command("PING") for _ in range(4)), return_exceptions=True)
    assert [str(one) for one in refused] == ["all 1 connections are in use"] * 4
    served = asyncio.create_task(store.command("PING"))
    await asyncio.sleep(0)
    holder.let_go()
    assert await served == b"PONG"
    assert (await held)[1] == b"go"
    await store.close()
