"""Counting and ending connections."""

from __future__ import annotations

import asyncio

from asgi_app.access import Identity
from consumers import connections as module
from consumers.connections import Connections
from consumers.frames import Code
from tests.unit.consumers.stand_ins import PUBLIC, user


class One:
    def __init__(self, all_: Connections, *, leaves: bool = True) -> None:
        self.all = all_
        self.leaves = leaves
        self.drained = 0
        self.transport, self.stuck = "websocket", 0.0

    def close(self, code: Code) -> None:
        raise AssertionError(code)

    def renew(self, identity: Identity, *, judge: bool) -> None:
        raise AssertionError(identity)

    def drain(self) -> None:
        self.drained += 1
        if self.leaves:
            self.all.release(self)


def test_no_more_than_the_limit() -> None:
    """A released one makes room."""
    all_ = Connections(2, 9)
    first, second, third = (One(all_) for _ in range(3))
    assert all_.admit(first)
    assert all_.admit(second)
    assert not all_.admit(third)
    all_.release(first)
    all_.release(first)
    assert all_.admit(third)
    assert len(all_) == 2


def test_no_more_than_the_limit_of_a_principal() -> None:
    """The public has none of its own."""
    all_ = Connections(100, 2)
    ones = [One(all_) for _ in range(8)]
    assert all(all_.admit(one) for one in ones)
    ada = user("ada")
    assert [all_.identify(one, ada) for one in ones[:3]] == [True, True, False]
    assert all_.identify(ones[3], user("bob"))
    assert all(all_.identify(one, PUBLIC) for one in ones[4:])
    all_.release(ones[2])
    assert not all_.identify(ones[4], ada)
    all_.release(ones[0])
    assert all_.identify(ones[4], ada)


async def test_draining_ends_all_in_batches_and_admits_nobody() -> None:
    """Each is told once."""
    all_ = Connections(1000, 9)
    ones = [One(all_) for _ in range(2 * module._BATCH + 1)]
    assert all(all_.admit(one) for one in ones)
    draining = asyncio.create_task(all_.drain(within=0.5))
    await asyncio.sleep(0)
    assert sum(one.drained for one in ones) == module._BATCH
    assert not all_.admit(One(all_))
    await draining
    assert [one.drained for one in ones] == [1] * len(ones)


async def test_draining_does_not_wait_for_ever() -> None:
    """A connection that does not end is left to the server."""
    all_ = Connections(10, 9)
    stays = One(all_, leaves=False)
    all_.admit(stays)
    async with asyncio.timeout(2):
        await all_.drain(within=0.05)
    assert stays.drained == 1
