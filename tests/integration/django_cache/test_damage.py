"""Bytes that are no value of ours are a miss, are counted, and give way to the next write; never an exception."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import redis

from asgi_app.cache_backend import MillpondCache, stats
from tests.support.django_cache import MakeCache, raw_name

SERIALIZERS: dict[str, dict[str, Any]] = {
    "json": {},
    "msgpack": {"serializer": "msgpack"},
    "pickle": {"serializer": "pickle", "allow_pickle": True},
}


class Bomb:
    """Goes off when it is unpickled."""

    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (_explode, ())


def _explode() -> str:
    Bomb.exploded = True
    return "boom"


#: What becomes of the bytes of a good value.
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "text": lambda raw: b"hello",
    "number": lambda raw: b"42",
    "pickle": lambda raw: pickle.dumps(Bomb()),
    "pickle in our clothes": lambda raw: raw[:12] + b"p" + raw[13:31] + pickle.dumps(Bomb()),
    "shortened": lambda raw: raw[:-1],
    "head only": lambda raw: raw[:31],
    "half a head": lambda raw: raw[:20],
    "longer": lambda raw: raw + b" ",
    "old format": lambda raw: raw.replace(b"MPD1", b"MPD0"),
    "changed": lambda raw: raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:],
    "unknown kind": lambda raw: raw[:12] + b"\xff" + raw[13:],
    "no such length": lambda raw: raw[:13] + b"xxxxxxxxxx" + raw[23:],
    "digits that are none": lambda raw: raw[:12] + b"i0000000001" + b"00000000" + b"x",
}


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_is_a_miss_and_gives_way(
    make: MakeCache, client: redis.Redis, serializer: str, damage: str
) -> None:
    """For both faces and every write."""
    cache = make(**SERIALIZERS[serializer])
    for write in ("set", "add", "set_many", "get_or_set"):
        _damage(cache, client, damage)
        counted, missed = stats.corrupt, stats.misses
        assert cache.get("key", "nothing") == "nothing"
        assert (stats.corrupt, stats.misses) == (counted + 1, missed + 1)
        _damage(cache, client, damage)
        assert await cache.aget_many(["key"]) == {}
        _damage(cache, client, damage)
        assert not cache.has_key("key")
        args: tuple[Any, ...] = ({"key": [2]},) if write == "set_many" else ("key", [2])
        getattr(cache, write)(*args)
        assert await cache.aget("key") == [2]
    assert not Bomb.exploded


@pytest.mark.parametrize(
    "damage", sorted(set(DAMAGE) - {"changed", "unknown kind", "digits that are none"} - {"pickle in our clothes"})
)
def test_add_needs_no_look_before(make: MakeCache, client: redis.Redis, damage: str) -> None:
    """Foreign and shortened bytes are known without reading them to the end; others stand until they are read."""
    cache = make()
    _damage(cache, client, damage)
    assert cache.touch("key") is False
    assert cache.add("key", [2]) is True
    assert cache.get("key") == [2]
    _damage(cache, client, damage)
    with pytest.raises(ValueError):
        cache.incr("key")
    assert cache.delete("key") is False
    assert not client.exists(raw_name(cache, "key"))


def test_values_of_other_types_are_misses(make: MakeCache, client: redis.Redis) -> None:
    """A list where a value should be, or the generation."""
    cache = make()
    cache.set("other", 1)
    for write in ("set", "add", "get_or_set"):
        client.delete(raw_name(cache, "key"))
        client.rpush(raw_name(cache, "key"), "a", "list")
        assert cache.get("key") is None
        assert cache.touch("key") is False
        with pytest.raises(ValueError):
            cache.incr("key")
        getattr(cache, write)("key", [2])
        assert cache.get("key") == [2]
    client.delete(cache._space.generation)
    client.rpush(cache._space.generation, "a", "list")
    assert cache.get_many(["key", "other"]) == {}
    cache.set("key", [3])
    assert cache.get_many(["key", "other"]) == {"key": [3]}


def test_a_signature_is_for_one_key(make: MakeCache, client: redis.Redis) -> None:
    """A pickle that is ours, moved to another key by whoever can write to the store, is not unpickled."""
    cache = make(**SERIALIZERS["pickle"])
    cache.set("one", {"admin": True})
    cache.set("two", {"admin": False})
    client.copy(raw_name(cache, "one"), raw_name(cache, "two"), replace=True)
    counted = stats.corrupt
    assert cache.get("two") is None
    assert stats.corrupt == counted + 1
    assert cache.get("one") == {"admin": True}


def test_pickles_are_nothing_to_other_caches(make: MakeCache) -> None:
    """Signed ones too, and a cache of pickles reads no unsigned data."""
    pickles, data = make(**SERIALIZERS["pickle"]), make()
    pickles.set("key", [1])
    assert data.get("key") is None
    data.set("key", [1])
    assert pickles.get("key") is None
    pickles.set("key", 7)  # a number is a number everywhere
    assert data.get("key") == 7


def test_what_another_wrote_meanwhile_is_not_removed(make: MakeCache, client: redis.Redis) -> None:
    """A reader removes the very bytes it could not read, and no others."""
    cache = make()
    cache.set("key", [1])
    made = cache.make_key("key")
    good = client.get(raw_name(cache, "key"))
    cache._run(_one(cache._space.drop(made, b"rubbish")))
    assert client.get(raw_name(cache, "key")) == good


def _one(trip: Any) -> Any:
    return (yield trip)


def _damage(cache: MillpondCache, client: redis.Redis, damage: str) -> None:
    cache.set("key", [1, "some text"])
    raw = client.get(raw_name(cache, "key"))
    assert isinstance(raw, bytes)
    client.set(raw_name(cache, "key"), DAMAGE[damage](raw), px=60_000)
