"""What was lost is named, and only that: messages of a busy queue, jobs of dead processes, losses that come late."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_app.env import load_env
from asgi_app.errors import Unavailable
from asgi_app.submitting import Submitter
from cache_layer.queues import Limits, Lost
from cache_layer.records import held
from cache_layer.redis import Store
from tasks import reaper as reaper_module
from tasks.app import app
from tasks.reaper import Reaper
from tasks.submit import CeleryDoorbell
from tests.support.jobs import Jobs
from tests.support.keys import key

WITHIN = 20.0


@pytest.fixture
async def jobs(store: Store) -> AsyncIterator[Jobs]:
    made = Jobs(store, Limits(queue=1000))
    yield made
    await made.clean()


async def report(jobs: Jobs, job_id: str, pid: int, worker: str = "w", fence: str = "") -> int:
    """As a worker's parent does whose process is gone."""
    keys = [jobs.names.held(worker), jobs.names.losses()]
    answer: int = await jobs.store.script("lost", keys, [job_id, pid, worker, "died", fence])
    return answer


async def named(jobs: Jobs) -> dict[str, Lost]:
    """What a reaper is told."""
    return (await jobs.round()).lost


async def test_a_message_that_was_lost_on_a_busy_queue(jobs: Jobs) -> None:
    """While others come and are taken all the time, the queue is rung for once more: nobody waits for ever."""
    await jobs.enqueue(jobs.action("patient", priority=0))
    await jobs.store.command("DEL", jobs.messages())
    deadline = asyncio.get_running_loop().time() + WITHIN
    rings: dict[str, int] = {}
    for number in range(10_000):
        await jobs.enqueue(jobs.action(f"busy{number}"))
        rings = (await jobs.round()).rings
        if rings:
            break
        assert asyncio.get_running_loop().time() < deadline, "nobody was rung for"
        await jobs.store.command("RPOP", jobs.messages())
        taken = await jobs.take()
        assert taken is not None
        assert taken.job_id == f"busy{number}"
        await asyncio.sleep(0.05)
    assert rings == {"default": 1}


async def test_the_next_attempt_is_not_taken_for_lost(jobs: Jobs) -> None:
    """Of a process that is gone only what it held itself is lost, not what the worker's next process holds."""
    ticket = jobs.action("a")
    await jobs.enqueue(ticket)
    await jobs.take(pid=1)
    await jobs.queues.hold("w", "a", held(ticket, pid=2, fence=2))
    assert await report(jobs, "a", 1) == 0
    assert await report(jobs, "a", 2, fence="1") == 0
    assert await named(jobs) == {}
    assert await report(jobs, "a", 2, fence="2") == 1
    assert (await named(jobs))["a"].fence == 2


async def test_a_second_loss_before_the_first_is_forgotten(jobs: Jobs) -> None:
    """The job ran again and was lost again while a reaper was still at the first loss: the second one stays."""
    ticket = jobs.action("a")
    await jobs.enqueue(ticket)
    await jobs.take(worker="first", pid=1)
    await report(jobs, "a", 1, worker="first")
    first = (await named(jobs))["a"]
    await jobs.queues.release(ticket, worker="first", over=False)
    await jobs.enqueue(ticket)
    await jobs.take(worker="second", pid=2)
    await report(jobs, "a", 2, worker="second")
    await jobs.queues.seen_after("a", first)
    second = (await named(jobs))["a"]
    assert (second.worker, second.pid) == ("second", 2)


async def test_a_dead_worker_s_job_whose_earlier_loss_is_not_forgotten(jobs: Jobs) -> None:
    """The same when the second worker dies as a whole, and its lease runs out."""
    ticket = jobs.action("a")
    await jobs.enqueue(ticket)
    await jobs.take(worker="first", pid=1)
    await report(jobs, "a", 1, worker="first")
    first = (await named(jobs))["a"]
    await jobs.queues.release(ticket, worker="first", over=False)
    await jobs.enqueue(ticket)
    await jobs.take(worker="second", pid=2)
    await jobs.falls_silent("second")
    await named(jobs)
    await jobs.queues.seen_after("a", first)
    assert (await named(jobs))["a"].worker == "second"


@pytest.mark.parametrize(("taken", "patience"), [(True, b"5000"), (False, None)])
async def test_a_broker_that_was_away_is_rung_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, taken: bool, patience: bytes | None
) -> None:
    """Rings that it took and nobody hears become seldom, for workers are busy; those it did not take do not."""

    def send_task(name: str, args: tuple[str], **_: object) -> None:
        if not taken:
            raise OSError("connection refused")

    monkeypatch.setattr(app, "send_task", send_task)
    jobs = Jobs(store, Limits(queue=1000), native=False)
    ours = {name: value for name, value in os.environ.items() if name.startswith("MILLPOND_")}
    settings = load_env({**ours, "MILLPOND_BROKER_URL": "amqp://localhost//"})
    bells = CeleryDoorbell(settings)
    node: Any = SimpleNamespace(queues=jobs.queues, doorbell=bells)
    node.submitter = Submitter(jobs.records, jobs.queues, bells, settings)
    await jobs.enqueue(jobs.action("a"))
    await jobs.follows_a_round()
    await store.command("HSET", jobs.names.queues("s:default"), "rung", 1)
    await Reaper(node).round()
    assert await store.command("HGET", jobs.names.queues("s:default"), "patience") == patience
    await bells.close()
    await jobs.clean()


async def test_a_database_that_is_away_is_asked_once_a_round(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost actions wait for it together, and no computation waits with them; no loss is forgotten."""
    asked: list[str] = []

    async def away(_: object, job_id: str) -> None:
        asked.append(job_id)
        raise Unavailable("the database does not answer", retry_after=2.0)

    monkeypatch.setattr(reaper_module, "in_database", away)
    for number in range(5):
        await jobs.enqueue(jobs.action(f"action{number}"))
    await jobs.submit(key(), "computation")
    for _ in range(6):
        await jobs.take(pid=1)
    for job_id in await jobs.holds():
        await report(jobs, job_id, 1)
    node: Any = SimpleNamespace(queues=jobs.queues, records=jobs.records, doorbell=SimpleNamespace(lists=lambda _: []))
    node.doorbell.bell = lambda job_id, *, queue, priority: jobs.bell(job_id, queue)
    await jobs.follows_a_round()
    await Reaper(node).round()
    assert len(asked) == 1
    assert await jobs.waiting() == ["computation"]
    assert len(await named(jobs)) == 5
