"""Copies in the process are given up when anybody changes what they are of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from asgi_app.cache_backend import MillpondCache
from cache_layer.errors import StoreUnavailable
from cache_layer.near import Near
from tests.support.django_cache import MakeCache, raw_name, until
from tests.support.store import StoreServer


def copied(cache: MillpondCache, *keys: str) -> None:
    """Read until copies are here."""
    near = cache._near()
    assert near is not None

    def here() -> bool:
        hits = near.stats.hits
        found = cache.get_many(keys)
        assert list(found) == list(keys)
        return near.stats.hits == hits + len(keys)

    until(here, "copies are kept")


CHANGES: dict[str, Callable[[MillpondCache, redis.Redis], object]] = {
    "set": lambda cache, client: cache.set("key", "new"),
    "set_many": lambda cache, client: cache.set_many({"key": "new"}),
    "delete": lambda cache, client: cache.delete("key"),
    "delete_many": lambda cache, client: cache.delete_many(["key"]),
    "clear": lambda cache, client: cache.clear(),
    "incr_version": lambda cache, client: cache.incr_version("key"),
    "touch": lambda cache, client: cache.touch("key", 0),
    "a client's SET": lambda cache, client: client.set(raw_name(cache, "key"), "rubbish", px=60_000),
    "a client's DEL": lambda cache, client: client.delete(raw_name(cache, "key")),
    "a client's DEL of the generation": lambda cache, client: client.delete(cache._space.generation),
    "a client's PEXPIRE": lambda cache, client: client.pexpire(raw_name(cache, "key"), 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_others_is_heard(make: MakeCache, client: redis.Redis, change: str) -> None:
    """Whatever it is and whoever makes it: no copy of the old value is given out for long."""
    cache, other = make(near=1 << 20), make()
    cache.set("key", "old")
    copied(cache, "key")
    CHANGES[change](other, client)
    until(lambda: cache.get("key") != "old", "the change is heard")
    assert cache.get("key") == other.get("key")


@pytest.mark.parametrize("change", ["set", "set_many", "delete", "delete_many", "clear", "incr_version", "touch"])
def test_an_own_change_is_seen_at_once(make: MakeCache, client: redis.Redis, change: str) -> None:
    """Without waiting for the store to tell."""
    cache, other = make(near=1 << 20), make()
    for _ in range(20):
        cache.set("key", "old")
        copied(cache, "key")
        CHANGES[change](cache, client)
        assert cache.get("key") == other.get("key") != "old"


@pytest.mark.parametrize(
    ("operation", "args", "keys"),
    [
        ("set", ("key", 1), ["key"]),
        ("set_many", ({"key": 1, "other": 2},), ["key", "other"]),
        ("add", ("new", 1), ["new"]),
        ("touch", ("key", 60), ["key"]),
        ("delete", ("key",), ["key"]),
        ("delete_many", (["key", "other"],), ["key", "other"]),
        ("incr", ("key",), ["key"]),
        ("get_or_set", ("new", lambda: 1), ["new"]),
    ],
)
def test_copies_go_before_and_after_an_own_change(
    make: MakeCache, monkeypatch: pytest.MonkeyPatch, operation: str, args: tuple[Any, ...], keys: list[str]
) -> None:
    """Before it for those who read meanwhile, and after it for those who began to; told or not."""
    cache = make(near=1 << 20)
    cache.set("key", 1)
    forgotten: list[tuple[str, ...]] = []
    monkeypatch.setattr(Near, "forget", lambda near, *names: forgotten.append(names))
    getattr(cache, operation)(*args)
    assert forgotten == [tuple(raw_name(cache, key) for key in keys)] * 2


def test_copies_of_a_cache_with_another_serializer_are_none(make: MakeCache) -> None:
    """Caches of one namespace share their copies; what one may not decode it asks for, and finds nothing."""
    pickles, data = make(near=1 << 20, serializer="pickle", allow_pickle=True), make(near=1 << 20)
    pickles.set("key", [1])
    copied(pickles, "key")
    assert data.get("key") is None
    data.set("key", [2])
    copied(data, "key")
    assert pickles.get("key") is None


def test_counting_is_never_behind(make: MakeCache) -> None:
    """Each number is read back at once."""
    cache = make(near=1 << 20)
    cache.set("key", 0)
    for number in range(1, 101):
        assert cache.incr("key") == number
        assert cache.get("key") == number


def test_copies_are_one_s_own(make: MakeCache) -> None:
    """What a caller does to a value it got, it does to that one."""
    cache = make(near=1 << 20)
    cache.set("key", [1])
    copied(cache, "key")
    cache.get("key").append(2)
    assert cache.get("key") == [1]


def test_a_copy_ends_with_its_value(own_server: StoreServer) -> None:
    """It knows its end, also when the store cannot say so any more."""
    cache = MillpondCache(own_server.url, {"OPTIONS": {"near": 1 << 20, "deadline": 0.1}})
    cache.set("key", [1])
    copied(cache, "key")
    cache.set("key", [2], 0.4)
    gone = time.monotonic() + 0.4
    while cache.get("key", [2]) == [2] and time.monotonic() < gone - 0.2:
        pass
    own_server.freeze()
    try:
        while time.monotonic() < gone + 0.01:
            time.sleep(0.01)
        while time.monotonic() < gone + 0.2:
            with pytest.raises(StoreUnavailable):
                cache.get("key")
    finally:
        own_server.thaw()


def test_parts_of_many_are_copies(make: MakeCache) -> None:
    """The rest is asked for; the order is that of the question."""
    cache = make(near=1 << 20)
    cache.set_many({"one": 1, "two": 2, "three": 3})
    copied(cache, "one", "three")
    assert list(cache.get_many(["one", "two", "none", "three"]).items()) == [("one", 1), ("two", 2), ("three", 3)]
