"""Whatever changes a key in the store, by whomever and however, ends the copies that were read from it."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from cache_layer.near import Near
from tests.support import proxy
from tests.support.near import LONG, PREFIX, copied, read, started, until
from tests.support.proxy import Proxy
from tests.support.store import StoreServer

NAME, OTHER, END = f"{PREFIX}name", f"{PREFIX}other", f"{PREFIX}end"
CERTIFICATE = Path(proxy.__file__).with_suffix(".pem")


@pytest.fixture
def client(server: StoreServer) -> Iterator[redis.Redis]:
    """Somebody who knows nothing of near copies."""
    with redis.Redis.from_url(server.url) as made:
        made.flushall()
        yield made


def everything_was_told(tier: Near, client: redis.Redis) -> None:
    """What the store tells comes in order: so this change is told after all before it."""
    client.set(END, "1", px=60_000)
    copied(tier, client, END)
    client.set(END, "2", px=60_000)
    until(lambda: tier.get(END) is None, "the last change is told")


def transaction(client: redis.Redis) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.set(NAME, "new", px=60_000)
        pipe.execute()


def expiry(client: redis.Redis) -> None:
    client.pexpire(NAME, 1)
    until(lambda: not client.exists(NAME), "it has expired")


CHANGES: dict[str, Callable[[redis.Redis], object]] = {
    "set": lambda client: client.set(NAME, "new", px=60_000),
    "set to the same": lambda client: client.set(NAME, "old", px=60_000),
    "append": lambda client: client.append(NAME, "er"),
    "delete": lambda client: client.delete(NAME),
    "unlink": lambda client: client.unlink(NAME),
    "rename": lambda client: client.rename(NAME, OTHER),
    "rename onto": lambda client: (client.set(OTHER, "new", px=60_000), client.rename(OTHER, NAME)),
    "copy onto": lambda client: (client.set(OTHER, "new", px=60_000), client.copy(OTHER, NAME, replace=True)),
    "script": lambda client: client.eval("redis.call('SET', KEYS[1], 'new', 'PX', 60000)", 1, NAME),
    "transaction": transaction,
    "expiry": expiry,
    "move": lambda client: client.move(NAME, 5),
    "flush": lambda client: client.flushdb(),
    "flush of everything": lambda client: client.flushall(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_ends_the_copy(
    server: StoreServer, client: redis.Redis, change: Callable[[redis.Redis], object]
) -> None:
    """The copy is gone soon, and read again it is what the store has."""
    with started(server.url) as tier:
        client.set(NAME, "old", px=60_000)
        copied(tier, client, NAME)
        change(client)
        until(lambda: tier.get(NAME) is None, "the copy is gone")
        assert read(tier, client, NAME) == client.get(NAME)


def test_a_key_that_ends_by_itself_ends_its_copy(server: StoreServer, client: redis.Redis) -> None:
    """Even if the reader thought it would live longer."""
    with started(server.url) as tier:
        client.set(NAME, "old", px=300)
        copied(tier, client, NAME)
        until(lambda: tier.get(NAME) is None, "the copy is gone")
        assert client.get(NAME) is None


def test_eviction_ends_the_copy(server: StoreServer, client: redis.Redis) -> None:
    """What the store threw out for want of memory is not here either."""
    with started(server.url) as tier:
        client.set(NAME, "old", px=60_000)
        copied(tier, client, NAME)
        before: Any = client.config_get("maxmemory", "maxmemory-policy")
        used: int = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 1024 * 1024, "maxmemory-policy", "allkeys-random")
        try:
            for number in range(10_000):
                client.set(f"filler:{number}", "x" * 10_000, px=60_000)
                if number % 50 == 0 and not client.exists(NAME):
                    break
            assert not client.exists(NAME)
            until(lambda: tier.get(NAME) is None, "the copy is gone")
        finally:
            for setting, value in before.items():
                client.config_set(setting, value)


def test_other_names_and_other_databases_end_nothing_for_long(server: StoreServer, client: redis.Redis) -> None:
    """Writes elsewhere leave a copy alone; the flush of another database may cost it, and the next read has it back."""
    with started(server.url) as tier, redis.Redis.from_url(server.url.replace("db=0", "db=3")) as elsewhere:
        client.set(NAME, "old", px=60_000)
        copied(tier, client, NAME)
        client.set(f"{NAME}-not", "x", px=60_000)
        client.set(f"unwatched:{NAME}", "x", px=60_000)
        everything_was_told(tier, client)
        assert tier.get(NAME) == b"old"
        elsewhere.flushdb()
        everything_was_told(tier, client)
        assert read(tier, client, NAME) == b"old"
        copied(tier, client, NAME)


def test_any_database_is_watched(server: StoreServer) -> None:
    """The tier of a deployment that lives in another database than the first."""
    url = server.url.replace("db=0", "db=3")
    with redis.Redis.from_url(url) as client, started(url) as tier:
        for change in (lambda: client.set(NAME, "new", px=60_000), client.flushdb):
            client.set(NAME, "old", px=60_000)
            copied(tier, client, NAME)
            change()
            until(lambda: tier.get(NAME) is None, "the copy is gone")


def test_a_hammering_writer_leaves_no_stale_copy(server: StoreServer, client: redis.Redis) -> None:
    """300 keys are written all the time while threads and an event loop read them; in the end all copies are true."""
    names = [f"{PREFIX}{number}" for number in range(300)]
    over = threading.Event()

    def reader() -> None:
        with redis.Redis.from_url(server.url) as own:
            while not over.is_set():
                for name in names:
                    read(tier, own, name)

    async def reading_loop() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as own:
            while not over.is_set():
                for name in names:
                    if tier.get(name) is None:
                        fetch = tier.fetch([name])
                        value = await own.get(name)
                        if fetch is not None and value is not None:
                            tier.keep(fetch, name, value, cost=len(value), until=time.monotonic() + LONG)
                await asyncio.sleep(0)

    with started(server.url) as tier:
        works = [reader, reader, lambda: asyncio.run(reading_loop())]
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        try:
            for turn in range(20):
                for name in names:
                    client.set(name, f"{turn}", px=60_000)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        everything_was_told(tier, client)
        copies = {name: tier.get(name) for name in names}
        stored = dict(zip(names, client.mget(names), strict=True))
        assert [name for name in names if copies[name] not in (None, stored[name])] == []
        assert tier.stats.kept > 300
        assert tier.stats.refused_by_token > 0


def test_stopping_waits_for_nothing(server: StoreServer, client: redis.Redis) -> None:
    """The thread is gone when `stop` returns, though its next turn would be long after; and it may begin again."""
    with started(server.url, max_staleness=10 * LONG) as tier:
        for _ in range(2):
            client.set(NAME, "old", px=60_000)
            copied(tier, client, NAME)
            tier.stop()
            assert "near" not in [thread.name for thread in threading.enumerate()]
            assert tier.get(NAME) is None
            tier.start()
            until(lambda: tier.open, "tracking")


def test_it_works_through_tls(server: StoreServer, client: redis.Redis) -> None:
    """Encrypted, what has arrived is looked at before a hit just as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with Proxy(server.socket, tls=context) as front, started(f"{front.url}?ssl_ca_certs={CERTIFICATE}") as tier:
        for _ in range(20):
            client.set(NAME, "old", px=60_000)
            copied(tier, client, NAME)
            client.set(NAME, "new", px=60_000)
            until(lambda: tier.get(NAME) is None, "the copy is gone")
        # more than one record of the encryption, and more than one go, at once
        client.mset({f"{PREFIX}{number:0500}": "1" for number in range(200)})
        everything_was_told(tier, client)
        assert tier.stats.pushes >= 200
        client.flushdb()
