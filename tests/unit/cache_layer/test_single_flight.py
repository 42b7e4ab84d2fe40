"""Callers of one key share one run, and nobody's leaving ends it."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from cache_layer.single_flight import SingleFlight

asked_by: ContextVar[str] = ContextVar("asked_by", default="nobody")


class Work:
    """Counts its runs and waits for `gate`."""

    def __init__(self) -> None:
        self.runs = 0
        self.ended = 0
        self.gate = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> int:
        self.runs += 1
        number = self.runs
        try:
            await self.gate.wait()
        finally:
            self.ended += 1
        if self.failure is not None:
            raise self.failure
        return number


@pytest.fixture
async def flights() -> AsyncIterator[SingleFlight[int]]:
    made: SingleFlight[int] = SingleFlight()
    yield made
    await made.close()


def begun(*calls: Any) -> list[asyncio.Task[int]]:
    return [asyncio.ensure_future(call) for call in calls]


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_of_one_key_share_a_run(flights: SingleFlight[int]) -> None:
    """While a run is under way, all who ask for its key get its one result."""
    work = Work()
    callers = begun(*(flights.do("k", work) for _ in range(10)))
    await turns()
    work.gate.set()
    assert await asyncio.gather(*callers) == [1] * 10


async def test_keys_do_not_share(flights: SingleFlight[int]) -> None:
    """Each key has a run of its own."""
    work = Work()
    work.gate.set()
    assert sorted(await asyncio.gather(flights.do("a", work), flights.do("b", work))) == [1, 2]


async def test_after_the_end_a_new_run_begins(flights: SingleFlight[int]) -> None:
    """A result is shared, not kept."""
    work = Work()
    work.gate.set()
    assert await flights.do("k", work) == 1
    await turns()
    assert await flights.do("k", work) == 2


async def test_who_leaves_leaves_the_run_to_the_others(flights: SingleFlight[int]) -> None:
    """A cancelled caller, the first one too, cancels neither the run nor the other callers."""
    work = Work()
    first, second = begun(flights.do("k", work), flights.do("k", work))
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    assert (work.runs, work.ended) == (1, 0)
    work.gate.set()
    assert await second == 1


async def test_a_run_everybody_left_goes_on(flights: SingleFlight[int]) -> None:
    """With its last caller gone a run still comes to its end, for whoever asks next."""
    work = Work()
    (only,) = begun(flights.do("k", work))
    await turns()
    only.cancel()
    await turns()
    later = flights.start("k", work)
    work.gate.set()
    assert await later == 1


async def test_a_failure_reaches_every_caller(flights: SingleFlight[int]) -> None:
    """All who share a run share its exception, and the next run starts clean."""
    work = Work()
    work.failure = ValueError("no luck")
    callers = begun(flights.do("k", work), flights.do("k", work))
    await turns()
    work.gate.set()
    assert await asyncio.gather(*callers, return_exceptions=True) == [work.failure, work.failure]
    work.failure = None
    await turns()
    assert await flights.do("k", work) == 2


async def test_a_failure_nobody_waits_for_is_no_warning(flights: SingleFlight[int]) -> None:
    """The exception of a run that was only started counts as read."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    work = Work()
    work.failure = ValueError("no luck")
    work.gate.set()
    flights.start("k", work)
    await turns()
    gc.collect()
    assert work.ended == 1
    assert complaints == []


async def test_a_run_sees_nothing_of_who_asked(flights: SingleFlight[int]) -> None:
    """The first caller's context variables do not leak into what the others get."""
    asked_by.set("ada")

    async def work() -> int:
        return len(asked_by.get())

    assert await flights.do("k", work) == len("nobody")


async def test_a_run_that_began_too_early_is_not_shared(flights: SingleFlight[int]) -> None:
    """Who asks for a run since a later moment gets a new one, which then is the one to join."""
    early, late = Work(), Work()
    first = flights.start("k", early, since=-math.inf)
    second = flights.start("k", late, since=math.inf)
    assert first is not second
    assert flights.start("k", late) is second
    early.gate.set()
    await first
    await turns()
    assert flights.start("k", late) is second
    late.gate.set()
    assert await second == 1


async def test_close_ends_all_runs(flights: SingleFlight[int]) -> None:
    """After `close` no run is under way, those that were replaced included, and closing again does no harm."""
    work = Work()
    runs = [flights.start("a", work), flights.start("a", work, since=math.inf), flights.start("b", work)]
    await turns()
    await flights.close()
    assert all(run.cancelled() for run in runs)
    assert work.ended == 3
    await flights.close()
