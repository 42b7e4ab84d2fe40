"""Questions of many at once are asked together, and each gets its own answer."""

from __future__ import annotations

import asyncio

import pytest

from asgi_app.together import Together


class Asked:
    """Doubles numbers; remembers what it was asked at once."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception | None = None

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return [2 * number for number in numbers]


async def test_who_comes_at_the_same_time_shares_a_query() -> None:
    """Of at most so many questions, one query at a time."""
    asked = Asked()
    together = Together(asked, 40)
    answers = await asyncio.gather(*(together.of(number) for number in range(100)))
    assert answers == [2 * number for number in range(100)]
    assert [len(batch) for batch in asked.batches] == [40, 40, 20]


async def test_a_query_answers_only_those_who_asked_before_it() -> None:
    """What it read may be older than the question of who comes while it runs."""
    asked = Asked()
    asked.open.clear()
    together = Together(asked, 40)
    first = asyncio.create_task(together.of(1))
    while not asked.batches:
        await asyncio.sleep(0.005)
    second = asyncio.create_task(together.of(1))
    await asyncio.sleep(0.03)
    assert asked.batches == [[1]]
    asked.open.set()
    assert (await first, await second) == (2, 2)
    assert asked.batches == [[1], [1]]


async def test_who_leaves_takes_nobodys_answer() -> None:
    """And is not asked for any more."""
    asked = Asked()
    together = Together(asked, 40)
    asking = [asyncio.create_task(together.of(number)) for number in range(10)]
    await asyncio.sleep(0)
    for task in asking[::2]:
        task.cancel()
    assert await asyncio.gather(*asking[1::2]) == [2, 6, 10, 14, 18]
    assert asked.batches == [[1, 3, 5, 7, 9]]


async def test_a_failure_is_told_to_those_it_concerns() -> None:
    """The next ones are asked for as ever."""
    asked = Asked()
    asked.failure = OSError("away")
    together = Together(asked, 40)
    failed = await asyncio.gather(together.of(1), together.of(2), return_exceptions=True)
    assert [str(one) for one in failed] == ["away", "away"]
    asked.failure = None
    assert await together.of(3) == 6


async def test_ended_from_outside_it_keeps_nobody_waiting() -> None:
    """As a loop does that closes."""
    asked = Asked()
    asked.open.clear()
    together = Together(asked, 40)
    waiting = asyncio.create_task(together.of(1))
    while not asked.batches:
        await asyncio.sleep(0.005)
    assert together._task is not None
    together._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
