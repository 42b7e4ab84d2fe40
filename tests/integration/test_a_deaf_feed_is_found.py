"""A connection to the store that looks healthy and carries nothing: found by its silence, said, and repaired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asgi_app.registry import log, registry
from cache_layer import feed as module
from cache_layer.history import History
from consumers.connections import Connections
from consumers.hub import Hub
from tests.integration.test_logs_tell_everything import Follower
from tests.support.paged import a_node
from tests.support.proxy import Proxy
from tests.support.store import StoreServer
from tests.support.watcher import eventually

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(autouse=True)
def declarations() -> Iterator[None]:
    with registry.isolated():
        log("t.deaf", access="public", history=100, ttl=60)
        yield


async def test_what_was_published_meanwhile_is_told_once_it_hears_again(
    store_server: StoreServer, tmp_path: Path
) -> None:
    """In order and without a hole.  The probe needs what `_SILENCE` says; nothing but silence gives it away."""
    async with AsyncExitStack() as ends:
        proxy = ends.enter_context(Proxy(store_server.socket, tmp_path / "road.sock"))
        node = await ends.enter_async_context(a_node())
        deaf = module.Feed(proxy.url)
        await deaf.start()
        ends.push_async_callback(deaf.stop)
        hub = Hub(deaf, node.cache.invalidations_channel, Connections(10, 10))
        ends.push_async_callback(hub.stop)
        ann, history = Follower(), History(node.store)
        await ann.join(hub, "t.deaf")

        async def publish(*numbers: int) -> None:
            for number in numbers:
                await history.append("t.deaf", b"%d" % number, size=100, ttl=60)

        await publish(0, 1)
        await eventually(lambda: ann.told == ["0", "1"], "it hears")
        proxy.half_open()
        proxy.heal()  # new connections pass; those there are stay dead
        await publish(*range(2, 30))
        await eventually(lambda: len(ann.told) == 30, "it hears again", within=40)
        assert ann.told == [str(number) for number in range(30)]
        await publish(30)
        await eventually(lambda: ann.told[-1] == "30", "and goes on hearing")


async def test_it_does_not_count_as_healthy_while_it_is_deaf(store_server: StoreServer, tmp_path: Path) -> None:
    """What `/readyz` says, and what decides whether a new subscriber is shown what is held here without a look."""
    async with AsyncExitStack() as ends:
        proxy = ends.enter_context(Proxy(store_server.socket, tmp_path / "road.sock"))
        deaf = module.Feed(proxy.url)
        await deaf.start()
        ends.push_async_callback(deaf.stop)
        await eventually(lambda: deaf.healthy, "it hears")
        proxy.half_open()
        await eventually(lambda: not deaf.healthy, "it is found", within=40)
        proxy.heal()
        await eventually(lambda: deaf.healthy, "it hears again", within=40)
