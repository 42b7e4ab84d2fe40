"""Values in memcached: its limits, and what happens while it is away."""

from __future__ import annotations

import json
import pickle
import random
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.core.cache import caches

from cache_layer.errors import StoreUnavailable
from cache_layer.outdated import of_tags
from cache_layer.redis import Store
from tests.integration.test_other_stores import Process, close_process, open_process
from tests.support.keys import key
from tests.support.memcached import Memcached
from tests.support.store import StoreServer
from tests.support.watcher import eventually

pytestmark = pytest.mark.services

WHAT = key(tags=("sales",), fresh=30.0)
LARGE = b'"%b"' % random.Random(1).randbytes(1_500_000).hex().encode()


@pytest.fixture
def server() -> Iterator[Memcached]:
    with Memcached() as running:
        yield running


@pytest.fixture
async def web(
    server: Memcached, store_server: StoreServer, store: Store, namespace: str, settings: Any
) -> AsyncIterator[Process]:
    """A process whose values are in `server`."""
    settings.CACHES = {**settings.CACHES, "memcached": {**settings.CACHES["memcached"], "LOCATION": [server.address]}}
    process = open_process(store_server.url, namespace, "memcached")
    process.cache.invalidator.start()
    await process.feed.start()
    yield process
    await close_process(process)


async def test_a_value_it_does_not_take_is_a_failure(web: Process) -> None:
    """Of a job and of a web process: it says why, and is not computed again and again."""
    job_id, claim, versions = await web.job(WHAT)
    assert (await web.finish(WHAT, LARGE, job_id, claim, versions)).what == "revoked"
    failure = (await web.cache.lookup(WHAT)).failure
    assert failure is not None
    assert json.loads(failure)["type"] == "value-too-large"
    assert (await web.records.get(job_id) or {})["status"] == "failed"
    here = key("here")
    begun = await web.begin(here, "here:one")
    assert (await web.commit(here, LARGE, begun.tag_versions, holder="here:one")).what == "revoked"
    assert (await web.begin(here, "here:two")).what == "failed"


async def test_it_may_go_and_come_back(web: Process, server: Memcached) -> None:
    """Away it is unavailable at once, an invalidation then is kept; back, and empty, all is computed anew."""
    await web.fill(WHAT, b"1")
    assert await web.shown(WHAT) == b"1"
    server.stop()
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await web.cache.lookup(WHAT)
    with pytest.raises(StoreUnavailable):
        await web.cache.invalidate(of_tags("sales"))
    server.start()
    await eventually(lambda: not web.cache.invalidator.kept, "the invalidation is done")
    assert await web.shown(WHAT) is None
    await web.fill(WHAT, b"2")
    assert await web.shown(WHAT) == b"2"


async def test_nothing_of_others_is_unpickled(web: Process, server: Memcached) -> None:
    """What another program left there, marked as a pickle, is bytes and a miss."""
    await web.fill(WHAT, b"1")
    host, _, port = server.address.partition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        for name in _names(connection):
            poison = pickle.dumps(Poison())
            connection.sendall(b"set %b 1 60 %d\r\n%b\r\n" % (name, len(poison), poison))
            assert connection.recv(100) == b"STORED\r\n"
    assert await web.shown(WHAT) is None
    await web.fill(WHAT, b"2")
    assert await web.shown(WHAT) == b"2"
    caches["memcached"].close()


class Poison:
    """Unpickled, it ends the test."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


def _names(connection: socket.socket) -> list[bytes]:
    connection.sendall(b"lru_crawler metadump all\r\n")
    told = b""
    while not told.endswith(b"END\r\n"):
        told += connection.recv(65536)
    lines = told.split(b"\n")[:-2]
    return [line.split(b" ")[0].removeprefix(b"key=").replace(b"%3A", b":") for line in lines]
