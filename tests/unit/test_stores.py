"""Values in one of Django's caches, each with its versions: what is outdated, lost, foreign, refused is not served."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from msgspec import structs

from asgi_app import stores
from asgi_app.env import SettingsError
from asgi_app.environment import readers
from asgi_app.stores.brief import briefly
from asgi_app.stores.django_cache import DjangoCache
from asgi_app.stores.raw import TooLarge
from asgi_app.stores.versioned import Put, Right, Versioned
from cache_layer.errors import StoreUnavailable
from cache_layer.freshness import Policy
from cache_layer.keys import Key
from cache_layer.outdated import EVERYTHING, Outdated, of_keys, of_tags
from tests.support.keys import key

KEY = key(tags=("sales", "region"), fresh=10, stale=20, stale_if_error=30)
OTHER = key("sales.weekly", tags=("sales",))
KINDS = {"tag": of_tags("sales"), "key": of_keys(KEY), "everything": EVERYTHING}
_numbers = itertools.count()


@pytest.fixture
def cache() -> Iterator[BaseCache]:
    """A cache in memory of the test's own."""
    made = LocMemCache(f"unit {next(_numbers)}", {"TIMEOUT": None})
    yield made
    made.clear()


@pytest.fixture
def files(tmp_path: Path) -> BaseCache:
    """A cache in files of the test's own."""
    return FileBasedCache(str(tmp_path / "cache"), {"TIMEOUT": None})


@pytest.fixture
def values() -> Versioned:
    return Versioned("unit")


def put(values: Versioned, cache: BaseCache, what: Key, payload: bytes, **more: Any) -> Put:
    """Store a value as if it had been computed under these versions, by default the current ones."""
    versions = more.pop("versions", None) or values.capture(cache, what)
    return values.put(cache, what, payload, versions=versions, compute_seconds=0.1, computed_at=1.0, luck=0.5, **more)


def shown(values: Versioned, cache: BaseCache, what: Key = KEY) -> bytes | None:
    """The payload a reader would be served."""
    entry = values.look(cache, what).entry
    return entry.payload if entry is not None else None


def test_a_value_is_found_with_age_and_position(values: Versioned, cache: BaseCache) -> None:
    """What was stored is read back with its freshness."""
    done = put(values, cache, KEY, b'{"n":1}')
    found = values.look(cache, KEY)
    assert found.entry is not None
    assert (found.entry.payload, found.entry.position, found.nonce) == (b'{"n":1}', done.position, done.nonce)
    assert (found.entry.fresh, found.entry.life, found.softened) == (10, 40, False)
    assert 0 <= found.age < 5


def test_equal_bytes_keep_the_position(values: Versioned, cache: BaseCache) -> None:
    """Other bytes get the next one, and the position outlives the entry."""
    first, again, other = (put(values, cache, KEY, payload).position for payload in (b"1", b"1", b"2"))
    assert first == again == structs.replace(other, offset=1)
    assert other.offset == 2
    values.outdate(cache, of_keys(KEY))
    assert values.position(cache, KEY) == other
    assert put(values, cache, KEY, b"3").position == structs.replace(other, offset=3)


def test_a_position_known_elsewhere_is_continued(values: Versioned, cache: BaseCache) -> None:
    """Where none is known here."""
    assert str(put(values, cache, KEY, b"1", known=b"abcd1234 7 other").position) == "abcd1234-8"
    assert str(put(values, cache, KEY, b"2", known=b"ffff0000 1 other").position) == "abcd1234-9"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_outdated_is_not_served(values: Versioned, cache: BaseCache, kind: str) -> None:
    """By tag, by key, all: and only what it is about."""
    put(values, cache, KEY, b"1")
    put(values, cache, OTHER, b"2")
    values.outdate(cache, KINDS[kind])
    assert shown(values, cache) is None
    assert shown(values, cache, OTHER) == (b"2" if kind == "key" else None)
    put(values, cache, KEY, b"3")
    assert shown(values, cache) == b"3"


@pytest.mark.parametrize("kind", KINDS)
def test_a_softly_outdated_value_is_there_and_says_so(values: Versioned, cache: BaseCache, kind: str) -> None:
    """A soft invalidation after a hard one, or before, undoes nothing."""
    put(values, cache, KEY, b"1")
    values.outdate(cache, replace(KINDS[kind], soft=True))
    assert values.look(cache, KEY).softened
    assert shown(values, cache) == b"1"
    values.outdate(cache, KINDS[kind])
    values.outdate(cache, replace(KINDS[kind], soft=True))
    assert shown(values, cache) is None
    put(values, cache, KEY, b"2")
    assert not values.look(cache, KEY).softened


@pytest.mark.parametrize("kind", KINDS)
def test_no_order_of_steps_serves_an_old_value(cache: BaseCache, kind: str) -> None:
    """Two computations and one change of the data, in all 560 orders of their steps, a reader after each."""
    orders = set(itertools.permutations("aaabbbww"))
    for number, order in enumerate(orders):
        values = Versioned(f"order {number}")
        steps = {"a": _computation(values, cache), "b": _computation(values, cache), "w": _change(values, cache, kind)}
        origin = {"value": b"old", "done": b""}
        for who in order:
            next(steps[who])(origin)
            if origin["done"]:
                assert shown(values, cache) != b"old", order
    assert len(orders) == 560


Step = Callable[[dict[str, bytes]], None]


def _computation(values: Versioned, cache: BaseCache) -> Iterator[Step]:
    state: dict[str, Any] = {}
    yield lambda origin: state.update(versions=values.capture(cache, KEY))
    yield lambda origin: state.update(payload=origin["value"])
    yield lambda origin: state.update(done=put(values, cache, KEY, state["payload"], versions=state["versions"]))


def _change(values: Versioned, cache: BaseCache, kind: str) -> Iterator[Step]:
    def outdate(origin: dict[str, bytes]) -> None:
        values.outdate(cache, KINDS[kind])
        origin["done"] = b"1"

    yield lambda origin: origin.update(value=b"new")
    yield outdate


def test_a_late_write_serves_nothing_old(values: Versioned, cache: BaseCache) -> None:
    """An entry whose versions were current when they were compared, and were not any more when it was written."""
    versions = values.capture(cache, KEY)
    put(values, cache, KEY, b"1")
    entry = values.look(cache, KEY).entry
    assert entry is not None
    values.outdate(cache, of_tags("region"))
    values.keep(cache, KEY, structs.replace(entry, tag_versions=versions))
    assert shown(values, cache) is None


def test_whatever_is_lost_nothing_old_is_served(values: Versioned, cache: BaseCache) -> None:
    """A full cache may drop any name: a version that comes back is another one."""
    put(values, cache, KEY, b"1")
    kept = dict(getattr(cache, "_cache"))  # noqa: B009  (what the back end holds, by its own names)
    names = [name.removeprefix(":1:") for name in kept]
    assert {name.split(":")[1] for name in names} == {"e", "v", "p"}
    for name in names:
        put(values, cache, KEY, b"1")
        before = values.capture(cache, KEY)
        cache.delete(name)
        if ":v:" in name:
            assert shown(values, cache) is None
            assert put(values, cache, KEY, b"2", versions=before).what == "superseded"
    assert all(len(name) <= 250 and re.fullmatch(r"[\x21-\x7e]+", name) for name in names)
    assert sorted(names)[0].startswith("millpond:e:")


@pytest.mark.parametrize("content", [b"", b"\x80", b"cno_such_module\nname\n.", b"garbage" * 100])
def test_foreign_bytes_are_misses_and_go(values: Versioned, files: BaseCache, tmp_path: Path, content: bytes) -> None:
    """Files somebody damaged raise nothing, and the key works again."""
    put(values, files, KEY, b"1")
    values.begin(files, KEY, seen=b"", token="one", lease=5.0, force=True)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(content)
    assert shown(values, files) is None
    assert values.begin(files, KEY, seen=b"", token="two", lease=5.0, force=False).what == "begun"
    put(values, files, KEY, b"2")
    assert shown(values, files) == b"2"


@pytest.mark.parametrize("foreign", [b"short", b"x" * 300, "text", {"a": 1}, 7])
def test_foreign_values_are_misses(values: Versioned, cache: BaseCache, foreign: object) -> None:
    """So are values of another program, under any name."""
    put(values, cache, KEY, b"1")
    for name in [name.removeprefix(":1:") for name in dict(getattr(cache, "_cache"))]:  # noqa: B009
        cache.set(name, foreign, None)
    assert shown(values, cache) is None
    put(values, cache, KEY, b"2")
    assert shown(values, cache) == b"2"


def test_an_entry_of_another_key_or_signature_is_none(cache: BaseCache) -> None:
    """With a secret only what is signed with it is served."""
    signed, other = Versioned("unit", b"secret"), Versioned("unit", b"another")
    put(signed, cache, KEY, b"1")
    assert (shown(signed, cache), shown(other, cache)) == (b"1", None)
    put(Versioned("unit"), cache, KEY, b"2")
    assert shown(signed, cache) is None


def test_one_at_a_time_may_compute(values: Versioned, cache: BaseCache) -> None:
    """The lease is one's own until it is let go; it is safe to ask twice."""

    def begin(token: str, seen: bytes = b"", force: bool = False) -> Right:
        return values.begin(cache, KEY, seen=seen, token=token, lease=5.0, force=force)

    first = begin("one")
    assert (first.what, first.new, begin("one").what, begin("two").what) == ("begun", True, "begun", "busy")
    assert not values.hold(cache, KEY, "two", 0)
    assert values.hold(cache, KEY, "one", 5.0)
    done = put(values, cache, KEY, b"1", versions=first.versions, holder="one")
    assert values.hold(cache, KEY, "one", 0)
    assert not values.hold(cache, KEY, "one", 5.0)
    assert begin("two").what == "hit"
    assert begin("two", seen=done.nonce).what == "begun"
    assert put(values, cache, KEY, b"2", holder="one").what == "revoked"
    assert begin("two", force=True).new is False


class Deaf(LocMemCache):
    """A cache that loses writes without a word, as the database back end does when its server refuses."""

    deaf = False

    def set(self, *args: Any, **kwargs: Any) -> None:
        if not self.deaf:
            super().set(*args, **kwargs)


def test_an_invalidation_that_was_not_written_is_an_error(values: Versioned) -> None:
    """Nobody is told that nothing old is served while the old version stands."""
    cache = Deaf(f"unit {next(_numbers)}", {"TIMEOUT": None})
    put(values, cache, KEY, b"1")
    cache.deaf = True
    with pytest.raises(StoreUnavailable, match="kept the versions"):
        values.outdate(cache, of_tags("sales"))
    assert shown(values, cache) == b"1"


def test_a_large_value_that_was_not_written_is_an_error(values: Versioned) -> None:
    """A cache that takes no value of that size would have it computed for ever."""
    cache = Deaf(f"unit {next(_numbers)}", {"TIMEOUT": None})
    versions = values.capture(cache, KEY)
    cache.deaf = True
    large = random.Random(1).randbytes(600_000).hex().encode()
    with pytest.raises(TooLarge):
        put(values, cache, KEY, b'"%b"' % large, versions=versions)


class Hanging(FileBasedCache):
    """A cache that answers when it is let."""

    gate = threading.Event()

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self.gate.wait(20)
        return super().get(*args, **kwargs)


async def test_a_cache_that_hangs_holds_nobody_up(settings: Any, tmp_path: Path) -> None:
    """The caller has its answer within the deadline, the loop runs on, and after a while nobody even asks."""
    settings.CACHES = {"hanging": {"BACKEND": f"{__name__}.Hanging", "LOCATION": str(tmp_path / "cache")}}
    cache = DjangoCache("hanging", deadline=0.05)
    assert not cache.private
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    turning = asyncio.create_task(turn())
    try:
        for _ in range(6):
            with pytest.raises(StoreUnavailable):
                await cache.run(lambda held: held.get("a"))
        assert turns > 10
        with pytest.raises(StoreUnavailable, match="is away"):
            await cache.run(lambda held: held.get("a"))
    finally:
        turning.cancel()
        Hanging.gate.set()
        cache.close()


def test_only_known_caches_keep_values(settings: Any) -> None:
    """Those of the settings, one's own among them; not the one that Millpond keeps itself."""
    ours = {"BACKEND": "asgi_app.cache_backend.MillpondCache"}
    mine = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings.CACHES = {**django_settings.CACHES, "default": ours, "mine": mine}
    for alias in ("redis", "locmem", "file", "database", "dummy", "mine"):
        stores.check(alias)
    with pytest.raises(SettingsError, match="is itself kept by Millpond"):
        stores.check("default")
    with pytest.raises(SettingsError, match="must be redis or one of .*: database, dummy, file, locmem, .*mine"):
        stores.check("elsewhere")
    settings.CACHES = {"default": mine}
    with pytest.raises(SettingsError, match=r"pip install 'millpond\[memcached\]'"):
        stores.check("memcached")


@pytest.mark.parametrize("text", ["10.0.0.5:11211", "cache.example.org:1,[::1]:65535", "unix:/run/memcached.sock"])
def test_servers_of_memcached(text: str) -> None:
    """Each as its client wants it."""
    assert readers.memcached(text) == tuple(text.split(","))


@pytest.mark.parametrize("text", ["", "localhost", "a:0", "a:65536", "a:b", "unix:run", "unix:/", "*:1", "http://a:1"])
def test_what_is_no_server_of_memcached(text: str) -> None:
    """Is refused with what is allowed."""
    with pytest.raises(ValueError, match="host:port or unix:/path"):
        readers.memcached(text)


def test_a_brief_policy_lives_briefly_and_is_fresh_as_before() -> None:
    """And never longer than the policy itself."""
    policy = Policy(fresh=30.0, stale=5.0, stale_if_error=0.0, negative_ttl=2.0)
    assert briefly(policy, 10.0).life == 10.0
    assert briefly(policy, 100.0).life == policy.life
    assert briefly(policy, 10.0).fresh_for(b"1", 0.7) == policy.fresh_for(b"1", 0.7)
    assert briefly(policy, 10.0).fresh_for(b"null", 0.5) == 2.0


def test_an_invalidation_names_what_it_is_about(values: Versioned, cache: BaseCache) -> None:
    """A tag is not mistaken for a key or for everything, whatever it is called."""
    put(values, cache, KEY, b"1")
    values.outdate(cache, Outdated(tags=frozenset({"all", "key", KEY.name, KEY.digest, "tag"})))
    assert shown(values, cache) == b"1"
