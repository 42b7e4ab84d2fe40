"""What is due, what was missed, and what a clock that jumps changes about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_app.registry import Registry, action, registry, resource
from asgi_app.scheduling.plans import Plan, Settled, declared
from asgi_app.scheduling.rules import every
from tasks.timetable import ALL, ON_TIME, Entry, Timetable

HOUR = 3600.0


@pytest.fixture
def declarations() -> Iterator[Registry]:
    with registry.isolated() as empty:

        @action("a.seconds", schedule=10)
        def seconds() -> None: ...

        @action("a.line", schedule="*/5 * * * *", timezone="Asia/Kathmandu", catch_up="all", lateness=60)
        def line() -> None: ...

        @action("a.unscheduled")
        def unscheduled() -> None: ...

        @resource("r.line", refresh="0 6 * * *", timezone="Europe/Berlin")
        def by_line(n: int = 1) -> int:
            return n

        @resource("r.watched", refresh="watched")
        def watched() -> None: ...

        @resource("r.lazy")
        def lazy() -> None: ...

        yield empty


def make(catch_up: str = "last", lateness: float = HOUR, *, seconds: float = 10, since: float | None = None) -> Plan:
    """A plan that fires every few seconds."""
    nothing: Any = None
    return Plan(
        key="entry:1",
        what=nothing,
        params=nothing,
        times=f"{seconds} s",
        rule=every(seconds),
        catch_up=catch_up,
        lateness=lateness,
        since=since,
    )


def begun(plan: Plan, now: float, until: float | None = None) -> Entry:
    """The entry of a plan in a scheduler that starts now; others had got `until` there."""
    table = Timetable()
    table.change([plan], {} if until is None else {plan.key: Settled(times=plan.times, until=until)}, now)
    entry = table.entries[plan.key]
    entry.take_up(now)
    return entry


def fire_all(entry: Entry, now: float) -> list[float]:
    """Fire what is due now; the due times."""
    entry.take_up(now)
    found = []
    while (due := entry.first(now)) is not None:
        found.append(due)
        entry.fired(due)
    return found


def test_what_has_a_schedule_is_planned(declarations: Registry) -> None:
    """Actions with a schedule and resources with a crontab line, each in its zone, under a name of its own."""
    found = {plan.key: plan for plan in declared(declarations)}
    assert {key: plan.rule(0.0) for key, plan in found.items()} == {
        "action:a.seconds": 10.0,
        "action:a.line": 300.0,
        "resource:r.line": 5 * HOUR,
    }
    assert [(plan.catch_up, plan.lateness) for plan in found.values()] == [
        ("last", HOUR),
        ("all", 60.0),
        ("last", HOUR),
    ]
    assert found["resource:r.line"].what.dump(found["resource:r.line"].params) == {"n": 1}


def test_nothing_is_fired_before_its_time_and_everything_once() -> None:
    """From its start on, each due time once, however often it is looked at."""
    entry = begun(make(), 7203.0)
    assert entry.due == 7210.0
    assert fire_all(entry, 7209.99) == []
    assert fire_all(entry, 7210.0) == [7210.0]
    assert fire_all(entry, 7210.5) == []
    assert fire_all(entry, 7220.1) == [7220.0]


@pytest.mark.parametrize(
    ("catch_up", "lateness", "made_up"),
    [
        ("skip", HOUR, []),
        ("last", HOUR, [7290.0]),
        ("last", 1.0, [7290.0]),
        ("all", HOUR, [7210.0, 7220.0, 7230.0, 7240.0, 7250.0, 7260.0, 7270.0, 7280.0, 7290.0]),
        ("all", 30.0, [7270.0, 7280.0, 7290.0]),
        ("all", 0.0, [7290.0]),
    ],
)
def test_a_scheduler_that_starts_makes_up_for_what_was_missed(
    catch_up: str, lateness: float, made_up: list[float]
) -> None:
    """Nothing, the last, or all, the oldest first; nothing older than the lateness."""
    assert fire_all(begun(make(catch_up, lateness), 7294.0, until=7200.0), 7294.0) == made_up


def test_what_is_late_by_more_than_its_lateness_is_forgotten() -> None:
    """Also while the scheduler runs and cannot fire: then what is settled goes on."""
    plan = make("last", 20.0, seconds=600)
    assert fire_all(begun(plan, 1221.0, until=700.0), 1221.0) == []
    entry = begun(plan, 1215.0, until=700.0)
    assert entry.first(1215.0) == 1200.0
    assert entry.settled_ms == 1_199_999
    assert entry.first(1220.5) is None
    assert entry.settled_ms == 1_200_000


def test_at_most_a_hundred_are_made_up_for() -> None:
    """The newest of them, the oldest first."""
    made_up = fire_all(begun(make("all", seconds=1), 9000.0, until=0.0), 9000.0)
    assert made_up == [float(due) for due in range(9001 - ALL, 9001)]


def test_a_busy_moment_is_not_late() -> None:
    """What is due while a scheduler runs is fired, whatever the policy says of missed ones."""
    entry = begun(make("skip"), 7203.0)
    assert fire_all(entry, 7210.0 + ON_TIME - 0.1) == [7210.0]
    assert fire_all(entry, 7220.0 + ON_TIME + 0.1) == []


def test_what_could_not_be_fired_waits_for_its_turn() -> None:
    """A newer time takes the place of the last one, and stands behind all others where all are wanted."""
    last, all_ = begun(make("last"), 7203.0), begun(make("all"), 7203.0)
    for entry, waiting in ((last, [7220.0]), (all_, [7210.0, 7220.0])):
        entry.take_up(7210.0)
        entry.take_up(7220.0)
        assert list(entry.waiting) == waiting
        assert entry.settled_ms == int(waiting[0] * 1000) - 1


def test_a_clock_that_jumps_forward_misses_what_it_jumped_over() -> None:
    """By decades as by minutes: then it goes on from where the clock is."""
    entry = begun(make("last"), 7203.0)
    assert fire_all(entry, 2e9 + 1) == [2e9]
    assert entry.due == 2e9 + 10
    assert len(fire_all(begun(make("all"), 7203.0), 2e9 + 1)) == ALL


def test_a_clock_that_is_set_back_does_not_silence_what_follows() -> None:
    """The times of the new clock come, those that were fired already under the same due times, so as the same jobs."""
    entry = begun(make("last"), 7203.0)
    assert fire_all(entry, 2e9 + 1) == [2e9]
    assert fire_all(entry, 7208.0) == []
    assert entry.due == 7210.0
    assert fire_all(entry, 7211.0) == [7210.0]


def test_what_waits_for_a_time_to_come_again_does_not_wait() -> None:
    """A clock that is set back while a firing waits does not fire it early."""
    entry = begun(make("last"), 7203.0)
    entry.take_up(8000.0)
    entry.take_up(7204.0)
    assert entry.first(7204.0) is None
    assert fire_all(entry, 7210.0) == [7210.0]


def test_a_plan_nobody_has_seen_has_missed_nothing() -> None:
    """A declaration counts from its first scheduler, an entry of the admin from its last change."""
    assert fire_all(begun(make(), 7294.0), 7294.0) == []
    assert fire_all(begun(make(since=7285.0), 7294.0), 7294.0) == [7290.0]
    assert fire_all(begun(make(since=7291.0), 7294.0, until=7200.0), 7294.0) == []


def test_other_times_than_before_were_not_missed() -> None:
    """A declaration whose line was changed begins anew."""
    table, plan = Timetable(), make("all")
    table.change([plan], {plan.key: Settled(times="0 6 * * * UTC", until=7200.0)}, 7294.0)
    assert fire_all(table.entries[plan.key], 7294.0) == []


def test_what_is_settled_for_the_future_counts_until_now() -> None:
    """Another clock went wrong: nothing is kept from being fired for its sake."""
    assert fire_all(begun(make(), 7203.0, until=2e9), 7210.0) == [7210.0]


def test_an_entry_that_stays_as_it_is_goes_on() -> None:
    """Read again, changed, removed: what is under way is not disturbed, what is no longer wanted not fired."""
    table, plan = Timetable(), make("all")
    table.change([plan], {}, 7203.0)
    entry = table.entries[plan.key]
    entry.take_up(7225.0)
    table.change([make("all")], {}, 7226.0)
    assert table.entries[plan.key] is entry
    assert list(entry.waiting) == [7210.0, 7220.0]
    table.change([make("all", seconds=7, since=7226.0)], {}, 7228.0)
    assert list(entry.waiting) == []
    changed = table.entries[plan.key]
    assert fire_all(changed, 7228.0) == [], "what was due until then was due by the other times"
    assert changed.due == 7231.0
    changed.take_up(7231.0)
    table.change([], {}, 7232.0)
    assert list(changed.waiting) == []
    assert table.next_due() == float("inf")


@given(
    st.lists(st.floats(-40, 400), min_size=1, max_size=60),
    st.sampled_from([0.5, 1.0, 7.0, 60.0]),
    st.sampled_from(["skip", "last", "all"]),
)
def test_whatever_a_clock_does_only_due_times_are_fired_and_none_twice_while_it_goes_on(
    steps: list[float], seconds: float, catch_up: str
) -> None:
    """Each firing is at a due time that has come; again only after the clock was set back; what is settled is past."""
    now = 1_000_000.3
    entry = begun(make(catch_up, seconds=seconds), now)
    fired: list[float] = []
    for step in steps:
        if step < 0:
            fired = [due for due in fired if due <= now + step]
        now += step
        for due in fire_all(entry, now):
            assert due <= now
            assert due % seconds == 0
            if step >= 0:
                assert not fired or due > max(fired)
            fired.append(due)
        assert entry.settled_ms <= now * 1000 + 1
        assert entry.due > now
