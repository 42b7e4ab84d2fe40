"""Copies in this process: kept only while nothing was told of what they were read from, within a budget of bytes."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cache_layer import line, near, tracking
from cache_layer.cache import Found
from cache_layer.codec import Entry
from cache_layer.near import Near
from cache_layer.position import Position
from cache_layer.shelf import OVERHEAD, Copy, Fetch, Shelf
from tests.support.near import BUDGET, LONG, PREFIX, Clock, Wire, until

STEP = 0.001


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def wire(clock: Clock) -> Iterator[Wire]:
    made = Wire(Near("redis://nowhere", [PREFIX], budget=BUDGET))
    yield made
    made.close()


def keep(tier: Near, name: str, *others: str, value: Any = b"v", cost: int = 1, seconds: float = LONG) -> bool:
    """Fetch and keep a value under the first of the names it depends on."""
    fetch = tier.fetch([name, *others])
    assert fetch is not None
    return tier.keep(fetch, name, value, cost=cost, until=line.now() + seconds)


def told(wire: Wire, clock: Clock, *names: str) -> None:
    wire.push(*names)
    clock.time += STEP
    wire.turn()


def test_a_copy_is_given_out_again_and_again(wire: Wire) -> None:
    """What was kept is there for everyone; what was not is not."""
    tier = wire.tier
    assert tier.get("c:a") is None
    assert keep(tier, "c:a", value=b"one")
    assert [tier.get("c:a"), tier.get("c:a"), tier.get("c:b")] == [b"one", b"one", None]
    assert (tier.stats.hits, tier.stats.misses, tier.stats.kept, tier.stats.entries) == (2, 2, 1, 1)
    assert tier.stats.bytes == OVERHEAD + 1


@pytest.mark.parametrize("name", ["c:a", "c:t:tag"])
def test_a_change_of_any_name_it_was_read_from_ends_a_copy(wire: Wire, clock: Clock, name: str) -> None:
    """The entry's own name or one of its tags; other names disturb nobody.  Its bytes are free again."""
    tier = wire.tier
    keep(tier, "c:a", "c:t:tag")
    told(wire, clock, "c:b", "c:t:other")
    assert tier.get("c:a") == b"v"
    told(wire, clock, "c:z", name)
    assert tier.stats.entries == (name != "c:a")  # those that depend on it go when they are asked for
    assert tier.get("c:a") is None
    assert (tier.stats.bytes, tier.stats.entries, tier.stats.pushes) == (0, 0, 4)


@pytest.mark.parametrize("name", ["c:a", "c:t:tag"])
def test_what_changed_while_it_was_read_is_not_kept(wire: Wire, clock: Clock, name: str) -> None:
    """A change that is told between the fetch and the keep; the next read is kept again."""
    tier = wire.tier
    fetch = tier.fetch(["c:a", "c:t:tag"])
    assert fetch is not None
    told(wire, clock, name)
    assert not tier.keep(fetch, "c:a", b"old", cost=1, until=clock.time + LONG)
    assert tier.get("c:a") is None
    assert tier.stats.refused_by_token == 1
    assert keep(tier, "c:a", "c:t:tag", value=b"new")
    assert tier.get("c:a") == b"new"


def test_what_has_arrived_counts_before_a_copy_is_given_out(wire: Wire, clock: Clock) -> None:
    """Without any turn of the thread: who asks looks into the socket first."""
    keep(wire.tier, "c:a")
    wire.push("c:a")
    clock.time += STEP
    assert wire.tier.get("c:a") is None


def test_own_writes_end_copies_and_reads_under_way(wire: Wire, clock: Clock) -> None:
    """`forget` drops at once, before the store tells anything."""
    tier = wire.tier
    keep(tier, "c:a", "c:t:tag")
    keep(tier, "c:b", "c:t:tag")
    fetch = tier.fetch(["c:c", "c:t:tag"])
    assert fetch is not None
    tier.forget("c:a")
    assert [tier.get("c:a"), tier.get("c:b")] == [None, b"v"]
    tier.forget("c:t:tag", "c:never-heard-of")
    assert tier.get("c:b") is None
    assert not tier.keep(fetch, "c:c", b"v", cost=1, until=clock.time + LONG)


@pytest.mark.parametrize("event", ["clear", "flush", "cut", "stop"])
def test_when_anything_may_have_changed_nothing_stands(wire: Wire, clock: Clock, event: str) -> None:
    """Cleared, the store flushed, the connection lost, or stopped: no copy, and no read under way is kept."""
    tier = wire.tier
    keep(tier, "c:a")
    fetch = tier.fetch(["c:b"])
    assert fetch is not None
    {"clear": tier.clear, "flush": wire.push_flush, "cut": wire.cut, "stop": tier.stop}[event]()
    clock.time += STEP
    assert tier.get("c:a") is None
    assert (tier.stats.bytes, tier.stats.entries) == (0, 0)
    assert not tier.keep(fetch, "c:b", b"v", cost=1, until=clock.time + LONG)
    assert tier.open == (event in ("clear", "flush"))
    assert tier.stats.flushes == (event in ("flush", "cut"))
    assert tier.mode == {"cut": tracking.CONNECTING, "stop": near.STOPPED}.get(event, tracking.TRACKING)


def test_a_read_does_not_outlive_its_connection(wire: Wire, clock: Clock) -> None:
    """What was fetched on a connection that was lost is not kept on the next one, and nothing of it is back."""
    tier = wire.tier
    keep(tier, "c:a")
    fetch = tier.fetch(["c:b"])
    assert fetch is not None
    wire.cut()
    wire.turn()
    assert tier.fetch(["c:b"]) is None
    again = Wire(tier)
    clock.time += STEP
    assert tier.get("c:a") is None
    assert not tier.keep(fetch, "c:b", b"v", cost=1, until=clock.time + LONG)
    assert keep(tier, "c:b")
    again.close()


def test_no_copy_is_given_out_after_its_time(wire: Wire, clock: Clock) -> None:
    """The deadline is the reader's; also one that is over when the read ends."""
    tier = wire.tier
    assert keep(tier, "c:a", seconds=0.5)
    clock.time += 0.4
    assert tier.get("c:a") == b"v"
    clock.time += 0.1
    assert tier.get("c:a") is None
    assert tier.stats.bytes == 0
    assert not keep(tier, "c:a", seconds=0.0)


def test_the_least_recently_given_out_leave_first(clock: Clock) -> None:
    """Never more bytes than the budget, overhead included."""
    cost = 1000
    wire = Wire(tier := Near("redis://nowhere", [PREFIX], budget=10 * (cost + OVERHEAD) + 1))
    for number in range(10):
        assert keep(tier, f"c:{number}", cost=cost)
    assert tier.get("c:0") == b"v"
    for number in range(10, 14):
        assert keep(tier, f"c:{number}", cost=cost)
    assert [number for number in range(14) if tier.get(f"c:{number}")] == [0, *range(5, 14)]
    assert (tier.stats.evictions, tier.stats.entries, tier.stats.bytes) == (4, 10, 10 * (cost + OVERHEAD))
    wire.close()


def test_a_copy_kept_again_is_paid_for_once(wire: Wire) -> None:
    """The newest value and its cost count."""
    for size in (10, 1000, 100):
        assert keep(wire.tier, "c:a", value=size, cost=size)
    assert wire.tier.get("c:a") == 100
    assert wire.tier.stats.bytes == 100 + OVERHEAD


def test_giants_are_not_kept(wire: Wire) -> None:
    """A copy takes an eighth of the budget at the most."""
    assert keep(wire.tier, "c:a", cost=BUDGET // 8 - OVERHEAD)
    assert not keep(wire.tier, "c:b", cost=BUDGET // 8 - OVERHEAD + 1)
    assert wire.tier.get("c:b") is None
    assert wire.tier.stats.refused_by_token == 0


def test_nothing_remains_of_reads_that_are_over(wire: Wire, clock: Clock) -> None:
    """Reads that kept nothing, and copies that are gone, leave nothing behind."""
    tier = wire.tier
    for number in range(100):
        tier.fetch([f"c:{number}", "c:t:tag"])
        keep(tier, f"c:k{number}", "c:t:tag")
    told(wire, clock, "c:t:tag")
    for number in range(100):
        assert tier.get(f"c:k{number}") is None
    gc.collect()
    assert len(tier._marks) == 0


@pytest.mark.parametrize("part", [Copy, Fetch, Found, Entry, Position])
def test_the_collector_of_cycles_walks_over_no_values(part: type[Any]) -> None:
    """Hundreds of thousands of them lie here; a walk takes so long that nothing may be given out after it."""
    assert not gc.is_tracked(part(*range(2)) if part is Position else part(**dict.fromkeys(part.__struct_fields__)))


def test_keys_that_are_not_text_do_no_harm(wire: Wire, clock: Clock) -> None:
    """Somebody's binary key under the prefix is told of like any other."""
    keep(wire.tier, "c:a")
    wire.send(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nc:\xff\r\n")
    clock.time += STEP
    assert wire.tier.get("c:a") == b"v"
    assert wire.tier.stats.pushes == 1


def test_an_exception_in_the_middle_costs_the_copies_not_the_coherence(
    wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler may raise anywhere: what was then being taken in is lost, so the connection is given up."""

    def interrupted(names: object) -> None:
        raise KeyboardInterrupt

    tier = wire.tier
    keep(tier, "c:a")
    keep(tier, "c:b")
    monkeypatch.setattr(tier, "_knock_over", interrupted)
    wire.push("c:a")
    clock.time += STEP
    with pytest.raises(KeyboardInterrupt):
        tier.get("c:b")
    assert not tier.open
    again = Wire(tier)
    assert [tier.get("c:a"), tier.get("c:b")] == [None, None]
    again.close()


@pytest.mark.parametrize("method", ["__setitem__", "__getitem__", "__delitem__"])
def test_an_exception_in_the_shelf_empties_it(wire: Wire, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Half a change of the shelf would go wrong for ever; an empty shelf does not."""

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    def use(tier: Near) -> None:
        keep(tier, "c:b")
        tier.get("c:a")
        tier.forget("c:a")

    tier = wire.tier
    keep(tier, "c:a")
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            use(tier)
    assert tier.stats.bytes == 0
    assert keep(tier, "c:c")
    assert [tier.get(f"c:{name}") for name in "abc"] == [None, None, b"v"]


def test_only_watched_names_can_be_fetched(wire: Wire) -> None:
    """Nothing would be told of others, so it is an error to rely on it."""
    with pytest.raises(ValueError, match="n:foreign"):
        wire.tier.fetch(["c:a", "n:foreign"])


def test_what_makes_no_sense_is_refused_at_once() -> None:
    """No prefix would mean every key of the server; no staleness at all cannot be proven."""
    with pytest.raises(ValueError, match="prefix"):
        Near("redis://nowhere", [], budget=BUDGET)
    with pytest.raises(ValueError, match="max_staleness"):
        Near("redis://nowhere", [PREFIX], budget=BUDGET, max_staleness=0)


def test_without_a_budget_nothing_is_started() -> None:
    """No thread, no connection, no copies; everything may be called."""
    tier = Near("redis://nowhere", [PREFIX], budget=0)
    before = threading.active_count()
    tier.start()
    assert threading.active_count() == before
    assert (tier.mode, tier.open) == (near.STOPPED, False)
    assert tier.get("c:a") is None
    assert tier.fetch(["c:a"]) is None
    tier.forget("c:a")
    tier.clear()
    tier.stop()


def test_start_and_stop_may_come_twice_and_in_any_order() -> None:
    """Stopped before it began, begun twice, stopped twice, begun again: one thread while it runs, none after."""

    def threads() -> int:
        return [thread.name for thread in threading.enumerate()].count("near")

    tier = Near("unix:///nowhere/at/all.sock", [PREFIX], budget=BUDGET)
    tier.stop()
    for _ in range(2):
        tier.start()
        tier.start()
        assert threads() == 1
        assert tier.mode == tracking.CONNECTING
        tier.stop()
        tier.stop()
        assert threads() == 0
        assert tier.mode == near.STOPPED


def test_a_store_that_is_away_is_complained_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Many attempts, one warning."""
    tier = Near("unix:///nowhere/at/all.sock", [PREFIX], budget=BUDGET)
    attempts = 0
    real = tier._route.connect

    def connect(self: object, told: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return real(told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tier._route), "connect", connect)
        patch.setattr(tracking, "_LONGEST_PAUSE", 0.02)
        tier.start()
        until(lambda: attempts > 3, "attempts")
        tier.stop()
    (complaint,) = [record.getMessage() for record in caplog.records if record.name == tracking.__name__]
    assert "/nowhere/at/all.sock" in complaint


def test_many_threads_leave_no_stale_copy() -> None:
    """Readers, own writers and foreign ones at once; when everything was told, copies are what the store has."""
    names = [f"c:{number}" for number in range(20)]
    stored = dict.fromkeys(names, 0)
    lock = threading.Lock()
    wire = Wire(tier := Near("redis://nowhere", [PREFIX], budget=8 * 1024 * 1024, max_staleness=LONG))
    failures: list[BaseException] = []
    over = threading.Event()

    def write(name: str) -> None:
        with lock:  # the store makes a change and puts it on the wire in one order
            stored[name] += 1
            wire.push(name)

    def reader() -> None:
        while not over.is_set():
            for name in names:
                if tier.get(name) is None:
                    fetch = tier.fetch([name])
                    value = stored[name] + 1  # never 0 nor None
                    if fetch is not None:
                        tier.keep(fetch, name, value, cost=10, until=time.monotonic() + LONG)

    def foreign_writer() -> None:
        for _ in range(100):
            for name in names[:10]:
                write(name)

    def own_writer() -> None:
        for _ in range(100):
            for name in names[10:]:
                tier.forget(name)
                write(name)
                tier.forget(name)

    def listener() -> None:
        while not over.is_set():
            wire.line.wait(0.01)
            wire.turn()

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    works = [reader, reader, reader, listener, foreign_writer, own_writer]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads[4:]:
        thread.join()
    kept_while_written = tier.stats.kept
    over.set()
    for thread in threads[:4]:
        thread.join()
    wire.turn()
    assert failures == []
    assert kept_while_written > 0
    assert tier.stats.pushes == 2000
    assert [name for name in names if tier.get(name) not in (None, stored[name] + 1)] == []
    assert tier.stats.bytes == tier.stats.entries * (OVERHEAD + 10)
    wire.close()
