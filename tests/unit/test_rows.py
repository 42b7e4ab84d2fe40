"""Database work of coroutines waits for nobody longer than it may."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from django.db import OperationalError

from asgi_app import rows
from asgi_app.errors import Unavailable
from asgi_app.rows import in_database


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    rows.close()
    yield
    rows.close()


def fails(error: Exception) -> None:
    raise error


async def test_work_is_done_on_another_thread() -> None:
    """With its arguments; what it returns comes back, and so does what it raises."""
    assert await in_database(threading.get_ident) != threading.get_ident()
    assert await in_database(int, "11", base=2) == 3
    with pytest.raises(ValueError, match="mine"):
        await in_database(fails, ValueError("mine"))


async def test_a_database_that_is_away_is_unavailable() -> None:
    """And worth another try."""
    with pytest.raises(Unavailable) as caught:
        await in_database(fails, OperationalError("gone"))
    assert caught.value.retryable


async def test_a_database_that_hangs_holds_nobody() -> None:
    """Who waits is told in time; the work goes on behind, and its thread does other work when it is done."""
    gate, done = threading.Event(), threading.Event()

    def hangs() -> None:
        gate.wait(10)
        done.set()

    with pytest.raises(Unavailable):
        await in_database(hangs, within=0.01)
    assert not done.is_set()
    gate.set()
    assert await in_database(done.wait, 10)


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When all threads hang, no more than so many wait; the others are refused at once."""
    monkeypatch.setattr(rows, "WAITING", rows.THREADS + 2)
    gate = threading.Event()
    waiting = [asyncio.create_task(in_database(gate.wait, 10)) for _ in range(rows.THREADS + 2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await in_database(int)
    gate.set()
    assert all(await asyncio.gather(*waiting))
    assert await in_database(int) == 0


async def test_who_goes_away_leaves_the_work() -> None:
    """A cancelled caller cancels nothing, and its place is free when the work is done."""
    gate, done = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(10)
        done.set()

    caller = asyncio.create_task(in_database(work))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set()
    assert await in_database(done.wait, 10)
    assert await in_database(lambda: rows._waiting) == 1
