"""A crowd of websockets counts what it loses, and waits for nobody who cannot get it any more."""

from __future__ import annotations

import pytest

from tests.benchmarks import crowd
from tests.benchmarks.crowd import Crowd, Watcher


def _crowd(count: int) -> Crowd:
    made = Crowd()
    made.sockets = {Watcher(made, b"", b"") for _ in range(count)}
    return made


async def test_a_message_that_comes_twice_counts_once() -> None:
    some = _crowd(2)
    first, second = some.sockets

    async def publish() -> None:
        for socket in (first, first, second):
            some.arrived(socket)

    told = await some.tell(publish)

    assert (len(told.arrivals), told.lost) == (2, 0)


async def test_who_ends_before_a_message_has_lost_it_and_is_not_waited_for() -> None:
    some = _crowd(3)
    early, late, other = some.sockets

    async def publish() -> None:
        early.connection_lost(None)
        some.arrived(late)
        late.connection_lost(None)
        some.arrived(other)

    told = await some.tell(publish)

    assert (len(told.arrivals), told.lost) == (2, 1)
    assert some.sockets == {other}


async def test_what_does_not_come_in_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "_REACH", 0.05)
    monkeypatch.setattr(crowd, "_QUIET", 0.01)
    some = _crowd(2)
    got, _ = some.sockets

    async def publish() -> None:
        some.arrived(got)

    told = await some.tell(publish)

    assert (len(told.arrivals), told.lost) == (1, 1)
