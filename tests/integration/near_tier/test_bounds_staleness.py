"""However the way to the store breaks, no copy is given out for longer than `max_staleness` after it was outdated.

The times compared here are no measurements: the bound follows from the protocol, on a machine of any speed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from cache_layer.near import Near
from tests.support.near import PREFIX, copied, read, started, until
from tests.support.proxy import DOWN, UP, Proxy
from tests.support.store import StoreServer

NAME = f"{PREFIX}name"
#: Seconds.
BOUND = 0.6


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def server(home: Path) -> Iterator[StoreServer]:
    """A store that may be killed."""
    made = StoreServer(home / "near.sock")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(server: StoreServer) -> Iterator[redis.Redis]:
    """Somebody who writes past the proxy, and knows nothing of near copies."""
    with redis.Redis.from_url(server.url) as made:
        yield made


@pytest.fixture
def front(server: StoreServer, home: Path) -> Iterator[Proxy]:
    with Proxy(server.socket, home / "front.sock") as made:
        yield made


@pytest.fixture
def tier(front: Proxy, client: redis.Redis) -> Iterator[Near]:
    """One with a copy of `old`."""
    with started(front.url, max_staleness=BOUND) as made:
        client.set(NAME, "old", px=60_000)
        copied(made, client, NAME)
        yield made


def last_given(tier: Near, over: Callable[[], object], what: str) -> float:
    """When the old value was given out last, asking until something is over."""
    last = 0.0

    def asked() -> bool:
        nonlocal last
        before = time.monotonic()
        if tier.get(NAME) == b"old":
            last = before
        return bool(over())

    until(asked, what)
    return last


FAULTS: dict[str, Callable[[Proxy], None]] = {
    "cut": Proxy.cut,
    "half open": Proxy.half_open,
    "nothing comes": lambda front: front.hold(DOWN),
    "nothing goes": lambda front: front.hold(UP),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_broken_connection_closes_the_gate(
    tier: Near, front: Proxy, client: redis.Redis, fault: Callable[[Proxy], None]
) -> None:
    """Cut, half open or held up: the old value is over within the bound, and after the repair the new one is there."""
    fault(front)
    client.set(NAME, "new", px=60_000)
    written = time.monotonic()
    assert last_given(tier, lambda: not tier.open, "the gate is closed") - written <= BOUND
    assert tier.get(NAME) is None
    assert tier.fetch([NAME]) is None
    assert read(tier, client, NAME) == b"new"
    front.heal()
    assert last_given(tier, lambda: tier.open, "tracking again") == 0.0
    copied(tier, client, NAME)
    assert tier.get(NAME) == b"new"


def test_a_half_open_connection_is_replaced(tier: Near, front: Proxy, client: redis.Redis) -> None:
    """Nobody closes it, at either end; silence is enough, and each new one that is as silent is given up too."""
    front.half_open()
    until(lambda: tier.mode == "connecting", "given up")
    front.heal()
    until(lambda: tier.open, "tracking again")
    copied(tier, client, NAME)


def test_late_news_closes_the_gate_in_time(tier: Near, front: Proxy, client: redis.Redis) -> None:
    """On a connection that carries everything, later than the bound allows, copies are not given out meanwhile."""
    front.delay(DOWN, 2 * BOUND)
    told = tier.stats.pushes
    client.set(NAME, "new", px=60_000)
    written = time.monotonic()
    assert last_given(tier, lambda: tier.stats.pushes > told, "the change is told") - written <= BOUND
    assert read(tier, client, NAME) == b"new"


def test_a_lost_and_restarted_store_leaves_no_copy(tier: Near, server: StoreServer, client: redis.Redis) -> None:
    """What it held is gone, so copies are; when it is back with another value, that one is copied."""
    server.kill()
    killed = time.monotonic()
    assert last_given(tier, lambda: not tier.open, "the gate is closed") - killed <= BOUND
    server.start()
    client.set(NAME, "new", px=60_000)
    assert last_given(tier, lambda: tier.open, "tracking again") == 0.0
    copied(tier, client, NAME)
    assert tier.get(NAME) == b"new"


def test_a_frozen_store_closes_the_gate(tier: Near, server: StoreServer, client: redis.Redis) -> None:
    """It may have been replaced by another; if it was not, its copies are good again, for nothing has changed."""
    server.freeze()
    try:
        until(lambda: not tier.open, "the gate is closed")
        assert tier.get(NAME) is None
    finally:
        server.thaw()
    until(lambda: tier.open, "the gate is open")
    copied(tier, client, NAME)
    assert tier.get(NAME) == b"old"


def test_failover_to_an_older_replica_leaves_no_copy(tier: Near, front: Proxy, client: redis.Redis, home: Path) -> None:
    """The address comes to mean a server that missed the last writes: copies of what it does not have are gone."""
    replica = StoreServer(home / "older.sock")
    replica.start()
    try:
        with redis.Redis.from_url(replica.url) as there:
            there.set(NAME, "older", px=60_000)
            front.move(replica.socket)
            moved = time.monotonic()
            assert last_given(tier, lambda: tier.stats.flushes, "the connection is lost") - moved <= BOUND
            until(lambda: tier.open, "tracking again")
            copied(tier, there, NAME)
            assert tier.get(NAME) == b"older"
            there.set(NAME, "newer", px=60_000)
            until(lambda: tier.get(NAME) is None, "the new server tells")
    finally:
        replica.stop()


_READER = """
import sys, time, redis
from tests.support.near import copied, started
url, name, bound = sys.argv[1:]
with redis.Redis.from_url(url) as client, started(url, max_staleness=float(bound)) as tier:
    copied(tier, client, name)
    print("ready", flush=True)
    last, deadline = 0.0, time.monotonic() + 30
    while time.monotonic() < deadline:
        before = time.monotonic()
        found = tier.get(name)
        if found == b"old":
            last = before
        elif client.get(name) == b"new":
            break
    else:
        sys.exit("never saw the new value")
    print(last, flush=True)
"""


def test_a_process_that_slept_does_not_wake_with_old_copies(server: StoreServer, client: redis.Redis) -> None:
    """Stopped beyond the bound while the value changes, it gives out nothing old when it goes on."""
    client.set(NAME, "old", px=60_000)
    command = [sys.executable, "-c", _READER, server.url, NAME, str(BOUND)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            reader.send_signal(signal.SIGSTOP)
            client.set(NAME, "new", px=60_000)
            written = time.monotonic()
            until(lambda: time.monotonic() > written + BOUND, "the bound is over")
            reader.send_signal(signal.SIGCONT)
            assert float(reader.stdout.readline()) - written <= BOUND
        finally:
            reader.kill()
