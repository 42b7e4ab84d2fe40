"""The values kept for the time without a store: never too many bytes, never one that was invalidated."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cache_layer import last_known
from cache_layer.codec import Entry
from cache_layer.keys import Key
from cache_layer.last_known import LastKnown
from cache_layer.outdated import of_tags
from cache_layer.position import Position
from tests.support.keys import key

FRESH, STALE_IF_ERROR = 10.0, 20.0
KEYS = {
    name: key(name, tags=tags, fresh=FRESH, stale_if_error=STALE_IF_ERROR)
    for name, tags in {"a": ("x",), "b": ("x", "y"), "c": ("y",), "d": (), "e": ("z",)}.items()
}
BUDGET = 32 * 1024


class Clock:
    """A monotonic clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(last_known, "time", clock)
    return clock


def entry(payload: bytes, offset: int = 1) -> Entry:
    return Entry(
        nonce=b"nonce...",
        position=Position("epoch123", offset),
        fresh=FRESH,
        life=FRESH + STALE_IF_ERROR,
        compute_seconds=0.1,
        computed_at=0.0,
        tag_versions=(),
        payload=payload,
    )


class AgainstADict(RuleBasedStateMachine):
    """`LastKnown` beside a dict that forgets nothing but what was invalidated or replaced."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.patch = mock.patch.object(last_known, "time", self.clock)
        self.patch.start()
        self.known = LastKnown(BUDGET)
        self.model: dict[str, tuple[Entry, float]] = {}
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.stop()

    def next_entry(self, size: int) -> Entry:
        self.count += 1
        return entry(b"1" * size, self.count)

    @rule(name=st.sampled_from(sorted(KEYS)), size=st.integers(1, 3000), age=st.floats(0, 40))
    def keep(self, name: str, size: int, age: float) -> None:
        made = self.next_entry(size)
        self.known.keep(KEYS[name], made, age, era=self.known.era)
        self.model[name] = (made, self.clock.now - age)
        assert (self.known.get(KEYS[name]) is not None) == (age < FRESH + STALE_IF_ERROR)

    @rule(name=st.sampled_from(sorted(KEYS)), size=st.integers(BUDGET // 8, BUDGET * 2))
    def keep_too_much(self, name: str, size: int) -> None:
        self.known.keep(KEYS[name], self.next_entry(size), 0.0, era=self.known.era)
        self.model.pop(name, None)

    @rule(name=st.sampled_from(sorted(KEYS)), tags=st.sets(st.sampled_from(["x", "y", "z", "w"])))
    def keep_what_was_looked_up_before_an_invalidation(self, name: str, tags: set[str]) -> None:
        era = self.known.era
        self.invalidate(tags)
        self.known.keep(KEYS[name], self.next_entry(1), 0.0, era=era)
        self.model.pop(name, None)

    @rule(tags=st.sets(st.sampled_from(["x", "y", "z", "w"])))
    def invalidate(self, tags: set[str]) -> None:
        self.known.invalidate(of_tags(*tags))
        for name in [name for name in self.model if tags.intersection(KEYS[name].tags)]:
            del self.model[name]

    @rule()
    def clear(self) -> None:
        self.known.clear()
        self.model.clear()

    @rule(seconds=st.floats(0, 20))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def what_is_held_is_the_last_that_was_seen(self) -> None:
        total = 0
        for name, what in KEYS.items():
            found = self.known.get(what)
            if found is None:
                continue
            held, age = found
            expected, born = self.model[name]
            assert held is expected
            assert age == self.clock.now - born
            assert age < FRESH + STALE_IF_ERROR
            total += len(held.payload)
        assert total <= BUDGET


AgainstADict.TestCase.settings = settings(max_examples=60, deadline=None)
TestAgainstADict = AgainstADict.TestCase


def fill(known: LastKnown, names: str, size: int) -> None:
    for name in names:
        known.keep(key(name), entry(b"1" * size), 0.0, era=known.era)


def held(known: LastKnown, names: str) -> str:
    return "".join(name for name in names if known.get(key(name)) is not None)


def test_the_least_recently_seen_go_first(clock: Clock) -> None:
    """Over the budget, values leave in the order in which they were last seen."""
    known = LastKnown(8 * 1024)
    fill(known, "abcdefgha", 512)
    assert held(known, "abcdefgh") == "abcdefgh"
    fill(known, "ij", 512)
    assert held(known, "abcdefghij") == "adefghij"


def test_a_value_too_big_to_hold_still_replaces_the_one_before(clock: Clock) -> None:
    """Once a newer value was seen, the older one is not given out any more, held or not."""
    known = LastKnown(BUDGET)
    fill(known, "a", 10)
    fill(known, "a", BUDGET)
    assert held(known, "a") == ""


def test_bytes_of_replaced_values_are_free_again(clock: Clock) -> None:
    """Replacing, invalidating and clearing leave room for as much as before."""
    known = LastKnown(8 * 1024)
    for _ in range(20):
        fill(known, "abcdefgh", 512)
        known.invalidate(of_tags("x"))
        known.clear()
        fill(known, "abcdefgh", 512)
        assert held(known, "abcdefgh") == "abcdefgh"


def test_the_age_goes_on_from_that_of_the_look_up(clock: Clock) -> None:
    """A value is given out with its age, and no longer than its policy allows after an error."""
    known, what = LastKnown(), key(fresh=FRESH, stale_if_error=STALE_IF_ERROR)
    kept = entry(b"1")
    known.keep(what, kept, 4.0, era=known.era)
    clock.now += 25.0
    assert known.get(what) == (kept, 29.0)
    clock.now += 1.0
    assert known.get(what) is None


def test_the_asker_s_policy_counts(clock: Clock) -> None:
    """A declaration that was changed to forbid old values forbids those already held."""
    known, what = LastKnown(), key(fresh=FRESH, stale_if_error=STALE_IF_ERROR)
    known.keep(what, entry(b"1"), 15.0, era=known.era)
    strict = Key(
        **{field: getattr(what, field) for field in ("name", "digest", "topic", "tags")},
        policy=replace(what.policy, stale_if_error=0.0),
    )
    assert known.get(what) is not None
    assert known.get(strict) is None


def test_the_very_value_it_holds_is_seen_again(clock: Clock) -> None:
    """It is as old as it was, and the last one seen; looked up before an invalidation, it is held no longer."""
    value, memory = entry(b"x"), LastKnown(8 * 1024)
    memory.keep(KEYS["a"], value, 5.0, era=0)
    for name in ("b", "c", "d"):
        memory.keep(KEYS["a"], value, 0.0, era=0)
        memory.keep(KEYS[name], entry(b"y" * 500), 0.0, era=0)
    assert memory.get(KEYS["a"]) == (value, 5.0)
    memory.keep(KEYS["a"], value, 0.0, era=-1)
    assert memory.get(KEYS["a"]) is None
