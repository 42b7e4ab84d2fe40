"""Clearing is one command and touches its own namespace only; lives have milliseconds, and counting is exact."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
import redis

from asgi_app.cache_backend import MillpondCache
from tests.support.django_cache import MakeCache, raw_name, until
from tests.support.store import StoreServer

WEEK = 7 * 86_400_000


def generation(make: MakeCache) -> str:
    """Where the generation of the test's namespace lies."""
    return make()._space.generation


def test_clearing_touches_its_own_only(
    make: MakeCache, client: redis.Redis, store_server: StoreServer, namespace: str
) -> None:
    """Not another prefix, nor a foreign key, nor another database."""
    cache, neighbour, longer = make(), make(prefix="x"), make(prefix=":1")
    other = MillpondCache(store_server.url.replace("db=0", "db=1"), {"KEY_PREFIX": namespace})
    client.set(f"foreign:{namespace}", "kept", px=60_000)
    for one in (cache, neighbour, longer, other):
        one.set("key", "value")
    cache.clear()
    assert cache.get("key") is None
    assert [one.get("key") for one in (neighbour, longer, other)] == ["value"] * 3
    assert client.get(f"foreign:{namespace}") == b"kept"


def test_a_store_of_its_own_holds_nothing_else(own_server: StoreServer) -> None:
    """Only what was stored and its generation, whichever face was asked: no deployment lives there."""
    cache = MillpondCache(own_server.url, {})
    cache.set("key", "value")
    assert asyncio.run(cache.aget("key")) == "value"
    with redis.Redis.from_url(own_server.url) as client:
        assert sorted(client.keys()) == sorted([raw_name(cache, "key").encode(), cache._space.generation.encode()])


def test_clearing_takes_one_command(make: MakeCache, client: redis.Redis) -> None:
    """With three values and with three thousand: what the store does is the same."""
    cache = make()
    cache.set_many({"warm": 1})
    commands = []
    for number in (3, 3000):
        cache.set_many({f"key{n}": n for n in range(number)})
        before = _calls(client)
        cache.clear()
        commands.append(_calls(client) - before)
        assert cache.get_many([f"key{n}" for n in range(number)]) == {}
    assert commands == [{"unlink": 1}] * 2


@pytest.mark.parametrize("operation", ["has_key", "touch", "delete", "incr", "add", "get_or_set"])
async def test_a_cleared_value_is_there_for_no_operation(make: MakeCache, operation: str) -> None:
    """Though its bytes are still in the store."""
    cache = make()
    cache.set("key", 1)
    cache.clear()
    cache.set("other", 2)  # begins the next generation
    if operation == "incr":
        with pytest.raises(ValueError):
            cache.incr("key")
    elif operation == "add":
        assert cache.add("key", 5) is True
        assert cache.get("key") == 5
    elif operation == "get_or_set":
        assert await cache.aget_or_set("key", lambda: 5) == 5
    else:
        assert getattr(cache, operation)("key") is False
    assert cache.get("other") == 2


def test_a_lost_generation_loses_all_values(make: MakeCache, client: redis.Redis) -> None:
    """So that nothing cleared can come back; the next write begins a new one."""
    cache = make()
    cache.set("key", 1)
    was = client.get(generation(make))
    client.delete(generation(make))
    assert cache.get("key") is None
    cache.set("other", 1)
    assert cache.get("key") is None
    assert client.get(generation(make)) != was


def test_a_generation_outlives_its_values(make: MakeCache, client: redis.Redis) -> None:
    """A week, twice the longest life beyond that, and for ever only with values for ever."""
    cache = make()
    cache.set("key", 1, 60)
    assert WEEK - 60_000 < client.pttl(generation(make)) <= WEEK
    cache.set("key", 1, 30 * 86_400)
    assert 59 * 86_400_000 < client.pttl(generation(make)) <= 60 * 86_400_000
    cache.touch("key", 90 * 86_400)
    assert client.pttl(generation(make)) > 179 * 86_400_000
    cache.set("key", 1, None)
    assert client.pttl(generation(make)) == -1
    cache.clear()
    assert client.exists(generation(make)) == 0
    cache.delete("key")


def test_a_generation_is_prolonged_rarely(make: MakeCache, client: redis.Redis) -> None:
    """Only when half of its time is over: every change of it is told to all who track it."""
    cache = make()
    cache.set("key", 1, 60)
    client.pexpire(generation(make), WEEK // 2 + 10_000)
    cache.set("key", 1, 60)
    assert client.pttl(generation(make)) <= WEEK // 2 + 10_000
    client.pexpire(generation(make), WEEK // 2 - 10_000)
    cache.set("key", 1, 60)
    assert client.pttl(generation(make)) > WEEK


@pytest.mark.parametrize("face", ["blocking", "loop"])
async def test_lives_are_kept_to_the_millisecond(make: MakeCache, client: redis.Redis, face: str) -> None:
    """By set, add, set_many, touch and get_or_set; half a second is half a second."""
    cache = make(timeout=0.75)
    if face == "loop":
        await cache.aset("set", 1, 100.5)
        await cache.aadd("add", 1, 200.25)
        await cache.aset_many({"many": 1}, 300.125)
        await cache.aset("touch", 1)
        await cache.atouch("touch", 400.5)
        await cache.aget_or_set("computed", lambda: 1, 500.5)
        await cache.aset("default", 1)
    else:
        cache.set("set", 1, 100.5)
        cache.add("add", 1, 200.25)
        cache.set_many({"many": 1}, 300.125)
        cache.set("touch", 1)
        cache.touch("touch", 400.5)
        cache.get_or_set("computed", lambda: 1, 500.5)
        cache.set("default", 1)
    lives = {"set": 100_500, "add": 200_250, "many": 300_125, "touch": 400_500, "computed": 500_500, "default": 750}
    for key, life in lives.items():
        assert life - 60_000 < client.pttl(raw_name(cache, key)) <= life
    begun = time.monotonic()
    cache.set("short", 1, 0.5)
    until(lambda: cache.get("short") is None, "the value is gone")
    assert time.monotonic() - begun >= 0.5


def test_counting_keeps_the_life_and_is_exact(make: MakeCache, client: redis.Redis) -> None:
    """To 64 bits, where a double would round; and a counter is not made by counting."""
    cache = make()
    cache.set("key", 2**62 + 1, 1000)
    assert cache.incr("key", 2) == 2**62 + 3
    assert cache.decr("key") == 2**62 + 2
    assert 900_000 < client.pttl(raw_name(cache, "key")) <= 1_000_000
    with pytest.raises(OverflowError):
        cache.incr("key", 2**62)
    assert cache.get("key") == 2**62 + 2
    cache.set("key", True)
    for value in (True, 1.5, "1", None):
        cache.set("key", value)
        with pytest.raises(TypeError):
            cache.incr("key")
        assert cache.get("key") is value or cache.get("key") == value
    with pytest.raises(TypeError):
        cache.incr("key", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        cache.incr("missing")
    assert not client.exists(raw_name(cache, "missing"))


async def test_counting_is_atomic(make: MakeCache) -> None:
    """Both faces at once."""
    cache = make()
    await cache.aset("key", 0)
    await asyncio.gather(*(cache.aincr("key") for _ in range(100)), asyncio.to_thread(_count, cache))
    assert await cache.aget("key") == 200


def _count(cache: MillpondCache) -> None:
    for _ in range(100):
        cache.incr("key")


def _calls(client: redis.Redis) -> Counter[str]:
    """How often the store has done what touches keys; others may have asked it about itself meanwhile."""
    found: dict[str, dict[str, int]] = client.info("commandstats")
    calls = Counter({name.removeprefix("cmdstat_"): one["calls"] for name, one in found.items()})
    for name in ("info", "ping", "hello", "client|setinfo", "client|tracking", "client|id"):
        del calls[name]
    return calls
