"""Actions that are asked for at once share a transaction, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError

from asgi_app import ledger, rows
from asgi_app.errors import IdempotencyMismatch, Unavailable
from asgi_app.jobs import dump_principal
from asgi_app.ledger import Order
from asgi_app.models import Job
from asgi_app.registry import Principal
from asgi_app.submitting import new_id
from asgi_app.writing import Writing

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    rows.close()
    yield
    rows.close()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were written in each turn."""
    seen: list[int] = []
    really = ledger._created_together

    def spied(new: Sequence[Order]) -> bool:
        seen.append(len(new))
        return really(new)

    monkeypatch.setattr(ledger, "_created_together", spied)
    return seen


def order(**more: Any) -> Order:
    given: dict[str, Any] = {"job_id": new_id(), "name": "test.once", "params": "{}", "queue": "default", "priority": 5}
    return Order(**{**given, "owner": "7", "principal": dump_principal(Principal.public()), "new": True, **more})


async def write(*orders: Order) -> list[Any]:
    """All at once: what each is answered, or what it raises."""
    writing = Writing()
    try:
        return await asyncio.gather(*(writing.create(each) for each in orders), return_exceptions=True)
    finally:
        await writing.stop()
        await writing.stop()


def written() -> set[str]:
    return {str(pk) for pk in Job.objects.values_list("pk", flat=True)}


def test_all_of_a_moment_are_one_transaction(batches: list[int]) -> None:
    """Committed when it is answered, a hundred at the most."""
    orders = [order() for _ in range(130)]
    assert asyncio.run(write(*orders)) == [(each.job_id, True) for each in orders]
    assert written() == {each.job_id for each in orders}
    assert batches == [100, 30]


def test_what_is_wrong_with_one_is_no_others_matter(batches: list[int]) -> None:
    """A row that the database refuses, a key that was used for something else, and an id that was said before."""
    before = order(idempotency="k", new=False)
    assert asyncio.run(write(before)) == [(before.job_id, True)]
    refused, good, again = order(priority=None), order(), order(job_id=before.job_id)
    mismatch, same = order(idempotency="k", params='{"n":1}', new=False), order(idempotency="k", new=False)
    found = asyncio.run(write(refused, good, again, mismatch, same))
    assert isinstance(found[0], IntegrityError)
    assert found[1] == (good.job_id, True)
    assert found[2] == found[4] == (before.job_id, False)
    assert isinstance(found[3], IdempotencyMismatch)
    assert written() == {before.job_id, good.job_id}
    assert batches == [3]


def test_a_database_that_is_away_is_told_to_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to those whose turn had not come; who comes later asks it anew."""
    gate, asked = threading.Event(), 0
    really = ledger.create_all

    def away(orders: Sequence[Order]) -> Any:
        nonlocal asked
        asked += 1
        gate.wait(10)
        if asked == 1:
            raise OperationalError("gone")
        return really(orders)

    monkeypatch.setattr(ledger, "create_all", away)

    async def some() -> list[Any]:
        writing = Writing()
        first = asyncio.ensure_future(writing.create(order()))
        while not asked:
            await asyncio.sleep(0.001)
        second = asyncio.ensure_future(writing.create(order()))
        await asyncio.sleep(0)
        gate.set()
        refused = await asyncio.gather(first, second, return_exceptions=True)
        later = await writing.create(order())
        await writing.stop()
        return [*refused, later]

    *refused, (job_id, created) = asyncio.run(some())
    assert [type(each) for each in refused] == [Unavailable, Unavailable]
    assert (asked, created, written()) == (2, True, {job_id})


def test_who_goes_away_takes_nobody_along() -> None:
    """And what is ended tells those who wait."""

    async def some() -> list[Any]:
        writing = Writing()
        goes, stays = (asyncio.ensure_future(writing.create(order())) for _ in range(2))
        await asyncio.sleep(0)
        goes.cancel()
        stayed = await stays
        waits = asyncio.ensure_future(writing.create(order()))
        await asyncio.sleep(0)
        await writing.stop()
        ended = (await asyncio.gather(waits, return_exceptions=True))[0]
        assert goes.cancelled()
        return [stayed, ended]

    (job_id, created), ended = asyncio.run(some())
    assert created
    assert job_id in written()
    assert isinstance(ended, Unavailable)
    rows.close()


def test_no_more_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes then is refused at once."""
    monkeypatch.setattr("asgi_app.writing.WAITING", 2)
    found = asyncio.run(write(order(), order(), order()))
    assert [created for _, created in found[:2]] == [True, True]
    assert isinstance(found[2], Unavailable)
