"""Every order in which readers, writers and the telling of changes can meet, played against the real tier.

A small explorer plays all executions of a world from the beginning, one after the other: at each step it asks which
moves are possible and takes the next one that was not yet taken there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial

import pytest

from cache_layer.near import Fetch, Near
from tests.support.near import BUDGET, LONG, PREFIX, Clock, Wire

ENTRY, TAG = "c:entry", "c:tag"
FLUSH = "flush"
#: Seconds a step takes: more than the pause between two looks into the socket.
STEP = 0.001

Move = Callable[[], None]


class Reader:
    """Looks for a copy; without one reads from the store, and keeps what it got."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fetch: Fetch | None = None
        self.value: tuple[int, int] | None = None
        self.next: Move | None = self.look

    def look(self) -> None:
        if self.world.tier.get(ENTRY) is not None:
            self.next = None
            return
        self.fetch = self.world.tier.fetch([ENTRY, TAG])
        self.next = self.read

    def read(self) -> None:
        self.value = self.world.stored
        self.next = self.keep

    def keep(self) -> None:
        fetch = self.fetch if self.world.tokens else self.world.tier.fetch([ENTRY, TAG])
        if fetch is not None:
            self.world.tier.keep(fetch, ENTRY, self.value, cost=10, until=self.world.clock.time + LONG)
        self.next = None


class World:
    """A store, what it still has to tell, and one process with two readers."""

    def __init__(self, wire: Wire, clock: Clock, plans: Sequence[Sequence[str]], *, tokens: bool) -> None:
        self.clock = clock
        self.tokens = tokens
        self.wire = wire
        self.tier = wire.tier
        self.kept_before = self.tier.stats.kept
        self.connected = True
        #: Versions of the entry and of the tag it was computed under; a flush counts as a change of both.
        self.stored = (0, 0)
        self.untold: deque[str] = deque()
        self.readers = [Reader(self), Reader(self)]
        #: What others do, each plan in its order.
        self.plans = [deque(plan) for plan in plans]
        self.stale = False

    def play(self, prefix: Sequence[int]) -> list[tuple[int, int]]:
        """Take these moves, then always the first, to the end; what was taken at each step, and out of how many."""
        taken: list[tuple[int, int]] = []
        while moves := self.moves():
            choice = prefix[len(taken)] if len(taken) < len(prefix) else 0
            taken.append((choice, len(moves)))
            self.take(moves[choice])
        return taken

    def moves(self) -> list[Move]:
        """What can happen next."""
        found = [reader.next for reader in self.readers if reader.next is not None]
        found += [partial(self.proceed, plan) for plan in self.plans if plan]
        if self.connected and self.untold:
            found.append(self.tell)
        return found

    def take(self, move: Move) -> None:
        self.clock.time += STEP
        move()
        if self.connected and not self.untold:  # everything was told: a copy is what the store has
            self.clock.time += STEP
            found = self.tier.get(ENTRY)
            self.stale = self.stale or found not in (None, self.stored)

    def proceed(self, plan: deque[str]) -> None:
        getattr(self, plan.popleft())()

    def tell(self) -> None:
        name = self.untold.popleft()
        if name is FLUSH:
            self.wire.push_flush()
        else:
            self.wire.push(name)
        self.wire.turn()

    def write_entry(self) -> None:
        self.stored = (self.stored[0] + 1, self.stored[1])
        self.change(ENTRY)

    def write_tag(self) -> None:
        self.stored = (self.stored[0], self.stored[1] + 1)
        self.change(TAG)

    def flush(self) -> None:
        self.stored = (self.stored[0] + 1, self.stored[1] + 1)
        self.change(FLUSH)

    def forget(self) -> None:
        self.tier.forget(ENTRY)

    def lose(self) -> None:
        """The store's end: what was not told never will be."""
        self.connected = False
        self.untold.clear()

    def notice(self) -> None:
        self.wire.cut()
        self.wire.turn()

    def regain(self) -> None:
        self.wire.close()
        self.wire = Wire(self.tier)
        self.connected = True

    def change(self, name: str) -> None:
        if self.connected:
            self.untold.append(name)

    @property
    def kept(self) -> bool:
        return self.tier.stats.kept > self.kept_before


def executions(clock: Clock, plans: Sequence[Sequence[str]], *, tokens: bool) -> Generator[World, None, None]:
    """Every execution, as a world that has come to its end.  They share a tier, which is emptied between them."""
    wire = Wire(Near("redis://nowhere", [PREFIX], budget=BUDGET))
    prefix: list[int] = []
    try:
        while True:
            wire.start_over()
            world = World(wire, clock, plans, tokens=tokens)
            taken = world.play(prefix)
            wire = world.wire
            yield world
            while taken and taken[-1][0] + 1 == taken[-1][1]:
                taken.pop()
            if not taken:
                return
            prefix = [choice for choice, _ in taken]
            prefix[-1] += 1
    finally:
        wire.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


PLANS: dict[str, tuple[tuple[str, ...], ...]] = {
    "the entry changes twice": (("write_entry", "write_entry"),),
    "the entry and its tag change": (("write_entry", "write_tag"),),
    "two writers": (("write_entry",), ("write_tag",)),
    "this process writes": (("forget", "write_entry", "forget"),),
    "the store is flushed": (("write_entry", "flush"),),
    "the connection is lost": (("lose", "notice", "regain"), ("write_entry",)),
}


@pytest.mark.parametrize("plans", PLANS.values(), ids=PLANS.keys())
def test_no_order_of_events_leaves_a_stale_copy(
    clock: Clock, plans: Sequence[Sequence[str]], record_property: Callable[[str, object], None]
) -> None:
    """Whenever everything was told there is no copy, or it is what the store has; and copies are kept at all."""
    total = kept = 0
    for world in executions(clock, plans, tokens=True):
        total += 1
        kept += world.kept
        assert not world.stale
    record_property("executions", total)
    print(f"{total} executions, {kept} of them kept a copy")
    assert total > 5000
    assert kept > total / 4


@pytest.mark.parametrize("plans", PLANS.values(), ids=PLANS.keys())
def test_without_tokens_copies_go_stale(clock: Clock, plans: Sequence[Sequence[str]]) -> None:
    """The same readers, registering only when they keep, are caught by the same explorer in every plan."""
    worlds = executions(clock, plans, tokens=False)
    assert any(world.stale for world in worlds)
    worlds.close()
