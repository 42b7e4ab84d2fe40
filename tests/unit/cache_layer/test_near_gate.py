"""The gate of near copies: open only while everything up to `max_staleness` ago is proven to have been told."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cache_layer import line
from cache_layer.line import Line
from cache_layer.near import Near
from tests.support.near import BUDGET, LONG, PREFIX, Clock, Wire

NAME = "c:a"
#: Seconds; a proof is asked for every fourth of it.
BOUND = 4.0
PING = [b"PING"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def wire(clock: Clock) -> Iterator[Wire]:
    made = Wire(Near("redis://nowhere", [PREFIX], budget=BUDGET, max_staleness=BOUND))
    yield made
    made.close()


def copied(wire: Wire, clock: Clock, value: object = b"v") -> None:
    fetch = wire.tier.fetch([NAME])
    assert fetch is not None
    assert wire.tier.keep(fetch, NAME, value, cost=1, until=clock.time + LONG)


def later(wire: Wire, clock: Clock, seconds: float) -> None:
    clock.time += seconds
    wire.turn()


def test_without_a_proof_the_gate_closes_by_itself(wire: Wire, clock: Clock) -> None:
    """It opens with the connection and closes when the bound is over, with nobody doing anything."""
    copied(wire, clock)
    clock.time += BOUND
    assert wire.tier.open
    assert wire.tier.get(NAME) == b"v"
    clock.time += 0.001
    assert not wire.tier.open
    assert wire.tier.get(NAME) is None
    assert wire.tier.fetch([NAME]) is None


def test_a_proof_covers_what_was_before_the_one_before(wire: Wire, clock: Clock) -> None:
    """The store tells a change after the answers of the same turn: an answer alone does not cover its own question."""
    start = clock.time
    later(wire, clock, 1.0)
    assert wire.asked() == [PING]
    clock.time += 0.5
    wire.pong()
    later(wire, clock, 0.0)
    assert wire.line.confirmed == start
    later(wire, clock, 0.5)
    assert wire.asked() == [PING]
    wire.pong()
    later(wire, clock, 0.25)
    assert wire.line.confirmed == start + 1.0


def test_one_proof_is_asked_for_at_a_time(wire: Wire, clock: Clock) -> None:
    """Two questions in one turn of the store would be answered before what that turn has to tell."""
    later(wire, clock, 1.0)
    for _ in range(10):
        later(wire, clock, 1.0)
    assert wire.asked() == [PING]


def test_copies_outlive_a_closed_gate_on_the_same_connection(wire: Wire, clock: Clock) -> None:
    """A pause loses nothing: what was told is still told in order, so copies are good again when it is proven."""
    copied(wire, clock)
    later(wire, clock, 1.0)
    later(wire, clock, BOUND)
    assert wire.tier.get(NAME) is None
    for proven in (False, False, True):
        wire.pong()
        later(wire, clock, 1.0)
        assert wire.tier.open == proven
    assert wire.tier.get(NAME) == b"v"


def test_a_silent_connection_is_given_up(wire: Wire, clock: Clock) -> None:
    """A half-open connection looks healthy for ever; silence ends it, and its copies."""
    copied(wire, clock)
    later(wire, clock, 1.0)
    later(wire, clock, 4 * BOUND)
    assert wire.tier.mode == "tracking"
    later(wire, clock, 0.001)
    assert wire.tier.mode == "connecting"
    assert wire.tier.stats.entries == 0


def test_a_store_that_does_not_read_is_given_up(wire: Wire, clock: Clock) -> None:
    """A proof that cannot even be sent never waits."""
    with suppress(BlockingIOError):
        while True:
            wire.line._sock.send(b"x")
    later(wire, clock, 1.0)
    assert wire.tier.mode == "connecting"


@pytest.mark.parametrize("answer", [b"-ERR no\r\n", b"+OK\r\n", b"?\r\n"])
def test_any_other_answer_ends_the_connection(wire: Wire, clock: Clock, answer: bytes) -> None:
    """An error, an answer to nothing, or what is not the protocol at all."""
    copied(wire, clock)
    wire.send(answer)
    clock.time += 0.001
    assert wire.tier.get(NAME) is None
    assert wire.tier.mode == "connecting"


def test_messages_of_other_kinds_are_none_of_its_business(wire: Wire, clock: Clock) -> None:
    """Servers may push what nobody asked for."""
    copied(wire, clock)
    wire.send(b">2\r\n$5\r\nother\r\n*1\r\n$3\r\nc:a\r\n")
    clock.time += 0.001
    assert wire.tier.get(NAME) == b"v"


def test_a_flood_makes_readers_miss_not_wait_nor_lie(wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more waiting than is taken in at once nothing is given out, for the rest may be about it."""
    monkeypatch.setattr(line, "_CHUNK", 64)
    copied(wire, clock)
    for number in range(100):
        wire.push(f"c:other{number}")
    clock.time += 0.001
    assert wire.tier.get(NAME) is None
    assert wire.tier.stats.entries == 1
    for _ in range(20):
        wire.turn()
    clock.time += 0.001
    assert wire.tier.get(NAME) == b"v"


class Hasty(Line):
    """Believes that an answer covers everything before its own question."""

    def _take(self, message: object) -> None:
        super()._take(message)
        if message == "PONG":
            self.confirmed = self._asked


class Walk:
    """A store with turns, a network that delivers when it likes, one process with a copy; a random walk over both."""

    def __init__(self, clock: Clock, dice: random.Random, line_class: type[Line]) -> None:
        self.clock = clock
        self.tier = Near("redis://nowhere", [PREFIX], budget=BUDGET, max_staleness=BOUND)
        self.wire = Wire(self.tier, line_class)
        #: When each version came to be.
        self.versions = [clock.time]
        self.questions: deque[object] = deque()
        #: Of the store's turn that is going on: answers, and whether there is something to tell at its end.
        self.answers: list[bytes] = []
        self.changed = False
        self.network: deque[bytes] = deque()
        #: The longest time for which an outdated copy was given out after the change.
        self.lie = 0.0
        moves = [self.time_goes_by, self.write, self.answer, self.end_turn, self.deliver, self.read]
        weights = [dice.random() for _ in moves]
        for move in dice.choices(moves, weights, k=120):
            move()
            self.look()
        self.wire.close()

    def time_goes_by(self) -> None:
        self.clock.time += 0.5
        self.wire.turn()

    def write(self) -> None:
        self.versions.append(self.clock.time)
        self.changed = True

    def answer(self) -> None:
        self.questions += self.wire.asked()
        if self.questions:
            self.questions.popleft()
            self.answers.append(b"+PONG\r\n")

    def end_turn(self) -> None:
        self.network += self.answers
        if self.changed:
            self.network.append(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nc:a\r\n")
        self.answers, self.changed = [], False

    def deliver(self) -> None:
        if self.network and self.tier.mode == "tracking":
            self.wire.send(self.network.popleft())
            self.clock.time += 0.001
            self.wire.turn()

    def read(self) -> None:
        fetch = self.tier.fetch([NAME])
        if fetch is not None:
            self.tier.keep(fetch, NAME, len(self.versions), cost=1, until=self.clock.time + LONG)

    def look(self) -> None:
        found = self.tier.get(NAME)
        if found is not None and found < len(self.versions):
            self.lie = max(self.lie, self.clock.time - self.versions[found])


def lies(clock: Clock, line_class: type[Line]) -> list[float]:
    dice = random.Random(20)
    return [Walk(clock, dice, line_class).lie for _ in range(1500)]


def test_no_copy_is_given_out_longer_than_the_bound_after_a_change(clock: Clock) -> None:
    """Whatever the store's turns and the network do, in 1,500 random walks of 120 steps; the bound is made use of."""
    assert BOUND / 2 < max(lies(clock, Line)) <= BOUND


def test_an_answer_that_covers_its_own_question_would_break_the_bound(clock: Clock) -> None:
    """The same walks catch the hasty reading of a proof."""
    assert max(lies(clock, Hasty)) > BOUND
