"""Who is next: the most urgent; among those the lanes take turns; and none runs more than it may."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cache_layer.queues import Limits, Ticket
from cache_layer.redis import Store
from tests.support.jobs import Jobs
from tests.support.keys import key
from tests.support.store import StoreServer

_runs = count(1)


@pytest.fixture
async def jobs(store: Store) -> AsyncIterator[Jobs]:
    made = Jobs(store, Limits(queue=10_000), native=False)
    yield made
    await made.clean()


async def ask(jobs: Jobs, lane: str, *names: str, priority: int = 5, queue: str = "default") -> None:
    for name in names:
        await jobs.enqueue(jobs.action(name, lane=lane, priority=priority, queue=queue))


async def taken(jobs: Jobs, most: int = 100, queue: str = "default", worker: str = "w") -> list[str]:
    """What workers get one after the other."""
    found: list[str] = []
    while len(found) < most and (ticket := await jobs.take(queue, worker=worker)) is not None:
        found.append(ticket.job_id)
    return found


def several(letter: str, number: int) -> list[str]:
    return [f"{letter}{n:03}" for n in range(number)]


async def end(jobs: Jobs, job_id: str, lane: str, worker: str = "w") -> str:
    return await jobs.queues.release(jobs.action(job_id, lane=lane), worker=worker, over=True)


async def test_the_most_urgent_is_next(jobs: Jobs) -> None:
    """Priorities are strict, 9 before 0, whenever a job came and whoever asked for it."""
    order = [3, 9, 0, 5, 7, 1, 8, 2, 6, 4]
    for priority in order:
        await ask(jobs, f"lane {priority % 3}", f"p{priority}", priority=priority)
    assert await taken(jobs) == [f"p{priority}" for priority in range(9, -1, -1)]


async def test_one_lane_is_first_in_first_out(jobs: Jobs) -> None:
    """Also over a long queue that was taken from in between."""
    await ask(jobs, "ann", *several("a", 20))
    first = await taken(jobs, 7)
    await ask(jobs, "ann", *several("b", 5))
    assert first + await taken(jobs) == several("a", 20) + several("b", 5)


async def test_lanes_take_turns(jobs: Jobs) -> None:
    """However many jobs one of them has."""
    await ask(jobs, "ann", *several("a", 50))
    await ask(jobs, "bob", *several("b", 3))
    await ask(jobs, "", *several("c", 2))
    order = await taken(jobs)
    assert order[0] == "a000"
    assert {letter: [one for one in order if one[0] == letter] for letter in "abc"} == {
        "a": several("a", 50),
        "b": several("b", 3),
        "c": several("c", 2),
    }
    assert Counter(one[0] for one in order[:8]) == {"a": 3, "b": 3, "c": 2}


async def test_who_comes_later_is_not_behind_a_backlog(jobs: Jobs) -> None:
    """A lane that was idle gets its turn at once, and no more turns than the others for having been idle."""
    await ask(jobs, "ann", *several("a", 100))
    await taken(jobs, 40)
    await ask(jobs, "bob", *several("b", 10))
    order = await taken(jobs, 20)
    assert order.index("b000") <= 1
    assert Counter(one[0] for one in order) == {"a": 10, "b": 10}


async def test_turns_of_one_priority_owe_nothing_to_another(jobs: Jobs) -> None:
    """Who had many urgent jobs is not behind with others."""
    await ask(jobs, "ann", *several("u", 30), priority=9)
    await ask(jobs, "ann", *several("a", 2))
    await ask(jobs, "bob", *several("b", 2))
    order = (await taken(jobs))[30:]
    assert sorted(order[:2]) == ["a000", "b000"]


async def test_what_is_in_front_is_next(jobs: Jobs) -> None:
    """What was interrupted goes before all others of its priority, and behind the more urgent."""
    await ask(jobs, "ann", *several("a", 3))
    await ask(jobs, "bob", *several("b", 3))
    await taken(jobs, 2)
    await ask(jobs, "cat", "urgent", priority=6)
    await jobs.enqueue(jobs.action("zzz", lane="ann"), in_front=True)
    assert await taken(jobs, 2) == ["urgent", "zzz"]


async def test_an_empty_queue_forgets(jobs: Jobs) -> None:
    """Nobody is behind for what was taken before a queue was empty, and nothing is kept of it."""
    await ask(jobs, "ann", *several("a", 30))
    await taken(jobs)
    assert await jobs.left() == ["h:w"]
    await ask(jobs, "ann", "a1", "a2")
    await ask(jobs, "bob", "b1", "b2")
    order = await taken(jobs)
    assert {order[0], order[1]} == {"a1", "b1"}


async def test_many_lanes_leave_no_traces(jobs: Jobs) -> None:
    """What thousands of users were owed is dropped when it makes no difference; the order of each stays."""
    await ask(jobs, "ann", *several("a", 3), priority=1)
    await ask(jobs, "ann", "held")
    for n in range(4200):
        await ask(jobs, f"user {n}", f"j{n:04}")
        await taken(jobs, 1)
    assert await jobs.store.command("HLEN", jobs.names.queues("t:default")) < 4200
    await ask(jobs, "ann", "last", priority=1)
    assert [one for one in await taken(jobs) if one[0] in "al"] == [*several("a", 3), "last"]


async def test_a_place_is_told(jobs: Jobs) -> None:
    """The next is at 1; what does not wait is nowhere."""
    await ask(jobs, "ann", *several("a", 3))
    await ask(jobs, "bob", "b000")
    places = {name: await jobs.queues.position("default", name) for name in [*several("a", 3), "b000", "never"]}
    assert places == {"a000": 1, "b000": 2, "a001": 3, "a002": 4, "never": None}
    await taken(jobs, 1)
    assert await jobs.queues.position("default", "a002") == 3
    assert await jobs.queues.position("default", "a000") is None


async def test_who_is_more_urgent_takes_it_along(jobs: Jobs) -> None:
    """A job that is asked for with a higher priority gets it; with a lower one it keeps its own."""
    await jobs.submit(key("other"), "other", priority=5)
    await jobs.submit(key("mine"), "mine", priority=3)
    await jobs.submit(key("mine"), "again", priority=1)
    assert await jobs.waiting() == ["other", "mine"]
    await jobs.submit(key("mine"), "again", priority=8)
    assert await jobs.waiting() == ["mine", "other"]
    fields = await jobs.fields("mine")
    assert (fields["priority"], fields["version"]) == ("8", "2")
    assert await jobs.queues.position("default", "mine") == 1


# --- how many may run


@pytest.fixture
async def capped(store: Store) -> AsyncIterator[Jobs]:
    made = Jobs(store, Limits(queue=10_000, running=2), native=False)
    yield made
    await made.clean()


async def test_a_lane_runs_no_more_than_it_may(capped: Jobs) -> None:
    """What is too much is put aside, and comes when one has ended, in its order; nobody else waits for it."""
    await ask(capped, "ann", *several("a", 5))
    await ask(capped, "bob", "b000")
    assert sorted(await taken(capped)) == ["a000", "a001", "b000"]
    assert await end(capped, "a000", "ann") == "default"
    assert await taken(capped) == ["a002"]
    for over, following in (("a001", ["a003"]), ("a002", ["a004"]), ("a003", []), ("a004", [])):
        await end(capped, over, "ann")
        assert await taken(capped) == following
    await end(capped, "b000", "bob")
    assert await capped.left() == []


async def test_the_public_and_the_service_run_what_they_want(capped: Jobs) -> None:
    """The limit is for users."""
    for lane in ("", "*"):
        await ask(capped, lane, *several(f"lane{lane}", 4))
    assert len(await taken(capped)) == 8


async def test_what_was_put_aside_may_be_cancelled(capped: Jobs) -> None:
    """It counts as waiting, leaves nothing behind, and the next takes its turn."""
    await ask(capped, "ann", *several("a", 4))
    await taken(capped)
    assert await capped.queues.waits(several("a", 4)) == [False, False, True, True]
    await end(capped, "a002", "ann")
    await end(capped, "a000", "ann")
    assert await taken(capped) == ["a003"]


async def test_what_ended_without_telling_gives_its_place_back(capped: Jobs) -> None:
    """A reaper's round lets go on what waits for a job that has long ended for certain."""
    await ask(capped, "ann", *several("a", 4))
    await taken(capped)
    assert (await capped.round()).rings == {}
    for job_id in ("a000", "a001"):
        await capped.store.command("ZADD", capped.names.queues("r:ann"), 1, job_id)
    for expected in ("a002", "a003"):
        assert (await capped.round()).rings == {"default": 1}
        assert await taken(capped) == [expected]


@pytest.mark.parametrize("what", ["over", "gone", "expired"])
async def test_a_refused_claim_gives_its_place_back(capped: Jobs, what: str) -> None:
    """A computation that is not run after all, when a worker has taken it, does not count as running."""
    for n in range(3):
        await capped.submit(key(f"k{n}"), f"job{n}", lane="ann", expires=60.0)
    tickets = [await capped.take() for _ in range(3)]
    assert tickets[2] is None
    if what == "over":
        await capped.records.cancel("job0")
    elif what == "gone":
        await capped.store.command("UNLINK", capped.names.job("job0"))
    else:
        await capped.store.command("HSET", capped.names.job("job0"), "expires_at", 1)
    claim = await capped.claim("job0", key("k0"), ticket=tickets[0])
    assert (claim.what, claim.going_on) == (what, "default")
    assert await taken(capped) == ["job2"]


async def test_a_job_does_not_wait_for_its_own_end(store: Store) -> None:
    """Taken by a process that died before it claimed it, it is put on its queue again, and taken."""
    jobs = Jobs(store, Limits(queue=10, running=1), native=False)
    await jobs.submit(key(), "a", lane="ann")
    ticket = await jobs.take()
    assert ticket is not None
    assert await jobs.enqueue(ticket, in_front=True)
    assert await jobs.take(worker="another") == ticket
    await jobs.clean()


# --- how many may wait


async def test_a_full_queue_says_when_it_is_worth_asking_again(store: Store) -> None:
    """From how fast it was taken from lately; while nobody knows, it says nothing."""
    jobs = Jobs(store, Limits(queue=20), native=False)
    await ask(jobs, "", *several("a", 20))
    assert await jobs.queues.admit("default", "ann") == await jobs.queues.admit("default", "")
    admission = await jobs.queues.admit("default", "ann")
    assert (admission.what, admission.wait) == ("full", None)
    assert (await jobs.queues.admit("other", "ann")).what == "yes"
    await taken(jobs, 10)
    now = int((await store.command("TIME"))[0]) * 1000
    await store.command("HSET", jobs.names.queues("s:default"), "since", now - 5000, "n", 10)
    await ask(jobs, "", *several("b", 10))
    admission = await jobs.queues.admit("default", "ann")
    assert admission.what == "full"
    assert admission.wait == pytest.approx(10, rel=0.3)
    refused = await jobs.submit(key(), "late")
    assert refused.what == "full"
    assert refused.wait == pytest.approx(10, rel=0.3)
    await jobs.clean()


async def test_a_crowded_lane_is_refused_alone(store: Store) -> None:
    """One user's jobs do not fill a queue; the public and the service have no such limit."""
    jobs = Jobs(store, Limits(queue=100, waiting=2, running=1), native=False)
    await ask(jobs, "ann", *several("a", 2))
    assert (await jobs.queues.admit("default", "ann")).what == "crowded"
    assert (await jobs.submit(key(), "c", lane="ann")).what == "crowded"
    assert {(await jobs.queues.admit("default", lane)).what for lane in ("bob", "", "*")} == {"yes"}
    await taken(jobs, 1)
    assert (await jobs.submit(key(), "c", lane="ann")).what == "created"
    assert await taken(jobs) == []
    assert (await jobs.queues.admit("default", "ann")).what == "crowded", "what was put aside waits, too"
    await jobs.clean()


# --- against a model


class Fair:
    """Self-clocked fair queueing of equal jobs (Golestani, INFOCOM 1994), for each priority on its own."""

    def __init__(self) -> None:
        self._clock: dict[int, int] = defaultdict(int)
        self._finish: dict[tuple[int, str], int] = defaultdict(int)
        self._waiting: list[tuple[int, int, str]] = []

    def put(self, job_id: str, lane: str, priority: int) -> None:
        tag = max(self._clock[priority], self._finish[priority, lane]) + 1
        self._finish[priority, lane] = tag
        self._waiting.append((-priority, tag, job_id))

    def take(self) -> str | None:
        if not self._waiting:
            return None
        best = min(self._waiting)
        self._waiting.remove(best)
        self._clock[-best[0]] = best[1]
        if not self._waiting:
            self._clock.clear()
            self._finish.clear()
        return best[2]


ARRIVALS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ann", "bob", "cat", "", "*"]), st.sampled_from([0, 5, 5, 5, 9])),
        st.none(),
    ),
    max_size=60,
)


def test_turns_are_those_of_fair_queueing(store_server: StoreServer) -> None:
    """Whatever comes in whatever order, with workers that take in between, is taken as the reference says."""
    with asyncio.Runner() as runner:

        async def play(arrivals: list[tuple[str, int] | None]) -> None:
            jobs = Jobs(Store(store_server.url, f"fair{next(_runs)}", deadline=5.0), Limits(queue=1000), native=False)
            fair = Fair()
            for number, arrival in enumerate([*arrivals, *[None] * len(arrivals)]):
                if arrival is None:
                    ticket: Ticket | None = await jobs.take()
                    assert (ticket.job_id if ticket else None) == fair.take()
                else:
                    lane, priority = arrival
                    await ask(jobs, lane, f"j{number:03}", priority=priority)
                    fair.put(f"j{number:03}", lane, priority)
            assert await jobs.left() in ([], ["h:w"])
            await jobs.store.close()

        @settings(
            max_examples=60,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(ARRIVALS)
        def examine(arrivals: list[tuple[str, int] | None]) -> None:
            runner.run(play(arrivals))

        examine()


CAPPED = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["ann", "bob", ""])),
        st.tuples(st.just("take"), st.just("")),
        st.tuples(st.sampled_from(["end", "lose"]), st.integers(0, 20).map(str)),
    ),
    max_size=60,
)


def test_limits_lose_nothing(store_server: StoreServer) -> None:
    """Jobs come, run, end and are lost, in any order: no more of a user run than may, and each runs in the end."""
    with asyncio.Runner() as runner:

        async def play(steps: list[tuple[str, str]]) -> None:
            limits = Limits(queue=1000, running=2)
            jobs = Jobs(Store(store_server.url, f"fair{next(_runs)}", deadline=5.0), limits, native=False)
            asked, ran = set(), Counter[str]()
            running: list[Ticket] = []

            async def take() -> bool:
                ticket = await jobs.take()
                if ticket is not None:
                    running.append(ticket)
                    ran[ticket.job_id] += 1
                    counts = Counter(one.lane for one in running if one.lane)
                    assert max(counts.values(), default=0) <= 2
                return ticket is not None

            async def stop(ticket: Ticket, *, lost: bool) -> None:
                running.remove(ticket)
                await jobs.queues.release(ticket, worker="w", over=not lost)
                if lost:
                    ran[ticket.job_id] -= 1
                    await jobs.enqueue(ticket, in_front=True)

            for number, (what, more) in enumerate(steps):
                if what == "ask":
                    asked.add(f"j{number:03}")
                    await ask(jobs, more, f"j{number:03}")
                elif what == "take":
                    await take()
                elif running:
                    await stop(running[int(more) % len(running)], lost=what == "lose")
            while True:
                while await take():
                    pass
                if not running:
                    break
                await stop(running[0], lost=False)
            assert ran == Counter(dict.fromkeys(asked, 1))
            assert await jobs.left() == []
            await jobs.store.close()

        @settings(
            max_examples=60,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(CAPPED)
        def examine(steps: list[tuple[str, str]]) -> None:
            runner.run(play(steps))

        examine()
