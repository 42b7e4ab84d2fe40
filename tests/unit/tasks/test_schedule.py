"""What a scheduler fires, and what it does with a firing that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_app.errors import NotFound, Unavailable
from asgi_app.jobs import firing_id
from asgi_app.registry import Registry, action, registry, resource
from asgi_app.scheduling.plans import declared
from cache_layer.errors import StoreUnavailable
from tasks import schedule
from tasks.schedule import Scheduler


class Reader:
    """Takes what is fired, or fails as it is told to."""

    def __init__(self) -> None:
        self.fired: list[tuple[str, str, str]] = []
        self.failure: Exception | None = None

    async def action(self, what: Any, params: Any, principal: Any, **options: Any) -> None:
        self.take("run", what, principal, options)

    async def refresh(self, what: Any, params: Any, principal: Any, **options: Any) -> None:
        self.take("refresh", what, principal, options)

    def take(self, how: str, what: Any, principal: Any, options: dict[str, Any]) -> None:
        assert principal.is_anonymous
        assert options["trusted"]
        self.fired.append((how, what.name, options["job_id"]))
        if self.failure is not None:
            raise self.failure


class Clock:
    def __init__(self) -> None:
        self.now = 7200.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def declarations() -> Iterator[Registry]:
    with registry.isolated() as empty:

        @action("a.seconds", schedule=10)
        def seconds() -> None: ...

        @action("a.line", schedule="*/5 * * * *", catch_up="all")
        def line() -> None: ...

        @resource("r.line", refresh="0 * * * *")
        def by_line(n: int = 1) -> int:
            return n

        yield empty


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scheduler(declarations: Registry, reader: Reader, clock: Clock) -> Scheduler:
    return started(declarations, reader, clock)


def started(declarations: Registry, reader: Reader, clock: Clock) -> Scheduler:
    """A scheduler that starts now."""
    node: Any = SimpleNamespace(reader=reader, submitter=reader)
    made = Scheduler(node, of=declarations, clock=clock)
    made.change(list(declared(declarations)), {})
    return made


async def at(scheduler: Scheduler, clock: Clock, now: float) -> float:
    """Let it fire what is due at this time; what the tick says."""
    clock.now = now
    left = scheduler.tick()
    await scheduler.idle()
    return left


async def test_nothing_is_fired_before_its_time(scheduler: Scheduler, reader: Reader, clock: Clock) -> None:
    """A tick without anything due fires nothing, and says when something will be."""
    assert await at(scheduler, clock, 7209.5) == 0.5
    assert reader.fired == []


async def test_each_firing_has_the_id_of_its_time(
    declarations: Registry, scheduler: Scheduler, reader: Reader, clock: Clock
) -> None:
    """What is due is fired once, under an id that any scheduler would give it."""
    clock.now = 7205.0
    other = started(declarations, reader, clock)
    await at(scheduler, clock, 7210.0)
    await at(scheduler, clock, 7210.5)
    await at(other, clock, 7210.7)
    assert reader.fired == [("run", "a.seconds", firing_id("action:a.seconds", 7_210_000))] * 2


async def test_a_late_scheduler_fires_what_its_policies_say(scheduler: Scheduler, reader: Reader, clock: Clock) -> None:
    """Of many missed times the last or all, so that they meet the firings of a scheduler that was not late."""
    await at(scheduler, clock, 8_105.0)
    assert sorted(reader.fired) == sorted(
        [
            *(("run", "a.line", firing_id("action:a.line", due * 1000)) for due in (7500, 7800, 8100)),
            ("run", "a.seconds", firing_id("action:a.seconds", 8_100_000)),
        ]
    )


@pytest.mark.parametrize("failure", [Unavailable("full"), StoreUnavailable("away")])
async def test_a_firing_that_fails_is_fired_again_and_holds_up_nothing(
    scheduler: Scheduler,
    reader: Reader,
    clock: Clock,
    failure: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other entries are fired; the failed ones are tried until they succeed, under the same ids."""
    monkeypatch.setattr(schedule, "AGAIN", 0.001)
    reader.failure = failure
    clock.now = 7500.0
    scheduler.tick()
    while len(reader.fired) < 6:
        await asyncio.sleep(0)
    reader.failure = None
    await scheduler.idle()
    ids = {name: {job_id for _, fired, job_id in reader.fired if fired == name} for name in ("a.seconds", "a.line")}
    assert ids == {
        "a.seconds": {firing_id("action:a.seconds", 7_500_000)},
        "a.line": {firing_id("action:a.line", 7_500_000)},
    }
    tries = len(reader.fired)
    await at(scheduler, clock, 7501.0)
    assert len(reader.fired) == tries


async def test_a_firing_that_waits_too_long_is_forgotten(
    scheduler: Scheduler, reader: Reader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its lateness nobody tries any more."""
    monkeypatch.setattr(schedule, "AGAIN", 0.001)
    reader.failure = StoreUnavailable("away")
    clock.now = 7210.0
    scheduler.tick()
    while len(reader.fired) < 3:
        await asyncio.sleep(0)
    clock.now = 7210.0 + 3601.0
    await scheduler.idle()


@pytest.mark.parametrize("failure", [NotFound("gone"), ValueError("a mistake in a function of the author")])
async def test_a_firing_that_can_never_succeed_is_tried_once(
    scheduler: Scheduler, reader: Reader, clock: Clock, failure: Exception
) -> None:
    """It is said, and the next one gets its chance."""
    reader.failure = failure
    await at(scheduler, clock, 7210.0)
    assert len(reader.fired) == 1
    reader.failure = None
    await at(scheduler, clock, 7220.0)
    assert len(reader.fired) == 2


async def test_a_scheduler_waits_for_the_database_and_not_for_ever(
    declarations: Registry, reader: Reader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows what was missed; without it the declarations are fired all the same, from then on."""
    node: Any = SimpleNamespace(reader=reader, submitter=reader)
    waiting = Scheduler(node, of=declarations, clock=clock)
    await at(waiting, clock, 7210.0)
    assert reader.fired == []
    monkeypatch.setattr(schedule, "PATIENCE", -1.0)
    alone = Scheduler(node, of=declarations, clock=clock)
    await at(alone, clock, 7215.0)
    await at(alone, clock, 7220.0)
    assert reader.fired == [("run", "a.seconds", firing_id("action:a.seconds", 7_220_000))]


async def test_a_scheduler_may_be_stopped_while_something_fails(
    scheduler: Scheduler, reader: Reader, clock: Clock
) -> None:
    """At once, without an end of what fails."""
    reader.failure = StoreUnavailable("away")
    clock.now = 7210.0
    scheduler.tick()
    while not reader.fired:
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await scheduler.idle()
