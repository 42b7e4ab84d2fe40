"""Every operation of Django's cache is one round trip, counted on the wire; with a copy at hand, none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from asgi_app.cache_backend import MillpondCache
from tests.support.django_cache import MakeCache, until
from tests.support.store import StoreServer


class _Line:
    """One connection."""

    def __init__(self) -> None:
        self.answered = True
        #: It is the one that hears of changes; it asks for nothing.
        self.tracking = False


class Wire:
    """Between client and store: counts how often the direction changes from answer to request."""

    def __init__(self, path: Path, store: Path) -> None:
        self.url = f"unix://{path}"
        self.trips = 0
        self._store = store
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Cut everything and wait for the threads."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Any, *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self._store))
                with self._lock:
                    self._open += [near, far]
                line = _Line()
                self._start(self._carry, near, far, line, True)
                self._start(self._carry, far, near, line, False)

    def _carry(self, source: socket.socket, target: socket.socket, line: _Line, request: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    line.tracking |= b"TRACKING" in data
                    if request and line.answered and not line.tracking:
                        self.trips += 1
                    line.answered = not request
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(store_server: StoreServer, tmp_path: Path) -> Iterator[Wire]:
    made = Wire(tmp_path / "wire", store_server.socket)
    yield made
    made.close()


@pytest.fixture
def over(wire: Wire, make: MakeCache, namespace: str) -> Iterator[MillpondCache]:
    """A cache behind the wire."""
    cache = MillpondCache(wire.url, {"KEY_PREFIX": namespace, "OPTIONS": {"deadline": 10}})
    yield cache
    cache.delete("there")
    cache.clear()


#: What is done, and the round trips it takes; `there` has a value, `new` has none.
TRIPS: list[tuple[str, tuple[Any, ...], int]] = [
    ("get", ("there",), 1),
    ("get", ("new",), 1),
    ("get_many", (["there", "number", "new"],), 1),
    ("get_many", ([],), 0),
    ("has_key", ("there",), 1),
    ("set", ("there", [2]), 1),
    ("set", ("there", [2], None), 1),
    ("set_many", ({"there": 1, "new": 2},), 1),
    ("set_many", ({},), 0),
    ("add", ("new", 1), 1),
    ("add", ("there", 1), 1),
    ("touch", ("there", 5), 1),
    ("incr", ("number",), 1),
    ("decr", ("number",), 1),
    ("delete", ("there",), 1),
    ("delete", ("new",), 1),
    ("delete_many", (["there", "number"],), 1),
    ("clear", (), 1),
    ("get_or_set", ("there", lambda: 1), 1),
    ("get_or_set", ("new", 1), 2),
    ("get_or_set", ("new", lambda: 1), 3),
    ("incr_version", ("there",), 3),
]


@pytest.mark.parametrize(("operation", "args", "trips"), TRIPS)
def test_round_trips(operation: str, args: tuple[Any, ...], trips: int, over: MillpondCache, wire: Wire) -> None:
    """Of the blocking face."""
    over.set_many({"there": [1], "number": 7})  # opens the connection and loads the script
    wire.trips = 0
    getattr(over, operation)(*args)
    assert wire.trips == trips


@pytest.mark.parametrize(("operation", "args", "trips"), TRIPS)
async def test_round_trips_of_the_twin(
    operation: str, args: tuple[Any, ...], trips: int, over: MillpondCache, wire: Wire
) -> None:
    """Of the asynchronous face."""
    await over.aset_many({"there": [1], "number": 7})
    wire.trips = 0
    await getattr(over, f"a{operation}")(*args)
    assert wire.trips == trips


async def test_a_copy_at_hand_takes_none(make: MakeCache, wire: Wire, namespace: str) -> None:
    """A read is a copy or a round trip, never both, in both faces; and nearly all are copies."""
    cache = MillpondCache(wire.url, {"KEY_PREFIX": namespace, "OPTIONS": {"near": 1 << 20, "deadline": 10}})
    near = cache._near()
    assert near is not None
    await cache.aset("key", [1])
    cache.get("key")
    until(lambda: near.open, "changes are heard")  # what is said to arrange that would be counted too
    while near.stats.hits < 100:
        missed, wire.trips = near.stats.misses, 0
        assert cache.get("key") == [1]
        assert await cache.aget("key") == [1]
        assert await cache.aget_many(["key"]) == {"key": [1]}
        assert cache.get_or_set("key", lambda: 2) == [1]
        assert wire.trips == near.stats.misses - missed
