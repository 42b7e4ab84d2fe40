"""The scripts of the job layer against a model: whatever happens, each job has one attempt at a time, and one end.

Three workers with processes that take, claim, work, fall silent and die; two queues; users with a limit of what may
wait and of what may run; computations, whose records are in the store, and actions, whose rows are here in memory; a
reaper, whose code is the real one save for these rows.  What an attempt was told is kept, and said again at any time
later (zombies).  The store may lose everything.  In the end everything that was accepted comes to an end.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from itertools import chain, count
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from asgi_app.wiring import Node
from cache_layer import records as records_module
from cache_layer.outdated import of_tags
from cache_layer.queues import Limits, Lost, Ticket
from cache_layer.records import MAX_CRASHES, Ending, held
from cache_layer.redis import Store
from tasks.reaper import Reaper
from tests.support.jobs import PROBLEM, Jobs
from tests.support.keys import key
from tests.support.store import StoreServer

T = TypeVar("T")

QUEUES = ("default", "heavy")
KEYS = {name: key(name, tags=("sales",), error_ttl=600.0) for name in ("one", "two", "three")}
QUEUE_OF = {"one": "default", "two": "default", "three": "heavy"}
#: The public, the service, and two users.
LANES = ("", "*", "ann", "bob")
WORKERS = ("w0", "w1", "w2")
LIMITS = Limits(queue=6, waiting=4, running=1)
WAITING = ("queued", "retrying")
RERUNS = 5
#: Fields of a record that are compared.
_SHOWN = ("version", "status", "fence", "priority", "crashes")

picks = st.integers(0, 10**6)
_runs, _numbers, _pids = count(1), count(1), count(100)


@dataclass(eq=False)
class Job:
    """What is true of a job; of an action it is its row."""

    id: str
    kind: str
    queue: str
    priority: int
    lane: str
    what: str = ""
    status: str = "queued"
    fence: int = 0
    worker: str = ""
    crashes: int = 0
    reruns: int = 0
    cancel: bool = False
    #: Where it stands: on its queue (or parked beside it), among what is due, or nowhere.
    place: str = ""
    late: bool = False
    #: It was taken so long ago that whoever looks wonders.
    long_ago: bool = False
    outdated: bool = False
    wanted: set[str] = field(default_factory=set)
    version: int = 0
    #: Of the record: status, fence, ...
    shown: list[str] = field(default_factory=list)
    #: Of an action: its row says that it is on its queue.
    rung: bool = False

    @property
    def live(self) -> bool:
        return self.status in (*WAITING, "running")

    def ticket(self) -> Ticket:
        return Ticket(
            job_id=self.id,
            kind=cast("Any", self.kind),
            queue=self.queue,
            priority=self.priority,
            lane=self.lane,
        )


@dataclass(eq=False)
class Try:
    """One process with a job it has taken, and what it knows of it."""

    job: Job
    ticket: Ticket
    worker: str
    pid: int
    token: str
    fence: int = 0
    versions: tuple[bytes, ...] = ()
    gone: bool = False


class ModelReaper(Reaper):
    """The reaper, with rows in memory."""

    def __init__(self, machine: JobMachine) -> None:
        node = SimpleNamespace(
            store=machine.jobs.store,
            queues=machine.jobs.queues,
            records=machine.jobs.records,
            doorbell=SimpleNamespace(lists=lambda queue: [], bell=lambda job, *, queue, priority: machine.bell(queue)),
            submitter=SimpleNamespace(ring=self._ring),
        )
        super().__init__(cast("Node", node))
        self._queues = [(queue, []) for queue in QUEUES]
        self._machine = machine
        #: Attempts that the look before this one has missed: time passes from look to look.
        self._missed: set[tuple[str, int]] = set()

    async def _ring(self, queue: str, *, times: int = 1) -> bool:
        assert queue in QUEUES
        return True

    async def _see_after_action(self, job_id: str, lost: Lost) -> None:
        job = self._machine.known[job_id]
        same = job.worker == lost.worker and (lost.fence in (0, job.fence))
        if job.status == "running" and not same:
            return
        await self._machine.release(job, lost.worker)
        if job.status == "running":
            await self._machine.died(job)
        elif job.live:
            await self._machine.put(job, in_front=True)

    async def _look_at_actions(self) -> None:
        running = [job for job in self._machine.known.values() if job.kind == "action" and job.status == "running"]
        dead = await self._node.queues.expired(sorted({job.worker for job in running}))
        unheld = set()
        for job in running:
            if job.worker in dead:
                await self._machine.died(job)
            elif job.id not in await self._node.queues.held(job.worker):
                unheld.add((job.id, job.fence))
                if (job.id, job.fence) in self._missed:
                    await self._machine.died(job)
            elif job.cancel:
                await self._remind(job.id)
        self._missed = unheld


class JobMachine(RuleBasedStateMachine):
    """What happens, and what is true then."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.namespace = f"jobmodel{next(_runs)}"
        self.jobs = Jobs(Store(url, self.namespace, deadline=5.0), LIMITS, native=False)
        self.names = self.jobs.names
        self.known: dict[str, Job] = {}
        self.values: set[str] = set()
        self.failures: set[str] = set()
        self.tries: list[Try] = []
        #: What counts as running, by the user whose it is.
        self.running: dict[str, set[str]] = {}
        self.reaper = ModelReaper(self)
        for worker in WORKERS:
            self.run(self.jobs.shows_life(worker))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def command(self, *words: str | bytes | int) -> Any:
        return self.run(self.jobs.store.command(*words))

    def bell(self, queue: str) -> Any:
        return self.jobs.bell("", queue)

    def live_of(self, what: str) -> Job | None:
        return next((job for job in self.known.values() if job.what == what and job.live), None)

    def some(self, among: Iterable[T], pick: int) -> T:
        options = list(among)
        return options[pick % len(options)]

    @initialize(seed=st.integers(0, 2**32))
    def much_happens(self, seed: int) -> None:
        """Before the rules are drawn, of which each example leaves out some: a crowd of jobs, tries and zombies."""
        dice = random.Random(seed)
        for _ in range(25):
            pick, worker = dice.randrange(10**6), dice.choice(WORKERS)
            lane, priority, queue = dice.choice(LANES), dice.choice((1, 5, 9)), dice.choice(QUEUES)
            steps: list[tuple[Callable[[], None], object]] = [
                (lambda: self.submit(dice.choice(sorted(KEYS)), lane, priority, dice.random() < 0.8, False), True),  # noqa: B023
                (lambda: self.ask_for_an_action(queue, lane, priority, False), True),  # noqa: B023
                (lambda: self.take(worker, queue), True),  # noqa: B023
                (lambda: self.work(worker, queue), True),  # noqa: B023
                (lambda: self.what_was_taken_is_cancelled(pick), self._unclaimed()),  # noqa: B023
                (lambda: self.a_worker_is_replaced(pick), self._now_running()),  # noqa: B023
                (lambda: self.a_zombie_writes(pick, dice.choice(("commit", "failed", "retrying"))), self._zombies()),  # noqa: B023
                (lambda: self._finishes(self.some(self._now_running(), pick)), self._now_running()),  # noqa: B023
                (lambda: self._ends(self.some(self._now_running(), pick), "retrying", 0.0), self._now_running()),  # noqa: B023
            ]
            dice.choice([step for step, possible in steps if possible])()
            self.everything_is_as_it_should_be()

    # --- who asks

    @rule(
        what=st.sampled_from(sorted(KEYS)),
        lane=st.sampled_from(LANES),
        priority=st.sampled_from((1, 5, 9)),
        force=st.booleans(),
        expires=st.booleans(),
    )
    def submit(self, what: str, lane: str, priority: int, force: bool, expires: bool) -> None:
        queue, job_id = QUEUE_OF[what], f"c{next(_numbers):06}"
        live = self.live_of(what)
        if not force and what in self.values:
            expected = "hit"
        elif not force and what in self.failures:
            expected = "failed"
        elif live is not None:
            expected = "joined"
        elif len(self._on_queue(queue)) >= LIMITS.queue:
            expected = "full"
        elif LIMITS.of_lane(lane) and self._wait_of(lane) >= LIMITS.waiting:
            expected = "crowded"
        else:
            expected = "created"
        answer = self.run(
            self.jobs.submit(
                KEYS[what],
                job_id,
                force=force,
                queue=queue,
                priority=priority,
                lane=lane,
                expires=600.0 if expires else None,
            )
        )
        assert answer.what == expected
        if expected == "joined":
            assert live is not None
            assert answer.job_id == live.id
            live.wanted.add(lane)
            if live.status == "queued" and live.place and priority > live.priority:
                live.priority = priority
        elif expected == "created":
            made = Job(job_id, "computation", queue, priority, lane, what=what, place="queue", wanted={lane})
            self.known[job_id] = made

    @rule(
        queue=st.sampled_from(QUEUES),
        lane=st.sampled_from(LANES),
        priority=st.sampled_from((1, 5, 9)),
        dies=st.integers(0, 3).map(lambda dice: dice == 0),
    )
    def ask_for_an_action(self, queue: str, lane: str, priority: int, dies: bool) -> None:
        """The row is committed; whoever has done so may die before it is on its queue."""
        if len([job for job in self.known.values() if job.kind == "action" and job.live]) >= 5:
            return
        job = Job(f"a{next(_numbers):06}", "action", queue, priority, lane)
        self.known[job.id] = job
        if not dies:
            self.run(self.put(job))

    async def put(self, job: Job, *, due: float = 0.0, in_front: bool = False) -> None:
        await self.jobs.enqueue(job.ticket(), due=due, in_front=in_front)
        if not job.place or (job.place == "due" and not due):
            job.place = "due" if due else "queue"
            self._runs_not(job)
        job.rung = True

    @rule()
    def relay(self) -> None:
        for job in self._of("action"):
            if job.status in WAITING and not job.rung:
                self.run(self.put(job))

    @rule()
    def compare(self) -> None:
        """Rows that say they are on their queue and are not."""
        rung = [job for job in self._of("action") if job.status in WAITING and job.rung]
        for job, waits in zip(rung, self.run(self.jobs.queues.waits([job.id for job in rung])), strict=True):
            assert waits == bool(job.place)
            job.rung = waits

    @precondition(lambda self: any(job.live for job in self.known.values()))
    @rule(pick=picks, by=st.sampled_from(("", "ann", "bob")))
    def cancel(self, pick: int, by: str) -> None:
        job = self.some((job for job in self.known.values() if job.live), pick)
        if job.kind == "action":
            self.run(self._cancel_action(job))
            return
        kept = bool(by) and bool(job.wanted - {"", by})
        assert self.run(self.jobs.records.cancel(job.id, by=by)) == (job.status, kept)
        if kept:
            job.wanted.discard(by)
        elif job.status == "running":
            job.cancel = True
        else:
            self._over(job, "cancelled")

    async def _cancel_action(self, job: Job) -> None:
        """As `Desk.cancel` does."""
        if job.status == "running":
            job.cancel = True
            await self.jobs.queues.ask_for_end(job.id)
        else:
            self._over(job, "cancelled")
            await self.release(job, "", over=True)

    # --- who works

    @rule(worker=st.sampled_from(WORKERS), queue=st.sampled_from(QUEUES))
    def take(self, worker: str, queue: str) -> None:
        order = self._on_queue(queue)
        full = {lane for lane, ids in self.running.items() if len(ids) >= LIMITS.running}
        first = next((job for job in order if job.lane not in full), None)
        pid = next(_pids)
        ticket = self.run(self.jobs.take(queue, worker=worker, pid=pid))
        assert ticket == (first.ticket() if first else None)
        if first is None or ticket is None:
            return
        first.place = ""
        first.long_ago = False
        if first.lane in ("ann", "bob"):
            self.running.setdefault(first.lane, set()).add(first.id)
        self.tries.append(Try(first, ticket, worker, pid, f"t{pid}"))

    @precondition(lambda self: any(not one.gone for one in self.tries))
    @rule(pick=picks)
    def claim(self, pick: int) -> None:
        """The first time, or once more, because the answer was lost or it comes late."""
        self._claims(self.some((one for one in self.tries if not one.gone), pick))

    def _claims(self, one: Try) -> None:
        if one.job.kind == "action":
            self.run(self._claim_action(one))
            return
        job = one.job
        if job.id not in self.known:
            expected = "gone"
        elif job.status == "running":
            expected = "claimed" if one.fence == job.fence else "duplicate"
        elif not job.live:
            expected = "over"
        else:
            expected = "expired" if job.late else "claimed"
        got = self.run(
            self.jobs.claim(job.id, KEYS[job.what], worker=one.worker, pid=one.pid, token=one.token, ticket=one.ticket)
        )
        assert got.what == expected
        if expected in ("gone", "over", "expired"):
            self._runs_not(job)
        if expected == "expired":
            self._over(job, "expired")
        if expected != "claimed":
            return
        if job.status != "running":
            job.status, job.worker, job.place, job.outdated = "running", one.worker, "", False
            job.fence += 1
        else:  # the versions are captured once more, before the function begins
            job.outdated = job.outdated and got.tag_versions == one.versions
        assert got.fence == job.fence
        one.fence, one.versions = got.fence, got.tag_versions

    async def _claim_action(self, one: Try) -> None:
        """As `ActionAttempt.claim` does."""
        job = one.job
        if job.status not in WAITING:
            await self._leave(one)
            return
        job.fence += 1
        job.status, job.worker, job.rung = "running", one.worker, True
        one.fence = job.fence
        await self.jobs.queues.hold(one.worker, job.id, held(one.ticket, pid=one.pid, fence=one.fence, deadline=9))

    async def _leave(self, one: Try) -> None:
        if not one.job.live:
            await self.release(one.job, one.worker, over=True)
        else:
            await self.jobs.queues.let_go(one.job.id, worker=one.worker, pid=one.pid, fence=one.fence)

    # What random steps alone would seldom lead to.

    @rule(worker=st.sampled_from(WORKERS), queue=st.sampled_from(QUEUES))
    def work(self, worker: str, queue: str) -> None:
        before = len(self.tries)
        self.take(worker, queue)
        for one in self.tries[before:]:
            self._claims(one)

    def _now_running(self) -> list[Try]:
        return [one for one in self._claimed() if one.job.status == "running" and one.job.fence == one.fence]

    @precondition(lambda self: self._now_running())
    @rule(pick=picks)
    def a_worker_is_replaced(self, pick: int) -> None:
        """It seems dead, and others do its work."""
        one = self.some(self._now_running(), pick)
        self.a_worker_falls_silent(one.worker)
        self.a_round()
        for worker in WORKERS:
            if worker != one.worker:
                self.work(worker, one.job.queue)

    def _zombies(self) -> list[Try]:
        return [one for one in self._claimed() if one.job.status == "running" and one.fence < one.job.fence]

    @precondition(lambda self: self._zombies())
    @rule(pick=picks, how=st.sampled_from(("commit", "failed", "retrying", "interrupted", "cancelled")))
    def a_zombie_writes(self, pick: int, how: Any) -> None:
        one = self.some(self._zombies(), pick)
        if how == "commit":
            self._finishes(one)
        else:
            self._ends(one, how, 0.0)

    def _unclaimed(self) -> list[Try]:
        return [one for one in self.tries if not one.fence and not one.gone and one.job.status in WAITING]

    @precondition(lambda self: self._unclaimed())
    @rule(pick=picks)
    def what_was_taken_is_cancelled(self, pick: int) -> None:
        one = self.some(self._unclaimed(), pick)
        if one.job.kind == "action":
            self.run(self._cancel_action(one.job))
        elif one.job.id in self.known:
            self.run(self.jobs.records.cancel(one.job.id))
            self._over(one.job, "cancelled")
        self._claims(one)

    def _claimed(self) -> list[Try]:
        return [one for one in self.tries if one.fence and not one.gone]

    @precondition(lambda self: self._claimed())
    @rule(pick=picks, progress=st.booleans())
    def beat(self, pick: int, progress: bool) -> None:
        one = self.some(self._claimed(), pick)
        job = one.job
        ours = job.id in self.known and job.status == "running" and job.fence == one.fence
        holding = held(one.ticket, pid=one.pid, fence=one.fence, deadline=9)
        report = b'{"done":1}' if progress else b""
        got = self.run(self.jobs.records.beat(job.id, one.fence, worker=one.worker, holding=holding, progress=report))
        if job.kind == "computation":
            assert got == ("cancel" if ours and job.cancel else "on" if ours else "lost")
        elif got == "unknown":  # the database knows
            if ours:
                self.run(self.jobs.queues.hold(one.worker, job.id, holding))
        elif not ours:
            assert got != "cancel" or job.cancel

    @precondition(lambda self: self._claimed())
    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        """The function has returned."""
        self._finishes(self.some(self._claimed(), pick))

    def _finishes(self, one: Try) -> None:
        job = one.job
        ours = job.id in self.known and job.status == "running" and job.fence == one.fence
        if job.kind == "action":
            self.run(self._finish_action(one, ours))
            return
        rerun = job.outdated and not job.cancel and job.reruns < RERUNS
        got = self.run(
            self.jobs.commit(
                KEYS[job.what],
                job.id,
                records_module.Claim(what="claimed", fence=one.fence, tag_versions=one.versions),
                worker=one.worker,
            )
        )
        assert got.what == ("revoked" if not ours else "superseded" if job.outdated else "stored")
        if not ours:
            return
        if not job.outdated:
            self.values.add(job.what)
            self.failures.discard(job.what)
            self._over(job, "succeeded")
        elif job.cancel:
            self._over(job, "cancelled")
        elif rerun:
            assert got.ring == 1
            job.reruns += 1
            self._waits(job, "queued", "queue")
        else:
            assert got.ring == -1
            job.reruns += 1
            self._ends(one, "failed", 0.0)

    async def _finish_action(self, one: Try, ours: bool) -> None:
        if ours:
            self._over(one.job, "succeeded")
            await self.release(one.job, one.worker, over=True)
        else:
            await self._leave(one)

    @precondition(lambda self: self._claimed())
    @rule(
        pick=picks,
        how=st.sampled_from(("failed", "retrying", "interrupted", "cancelled")),
        due=st.sampled_from((0.0, 600.0)),
    )
    def end(self, pick: int, how: Ending, due: float) -> None:
        """The function has raised, or stopped."""
        self._ends(self.some(self._claimed(), pick), how, due if how == "retrying" else 0.0)

    def _ends(self, one: Try, how: Ending, due: float) -> None:
        job = one.job
        ours = job.id in self.known and job.status == "running" and job.fence == one.fence
        if job.kind == "action":
            self.run(self._end_action(one, how, due, ours))
            return
        problem = PROBLEM if how in ("failed", "retrying") else b""
        got = self.run(self.jobs.end(job.id, one.fence, how, worker=one.worker, problem=problem, due=due))
        assert got.status == (self._ended(job, how, due) if ours else "")

    def _ended(self, job: Job, how: str, due: float) -> str:
        """What the end of an attempt makes of a computation."""
        if how == "died":
            job.crashes += 1
        again = how in ("retrying", "interrupted", "died")
        if how == "died" and job.crashes >= MAX_CRASHES:
            self._over(job, "dead")
            self.failures.add(job.what)
        elif again and job.cancel:
            self._over(job, "cancelled")
        elif again:
            job.reruns += how == "interrupted"
            self._waits(job, "retrying" if how == "retrying" else "queued", "due" if due else "queue")
        else:
            self._over(job, how)
            if how == "failed":
                self.failures.add(job.what)
        return job.status

    async def _end_action(self, one: Try, how: Ending, due: float, ours: bool) -> None:
        """As `ActionAttempt` does, with `ledger.again` and `ledger.end`."""
        job = one.job
        if not ours:
            await self._leave(one)
        elif how in ("failed", "cancelled") or job.cancel:
            self._over(job, "cancelled" if job.cancel else how)
            await self.release(job, one.worker, over=True)
        else:
            job.status, job.worker, job.rung = ("retrying" if how == "retrying" else "queued"), "", False
            await self.release(job, one.worker)
            await self.put(job, due=due, in_front=not due)

    async def release(self, job: Job, worker: str, *, over: bool = False) -> None:
        await self.jobs.queues.release(job.ticket(), worker=worker, over=over)
        self._runs_not(job)
        job.place = ""

    # --- accidents

    @precondition(lambda self: any(not one.gone for one in self.tries))
    @rule(pick=picks)
    def a_process_dies(self, pick: int) -> None:
        """Its worker's parent sees it."""
        one = self.some((one for one in self.tries if not one.gone), pick)
        self._process_dies(one)

    def _process_dies(self, one: Try) -> None:
        one.gone = True
        self._reported(one)

    def _reported(self, one: Try) -> None:
        places = [self.names.held(one.worker), self.names.losses()]
        self.run(self.jobs.store.script("lost", places, [one.job.id, one.pid, one.worker, "died", ""]))

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_looks(self, worker: str) -> None:
        """At what its processes hold, with each sign of life: a loss of the same job may have hidden another."""
        gone = {one.pid: one for one in self.tries if one.gone and one.worker == worker}
        for about in self._hash(self.names.held(worker)).values():
            if one := gone.get(json.loads(about)["pid"]):
                self._reported(one)

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_falls_silent(self, worker: str) -> None:
        """It may be dead, or come back; what its processes do meanwhile they do."""
        self.run(self.jobs.falls_silent(worker))

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_shows_life(self, worker: str) -> None:
        self.run(self.jobs.shows_life(worker))

    @rule()
    def everything_is_outdated(self) -> None:
        """By a tag: softly or not, what was computed from the data of before is not stored."""
        self.run(self.jobs.cache.invalidate(of_tags("sales")))
        for job in self.known.values():
            job.outdated = job.outdated or job.status == "running"
        for what in self.values:
            self.command("UNLINK", self.names.entry(KEYS[what]))
        self.values.clear()

    @rule()
    def failures_are_forgotten(self) -> None:
        for what in self.failures:
            self.command("UNLINK", self.names.failure(KEYS[what]))
        self.failures.clear()

    @rule(pick=picks)
    def time_passes(self, pick: int) -> None:
        """What is due is due; what may expire has; what was taken was taken long ago."""
        due = self.names.queues("due")
        for job_id in self.command("ZRANGE", due, 0, -1):
            self.command("ZADD", due, 1, job_id)
        for number, job in enumerate(self._of("computation")):
            record = self.names.job(job.id)
            if job.status in WAITING:
                self.command("HSET", record, "taken_at", 1)
                job.long_ago = True
                if (pick >> number) % 2 and self.command("HGET", record, "expires_at"):
                    self.command("HSET", record, "expires_at", 1)
                    job.late = True

    @precondition(lambda self: len(self.known) > 2)
    @rule(dice=st.integers(0, 4))
    def the_store_loses_everything(self, dice: int) -> None:
        if dice:
            return
        names = self.command("KEYS", f"*{{{self.namespace}}}*")
        if names:
            self.command("UNLINK", *names)
        self.known = {job.id: job for job in self._of("action")}
        self.values.clear()
        self.failures.clear()
        self.running.clear()
        for job in self.known.values():
            job.place, job.rung = "", job.rung and job.status not in WAITING  # `ledger.forget_rings`
        for worker in WORKERS:
            self.run(self.jobs.shows_life(worker))

    # --- the reaper

    @rule()
    def a_round(self) -> None:
        lost = self._losses()
        self.run(self.jobs.follows_a_round())
        now = int(self.command("TIME")[0]) * 1000
        for job_id in self.command("ZRANGE", self.names.queues("due"), "-inf", now, "BYSCORE"):
            self.known[job_id.decode()].place = "queue"
        self.run(self._round(lost))
        assert self.command("HLEN", self.names.losses()) == 0

    async def _round(self, lost: dict[str, dict[str, Any]]) -> None:
        """The real one; what it will make of computations the model says before, of actions it is told meanwhile."""
        for job_id, about in lost.items():
            job = self.known.get(job_id)
            if job is not None and job.kind == "computation":
                await self._lost(job, about)
        await self.reaper.round()

    async def _lost(self, job: Job, about: dict[str, Any]) -> None:
        fence = about["fence"]
        if fence == 0:
            if job.status in WAITING:
                if not job.place:
                    self._waits(job, job.status, "queue")
                return
            if job.status != "running":
                self._runs_not(job)
                return
            record = await self.jobs.fields(job.id)
            if (record["worker"], record["pid"]) != (about["worker"], str(about["pid"])):
                return
            fence = job.fence
        if job.status == "running" and job.fence == fence:
            self._ended(job, "died", 0.0)

    def _losses(self) -> dict[str, dict[str, Any]]:
        """What a round is going to find lost."""
        found: dict[str, dict[str, Any]] = {}
        now = int(self.command("TIME")[0]) * 1000
        for worker in self.command("ZRANGE", self.names.lives(), "-inf", now, "BYSCORE"):
            raw = self._hash(self.names.held(worker.decode()))
            found |= {job_id: {**json.loads(about), "worker": worker.decode()} for job_id, about in raw.items()}
        raw = self._hash(self.names.losses())
        return found | {job_id: json.loads(about) for job_id, about in raw.items()}

    async def died(self, job: Job) -> None:
        """As `ledger.died`, and what `Reaper._action_lost` does then."""
        job.crashes += 1
        if job.cancel or job.crashes >= MAX_CRASHES:
            worker = job.worker
            self._over(job, "cancelled" if job.cancel else "dead")
            await self.release(job, worker, over=True)
            return
        job.status, job.worker, job.rung = "queued", "", False
        due = 0.0 if job.crashes == 1 else 600.0
        await self.put(job, due=due, in_front=not due)

    @rule()
    def a_look(self) -> None:
        """Everything is looked after."""
        live = self.names.live()
        for job_id in self.command("ZRANGE", live, 0, -1):
            self.command("ZADD", live, 1, job_id)
        for job in self._of("computation"):
            if job.status in WAITING and job.late:
                self._over(job, "expired")
            elif job.status in WAITING and not job.place and job.long_ago:
                self._waits(job, "queued", "queue")
            elif job.status == "running" and self.command("HGET", self.names.job(job.id), "unheld_at"):
                self.command("HSET", self.names.job(job.id), "unheld_at", 1)  # it was long ago
        self.run(self.reaper.look())

    # --- what is true

    def _of(self, kind: str) -> list[Job]:
        return [job for job in self.known.values() if job.kind == kind]

    def _wait_of(self, lane: str) -> int:
        return sum(job.place == "queue" and job.lane == lane for job in self.known.values())

    def _on_queue(self, queue: str) -> list[Job]:
        """The next first; what is parked beside it does not count."""
        return [self.known[job_id] for job_id in self.run(self.jobs.waiting(queue))]

    def _runs_not(self, job: Job) -> None:
        self.running.get(job.lane, set()).discard(job.id)

    def _over(self, job: Job, status: str) -> None:
        """A job that ran counts no longer; one that was taken and not claimed does until its claim is refused."""
        if job.status == "running":
            self._runs_not(job)
        job.status, job.place = status, ""

    def _waits(self, job: Job, status: str, place: str) -> None:
        job.status, job.place, job.long_ago = status, place, False
        self._runs_not(job)

    def _hash(self, name: str) -> dict[str, str]:
        raw = self.command("HGETALL", name)
        pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
        return {field_.decode(): value.decode() for field_, value in pairs}

    def _ids(self, *command: str | int) -> list[str]:
        return [job_id.decode() for job_id in self.command(*command)]

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        """In the store as in the model, seen at one moment."""
        queues = self.names.queues
        computations = self._of("computation")
        on_queues = [("ZRANGE", self.names.waiting(queue), 0, -1) for queue in QUEUES]
        parked = [("LRANGE", queues(f"p:{lane}"), 0, -1) for lane in ("ann", "bob")]
        running = [("ZRANGE", queues(f"r:{lane}"), 0, -1) for lane in ("ann", "bob")]
        leases = [("GET", self.names.lease(of)) for of in KEYS.values()]
        records = [("HMGET", self.names.job(job.id), *_SHOWN) for job in computations]
        others = [
            ("HGETALL", queues("of")),
            ("HGETALL", queues("lanes")),
            ("SMEMBERS", queues("parked")),
            ("ZRANGE", queues("due"), 0, -1),
            ("ZRANGE", self.names.live(), 0, -1),
        ]
        commands = [*on_queues, *parked, *running, *leases, *records, *others]
        found = [_decoded(raw) for raw in self.run(self.jobs.store.transaction(*commands))]
        parts = iter(found)
        shown = [[next(parts) for _ in kind] for kind in (on_queues, parked, running, leases, records, others)]
        self._places(shown[0], shown[1], *shown[5][:4])
        assert [set(ids) for ids in shown[2]] == [self.running.get(lane, set()) for lane in ("ann", "bob")]
        self._records(computations, shown[4], shown[3], shown[5][4])

    def _places(
        self, on_queues: list[Any], parked: list[Any], of: Any, lanes: Any, parked_lanes: Any, due: Any
    ) -> None:
        """Each waiting job in exactly one place, with its count, and nothing else anywhere."""
        places = {job.id: job.place for job in self.known.values() if job.place}
        assert sorted([*chain(*on_queues, *parked), *due]) == sorted(places)
        assert {job_id for job_id, place in places.items() if place == "due"} == set(due)
        assert set(_pairs(of)) == places.keys()
        assert _pairs(lanes) == {lane: str(self._wait_of(lane)) for lane in LANES if self._wait_of(lane)}
        assert set(parked_lanes) == {lane for lane, ids in zip(("ann", "bob"), parked, strict=True) if ids}
        for ids in on_queues:
            priorities = [self.known[job_id].priority for job_id in ids]
            assert priorities == sorted(priorities, reverse=True)

    def _records(self, computations: list[Job], records: list[Any], leases: list[Any], live: Any) -> None:
        """One live job for a key; a version that grows; a terminal status that stays."""
        expected = {job.what: job.id for job in computations if job.live}
        assert sorted(live) == sorted(expected.values())
        assert leases == [expected.get(what) for what in KEYS]
        for job, (version, *rest) in zip(computations, records, strict=True):
            now = [job.status, str(job.fence), str(job.priority), str(job.crashes)]
            assert rest == now
            assert int(version) > job.version or (int(version) == job.version and job.shown[:2] == now[:2])
            job.version, job.shown = int(version), now

    def teardown(self) -> None:
        """Everything comes to an end; then nothing is left."""
        try:
            self._come_to_an_end()
            assert self.run(self.jobs.left()) in ([], ["cancels"])
            names = self.command("KEYS", f"*{{{self.namespace}}}*")
            eternal = [name for name in names if self.command("PTTL", name) == -1]
            assert not eternal, f"keys without a TTL: {eternal}"
        finally:
            self.run(self.jobs.store.close())

    def _come_to_an_end(self) -> None:
        for one in self.tries:
            if not one.gone:
                self._process_dies(one)
        for turn in range(40):
            for worker in WORKERS:
                self.a_worker_shows_life(worker)
                self.a_worker_looks(worker)
            self.time_passes(0)
            self.a_look()
            self.compare()
            self.relay()
            self.a_round()
            self.everything_is_as_it_should_be()
            held = any(self._hash(self.names.held(worker)) for worker in WORKERS)
            if not held and not any(job.live for job in self.known.values()):
                return
            for queue in QUEUES:
                before = len(self.tries)
                self.take(WORKERS[turn % 3], queue)
                for one in self.tries[before:]:
                    self._claims(one)
                    if one.fence:
                        self._finishes(one)
        alive = [job for job in self.known.values() if job.live]
        raise AssertionError(f"these come to no end, or are held: {alive}")


def _decoded(raw: Any) -> Any:
    if isinstance(raw, bytes):
        return raw.decode()
    if isinstance(raw, dict):
        return {_decoded(name): _decoded(value) for name, value in raw.items()}
    return [_decoded(part) for part in raw] if isinstance(raw, list | set) else raw


def _pairs(found: Any) -> dict[str, str]:
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))


def test_each_job_has_one_attempt_and_one_end(store_server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """See the module."""
    monkeypatch.setattr(records_module, "WANTED", 3600.0)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        class Machine(JobMachine):
            def __init__(self) -> None:
                super().__init__(store_server.url, loop)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=60,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=[Phase.generate],  # shrinking would take longer than a test may
            ),
        )
