"""What the tests of near copies share: a tier wired to the test instead of a store, a reader, and patience."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import hiredis
import pytest
import redis

from cache_layer import line, near
from cache_layer.line import Line
from cache_layer.near import Near

PREFIX = "c:"
#: Bytes: room for everything a test keeps.
BUDGET = 1 << 22
LONG = 600.0


def until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Poll until something is true; fails saying what was not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.002)


@contextmanager
def started(url: str, *, max_staleness: float = 1.0, budget: int = BUDGET) -> Iterator[Near]:
    """A tier that is tracking."""
    tier = Near(url, [PREFIX], budget=budget, max_staleness=max_staleness)
    tier.start()
    try:
        until(lambda: tier.open, "tracking")
        yield tier
    finally:
        tier.stop()


def read(tier: Near, client: redis.Redis, name: str) -> bytes | None:
    """A value as a reader gets it: the copy, else that of the store, which is then kept."""
    found: bytes | None = tier.get(name)
    if found is not None:
        return found
    fetch = tier.fetch([name])
    value: bytes | None = client.get(name)  # type: ignore[assignment]
    if fetch is not None and value is not None:
        tier.keep(fetch, name, value, cost=len(value), until=time.monotonic() + LONG)
    return value


def copied(tier: Near, client: redis.Redis, name: str) -> None:
    """Read until a copy is here: the first reads after a write may be refused, for it is told of after its reply."""

    def here() -> bool:
        read(tier, client, name)
        return tier.get(name) is not None

    until(here, f"a copy of {name}")


class Clock:
    """Both clocks of the tier, which go when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        monkeypatch.setattr(line, "now", lambda: self.time)
        monkeypatch.setattr(near, "now", lambda: self.time)
        monkeypatch.setattr(near, "time", self)

    def monotonic(self) -> float:
        return self.time


class Wire:
    """The store's end of a tier's connection, in the test's hands; no thread listens at the other."""

    def __init__(self, tier: Near, line_class: type[Line] = Line) -> None:
        self.tier = tier
        if tier._tracking is None:
            tier._tracking = tier._new_tracking()
        here, there = socket.socketpair()
        self._here = here
        self.line = line_class(there, tier._told, since=line.now())
        with tier._lock:
            tier._tracking.adopt(self.line)

    def push(self, *names: str) -> None:
        """Tell that these changed."""
        words = b"".join(b"$%d\r\n%b\r\n" % (len(name), name.encode()) for name in names)
        self._here.sendall(b">2\r\n$10\r\ninvalidate\r\n*%d\r\n%b" % (len(names), words))

    def push_flush(self) -> None:
        self._here.sendall(b">2\r\n$10\r\ninvalidate\r\n_\r\n")

    def pong(self) -> None:
        self.send(b"+PONG\r\n")

    def send(self, text: bytes) -> None:
        self._here.sendall(text)

    def asked(self) -> Sequence[object]:
        """The commands that have arrived."""
        reader = hiredis.Reader()
        try:
            reader.feed(self._here.recv(65536, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return []
        found: list[object] = []
        while (command := reader.gets()) is not False:
            found.append(command)
        return found

    def start_over(self) -> None:
        """As if the connection had been made at this moment."""
        self.tier.clear()
        self.line.confirmed = self.line._asked = self.line._asked_before = line.now()
        self.line._answered = True

    def cut(self) -> None:
        """End the connection; the tier hears of it when it listens next."""
        self._here.close()

    def turn(self) -> None:
        """What the thread does whenever something arrives or a proof is due."""
        tracking = self.tier._tracking
        assert tracking is not None
        with self.tier._lock:
            if tracking._line is self.line:
                tracking._turn(self.line)

    def close(self) -> None:
        """Both ends; may be called twice."""
        self._here.close()
        self.line.close()
