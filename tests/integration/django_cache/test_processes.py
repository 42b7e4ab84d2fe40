"""Connections: closed with their loop, the child's own after a fork, and none outlives what it is for."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
import redis

from asgi_app.cache_backend import MillpondCache
from asgi_app.cache_backend.connections import connections
from cache_layer.errors import StoreUnavailable
from tests.support.django_cache import MakeCache, until
from tests.support.store import StoreServer

ROOT = Path(__file__).parents[3]


def test_connections_end_with_their_loop(make: MakeCache, store_server: StoreServer) -> None:
    """Loop after loop, as a server of synchronous requests makes them; nothing is left and nothing warns."""
    cache = make()
    cache.set("key", 1)
    with redis.Redis.from_url(store_server.url) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        before = len(client.client_list())
        for _ in range(5):
            assert asyncio.run(_some(cache)) == [1] * 5
        gc.collect()
        until(lambda: len(client.client_list()) <= before, "the connections are closed")
    assert not list(connections()._loops)


async def _some(cache: MillpondCache) -> list[int]:
    return list(await asyncio.gather(*(cache.aget("key") for _ in range(5))))


async def test_one_loop_has_one_set_of_connections(make: MakeCache) -> None:
    """However many cache objects Django makes, also at once."""
    made = [make() for _ in range(10)]
    await asyncio.gather(*(cache.aget("key") for cache in made))
    (loop,) = [one for one in connections()._loops if one is asyncio.get_running_loop()]
    assert len(connections()._loops[loop].sides) == 1


PROGRAM = """
    import asyncio, os, sys
    sys.path.insert(0, {root!r})
    from django.conf import settings
    settings.configure(
        SECRET_KEY="x" * 50,
        INSTALLED_APPS=["django.contrib.contenttypes"],
        CACHES={{"default": {{
            "BACKEND": "asgi_app.cache_backend.MillpondCache", "LOCATION": sys.argv[1], "KEY_PREFIX": sys.argv[2],
            "OPTIONS": {{"near": 1 << 20, "deadline": 10}},
        }}}},
    )
    import django
    django.setup()
    from django.core.cache import cache

    {body}
"""

FOREIGN = """
    assert not [name for name in os.environ if name.startswith("MILLPOND")]
    cache.set("key", {"a": (1, 2)})
    assert cache.get("key") == {"a": (1, 2)}

    async def main():
        assert await cache.aget_or_set("other", compute) == [1]
        return await cache.aget_many(["key", "other"])

    async def compute():
        return [1]

    assert asyncio.run(main()) == {"key": {"a": (1, 2)}, "other": [1]}
    assert "asgi_app.env" not in sys.modules
"""

FORK = """
    import threading
    from asgi_app.cache_backend import operations

    operations._PATIENCE = 1000  # who waited for a thread of the parent would wait too long for this test
    began, go = threading.Event(), threading.Event()

    def slow():
        began.set()
        go.wait()
        return "slow"

    async def child():
        assert await cache.aget("key") == "parent"
        await cache.aset("child", "child")
        while not cache._near().open:
            await asyncio.sleep(0.01)
        cache.delete("slow")
        assert cache.get_or_set("slow", lambda: "child") == "child"

    async def parent():
        await cache.aset("key", "parent")
        assert await cache.aget("key") == "parent"
        assert cache.get("key") == "parent"
        thread = threading.Thread(target=lambda: cache.get_or_set("slow", slow))
        thread.start()
        began.wait()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                assert cache.get("key") == "parent"
                asyncio.run(child())
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        go.set()
        thread.join()
        assert cache.get("child") == "child"
        assert await cache.aget("child") == "child"

    asyncio.run(parent())
"""


@pytest.mark.parametrize("body", [FOREIGN, FORK], ids=["foreign", "fork"])
def test_in_a_project_of_somebody_else(
    make: MakeCache, store_server: StoreServer, namespace: str, tmp_path: Path, body: str
) -> None:
    """Without Millpond's apps, settings or environment; and in a child that was forked out of a running loop."""
    make()
    indented = textwrap.indent(textwrap.dedent(body), "    ").strip()
    program = textwrap.dedent(PROGRAM.format(root=str(ROOT), body=indented))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MILLPOND", "DJANGO"))}
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", program]
    done = subprocess.run(
        [*command, store_server.url, namespace], cwd=tmp_path, env=env, timeout=50, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("away", ["frozen", "killed"])
async def test_a_store_that_is_away_is_said_in_time(own_server: StoreServer, away: str) -> None:
    """By both faces and every operation; after three failures at once; and it is found again when it is back."""
    cache = MillpondCache(own_server.url, {"OPTIONS": {"deadline": 0.2}})
    cache.set("key", [1])
    assert await cache.aget("key") == [1]
    own_server.freeze() if away == "frozen" else own_server.kill()
    for _ in range(4):
        for operation in ("get", "delete", "incr"):
            with pytest.raises(StoreUnavailable):
                getattr(cache, operation)("key")
            with pytest.raises(StoreUnavailable):
                await getattr(cache, f"a{operation}")("key")
    with pytest.raises(StoreUnavailable):
        cache.get_or_set("key", lambda: 1)
    unused = asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await cache.aget_or_set("key", unused)
    begun = time.monotonic()
    refused = 0
    while time.monotonic() - begun < 0.3:
        with pytest.raises(StoreUnavailable):
            cache.get("key")
        refused += 1
    assert refused > 10
    own_server.thaw() if away == "frozen" else own_server.start()
    until(lambda: _answers(cache), "it is found again")
    patience = time.monotonic() + 30
    while True:
        try:
            await cache.aset("key", [2])
            break
        except StoreUnavailable:
            assert time.monotonic() < patience
            await asyncio.sleep(0.05)
    assert cache.get("key") == [2]


def _answers(cache: MillpondCache) -> bool:
    try:
        cache.set("key", [1])
    except StoreUnavailable:
        return False
    return True
