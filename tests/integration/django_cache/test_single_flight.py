"""`get_or_set` computes once for all who ask, in threads, loops and processes, and keeps nothing that was deleted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from asgi_app.cache_backend import stats
from cache_layer.kv import Space
from tests.support.django_cache import MakeCache, until
from tests.support.store import StoreServer

ROOT = Path(__file__).parents[3]


@pytest.fixture
def client(store_server: StoreServer) -> Iterator[redis.Redis]:
    made = redis.Redis.from_url(store_server.url)
    yield made
    made.close()


class Computation:
    """Counts its runs; each waits until it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.began = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> list[int]:
        self.runs += 1
        self.began.set()
        assert self.go.wait(30)
        return [self.runs]


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys a lease was asked for, once for each time."""
    asked: list[str] = []
    acquire = Space.acquire

    def noted(space: Space, key: str, token: str, life: int) -> Any:
        asked.append(key)
        return acquire(space, key, token, life)

    monkeypatch.setattr(Space, "acquire", noted)
    return asked


def test_threads_share_one_computation(make: MakeCache, leases: list[str]) -> None:
    """Only the first asks the store for the lease; each has a value of its own, whose changes the others do not see."""
    cache, computation = make(), Computation()
    with ThreadPoolExecutor(8) as pool:
        misses = stats.misses
        asked = [pool.submit(cache.get_or_set, "key", computation) for _ in range(8)]
        until(lambda: stats.misses == misses + 8, "all have found nothing")
        computation.go.set()
        found = [one.result(30) for one in asked]
    assert found == [[1]] * 8
    assert computation.runs == 1
    found[0].append(2)
    assert found[1:] == [[1]] * 7
    assert cache.get("key") == [1]
    assert len(leases) == 1


async def test_callers_on_a_loop_share_one_computation(make: MakeCache, leases: list[str]) -> None:
    """Coroutine functions are awaited, and a caller that goes away leaves the computation to the others."""
    cache, runs, go = make(), [0], asyncio.Event()

    async def compute() -> list[int]:
        runs[0] += 1
        await go.wait()
        return [runs[0]]

    asked = [asyncio.create_task(cache.aget_or_set("key", compute)) for _ in range(8)]
    while not runs[0]:
        await asyncio.sleep(0.001)
    asked[0].cancel()
    await asyncio.sleep(0)
    go.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [[1]] * 7
    assert runs == [1]
    assert await cache.aget("key") == [1]
    assert len(leases) == 1


async def _coroutine(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


class _Callable:
    """Neither a function nor a coroutine function, but what it returns is awaited."""

    def __call__(self) -> Awaitable[Any]:
        return _coroutine("called")


@pytest.mark.parametrize(
    ("default", "value"),
    [
        (lambda: _coroutine("function"), "function"),
        (lambda: _coroutine(None), None),
        (lambda: "plain function", "plain function"),
        (_Callable(), "called"),
        ("plain", "plain"),
        (None, None),
    ],
)
async def test_what_a_loop_may_be_given(make: MakeCache, default: Any, value: Any) -> None:
    """Values, functions, coroutine functions, callables; all as Django, and what can be awaited is."""
    cache = make()
    assert await cache.aget_or_set("key", default) == value
    assert await cache.aget("key", "nothing") == value


async def test_a_coroutine_is_awaited_or_closed(make: MakeCache) -> None:
    """One that is not needed is no warning later."""
    cache = make()
    assert await cache.aget_or_set("key", _coroutine([1])) == [1]
    unused = _coroutine([2])
    assert await cache.aget_or_set("key", unused) == [1]
    with pytest.raises(RuntimeError, match="already awaited"):
        await unused


def test_threads_are_told_to_use_the_twin(make: MakeCache) -> None:
    """A coroutine is no value: nothing is stored."""
    cache = make()
    with pytest.raises(TypeError, match="aget_or_set"):
        cache.get_or_set("key", lambda: _coroutine(1))
    with pytest.raises(TypeError, match="aget_or_set"):
        cache.get_or_set("key", _coroutine(1))
    assert not cache.has_key("key")


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError, KeyboardInterrupt])
def test_a_failure_is_told_and_leaves_no_lease(
    make: MakeCache, client: redis.Redis, namespace: str, error: type[BaseException]
) -> None:
    """The next caller computes at once."""
    cache = make()

    def fail() -> None:
        assert client.keys(f"dl:*{namespace}*"), "the lease is held meanwhile"
        raise error

    with pytest.raises(error):
        cache.get_or_set("key", fail)
    assert not client.keys(f"dl:*{namespace}*")
    assert cache.get_or_set("key", lambda: 1) == 1
    assert not client.keys(f"dl:*{namespace}*")


async def test_a_failure_on_a_loop_is_told_to_all(make: MakeCache, client: redis.Redis, namespace: str) -> None:
    """Those who waited get it too."""
    cache, runs = make(), [0]

    async def fail() -> None:
        runs[0] += 1
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    found = await asyncio.gather(*(cache.aget_or_set("key", fail) for _ in range(4)), return_exceptions=True)
    assert [type(one) for one in found] == [ZeroDivisionError] * 4
    assert runs == [1]
    assert not client.keys(f"dl:*{namespace}*")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_one_thread_ends_no_other(make: MakeCache, error: type[BaseException]) -> None:
    """One of those who waited computes in its place."""
    cache, computation = make(), Computation()
    began, go = threading.Event(), threading.Event()
    computation.go.set()

    def end() -> None:
        began.set()
        assert go.wait(30)
        raise error

    with ThreadPoolExecutor(4) as pool:
        ended = pool.submit(cache.get_or_set, "key", end)
        assert began.wait(30)
        misses = stats.misses
        others = [pool.submit(cache.get_or_set, "key", computation) for _ in range(3)]
        until(lambda: stats.misses == misses + 3, "all have found nothing")
        go.set()
        with pytest.raises(error):
            ended.result(30)
        assert [one.result(30) for one in others] == [[1]] * 3
    assert computation.runs == 1


def test_caches_of_other_serializers_compute_for_themselves(make: MakeCache) -> None:
    """They have the key in common, but cannot read what the other one makes of its value."""
    data, pickles, computation = make(), make(serializer="pickle", allow_pickle=True), Computation()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(data.get_or_set, "key", computation)
        assert computation.began.wait(30)
        misses = stats.misses
        second = pool.submit(pickles.get_or_set, "key", lambda: {"mine"})
        until(lambda: stats.misses > misses, "the second caller has found nothing")
        computation.go.set()
        assert first.result(30) == [1]
        assert second.result(30) == {"mine"}


PROGRAM = """
    import asyncio, sys, threading, time
    sys.path.insert(0, {root!r})
    from django.conf import settings
    settings.configure(SECRET_KEY="x" * 50)
    import redis
    from asgi_app.cache_backend import MillpondCache
    url, namespace, face = sys.argv[1:]
    cache = MillpondCache(url, {{"KEY_PREFIX": namespace, "OPTIONS": {{"deadline": 10}}}})
    client = redis.Redis.from_url(url)
    found = []

    def compute():
        runs = client.incr("runs:" + namespace)
        client.expire("runs:" + namespace, 60)
        time.sleep(0.5)
        return runs

    async def acompute():
        return await asyncio.to_thread(compute)

    async def on_a_loop():
        found.extend(await asyncio.gather(*(cache.aget_or_set("key", acompute) for _ in range(50))))

    def in_threads():
        asked = [threading.Thread(target=lambda: found.append(cache.get_or_set("key", compute))) for _ in range(50)]
        for one in asked: one.start()
        for one in asked: one.join()

    client.incr("ready:" + namespace); client.expire("ready:" + namespace, 60)
    while not client.get("go:" + namespace): time.sleep(0.002)
    asyncio.run(on_a_loop()) if face == "loop" else in_threads()
    assert found == [1] * 50, found
"""


def test_processes_share_one_computation(
    make: MakeCache, store_server: StoreServer, client: redis.Redis, namespace: str
) -> None:
    """200 readers of a cold key in four processes, two of threads and two of loops: one computation."""
    make()
    program = textwrap.dedent(PROGRAM).format(root=str(ROOT))
    command = [sys.executable, "-W", "error", "-c", program, store_server.url, namespace]
    started = [subprocess.Popen([*command, face]) for face in ("loop", "threads", "loop", "threads")]
    try:
        until(lambda: client.get(f"ready:{namespace}") == b"4" or _ended(started), "four processes are ready")
        client.set(f"go:{namespace}", 1, ex=60)
        assert [one.wait(45) for one in started] == [0] * 4
        assert client.get(f"runs:{namespace}") == b"1"
    finally:
        for one in started:
            one.kill()
            one.wait(10)


def test_who_vanished_is_replaced(make: MakeCache, client: redis.Redis, namespace: str) -> None:
    """A lease whose holder does nothing ends by itself; then one of those who wait computes."""
    cache, computation = make(), Computation()
    computation.go.set()
    client.set(cache._space.lease(cache.make_key("key")), b"of somebody who is gone", px=300)
    assert cache.get_or_set("key", computation) == [1]


def test_who_waits_too_long_computes_for_himself(make: MakeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """And stores nothing: that is for the holder of the lease."""
    monkeypatch.setattr("asgi_app.cache_backend.operations._PATIENCE", 0.2)
    cache, slow = make(), Computation()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(cache.get_or_set, "key", slow)
        assert slow.began.wait(30)
        assert cache.get_or_set("key", lambda: "mine") == "mine"
        assert cache.get("key") is None
        slow.go.set()
        assert held.result(30) == [1]
    assert cache.get("key") == [1]


@pytest.mark.parametrize(
    "outdate",
    [
        "delete",
        "delete_many",
        "clear",
        "set for no time",
        "set many for no time",
        "add for no time",
        "touch for no time",
        "set for a moment",
        "add for a moment",
    ],
)
def test_what_was_deleted_meanwhile_is_not_kept(make: MakeCache, outdate: str) -> None:
    """Who asked before gets the old value, the cache keeps none, and who asks after gets a new one."""
    cache, old = make(), Computation()
    actions: dict[str, Callable[[], object]] = {
        "delete": lambda: cache.delete("key"),
        "delete_many": lambda: cache.delete_many(["key", "other"]),
        "clear": cache.clear,
        "set for no time": lambda: cache.set("key", "set", 0),
        "set many for no time": lambda: cache.set_many({"other": "set", "key": "set"}, 0),
        "add for no time": lambda: cache.add("key", "added", 0),
        "touch for no time": lambda: cache.touch("key", 0),
        "set for a moment": lambda: cache.set("key", "set", 0.001),
        "add for a moment": lambda: cache.add("key", "added", 0.001),
    }
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(cache.get_or_set, "key", old)
        assert old.began.wait(30)
        actions[outdate]()
        until(lambda: not cache.has_key("key"), "what was set is gone")
        misses = stats.misses
        after = pool.submit(cache.get_or_set, "key", lambda: "new")
        until(lambda: stats.misses > misses, "the second caller has found nothing")
        old.go.set()
        assert before.result(30) == [1]
        assert after.result(30) == "new"
    assert cache.get("key") == "new"


def test_a_revoked_lease_is_free(make: MakeCache) -> None:
    """Who asks after a deletion does not wait for a computation elsewhere that was begun before it."""
    cache = make()
    cache._run(_one(cache._space.acquire(cache.make_key("key"), "of another process", 60_000)))
    cache.delete("key")
    assert cache.get_or_set("key", lambda: "new") == "new"
    assert cache.get("key") == "new"


def test_a_value_set_meanwhile_wins(make: MakeCache) -> None:
    """As in Django: what is stored is returned."""
    cache, computation = make(), Computation()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(cache.get_or_set, "key", computation)
        assert computation.began.wait(30)
        cache.set("key", "set")
        computation.go.set()
        assert asked.result(30) == "set"
    assert cache.get("key") == "set"


def test_a_computation_longer_than_its_lease_is_kept(make: MakeCache, client: redis.Redis) -> None:
    """An expired lease says nothing against its value."""
    cache, computation = make(), Computation()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(cache.get_or_set, "key", computation)
        assert computation.began.wait(30)
        assert client.delete(cache._space.lease(cache.make_key("key"))) == 1
        computation.go.set()
        assert asked.result(30) == [1]
    assert cache.get("key") == [1]


def test_nothing_is_kept_for_no_time(make: MakeCache) -> None:
    """With a timeout of nothing the value is only returned."""
    cache = make()
    assert cache.get_or_set("key", lambda: [1], timeout=0) == [1]
    assert cache.get_or_set("key", [2], timeout=-1) == [2]
    assert cache.get("key") is None


def _one(trip: Any) -> Any:
    return (yield trip)


def _ended(processes: list[subprocess.Popen[bytes]]) -> bool:
    return any(one.poll() is not None for one in processes)
