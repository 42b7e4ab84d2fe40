"""The record of a computation: joined while it lives, taken, claimed once, fenced, ended once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from asgi_app.jobs import new_job_id
from cache_layer import records as records_module
from cache_layer.keys import Key
from cache_layer.outdated import of_tags
from cache_layer.queues import Limits
from cache_layer.records import Ending
from cache_layer.redis import Store
from tests.support.jobs import PROBLEM, Jobs
from tests.support.keys import key


@pytest.fixture
async def jobs(store: Store) -> AsyncIterator[Jobs]:
    made = Jobs(store)
    yield made
    await made.clean()


async def running(jobs: Jobs, what: Key, job_id: str = "a", **submitted: object) -> records_module.Claim:
    """A first attempt at the job of a key."""
    await jobs.submit(what, job_id, **submitted)  # type: ignore[arg-type]
    return await jobs.work(job_id, what)


async def test_many_submissions_are_one_job(jobs: Jobs) -> None:
    """Whoever asks for a key that is being computed joins its job; it is rung for once."""
    what = key()
    answers = await asyncio.gather(*(jobs.submit(what, f"job{n}") for n in range(50)))
    assert sorted({answer.what for answer in answers}) == ["created", "joined"]
    assert len({answer.job_id for answer in answers}) == 1
    assert len({answer.position for answer in answers}) == 1
    assert await jobs.rings() == 1
    assert len(await jobs.waiting()) == 1


async def test_a_submission_made_twice_is_one(jobs: Jobs) -> None:
    """The same id once more, because the answer was lost, joins itself; also when the job is over."""
    what = key()
    await jobs.submit(what, "a")
    assert (await jobs.submit(what, "a")).what == "joined"
    claim = await jobs.work("a", what)
    await jobs.commit(what, "a", claim)
    assert (await jobs.submit(what, "a", force=True)).what == "joined"
    assert await jobs.rings() == 1


async def test_a_broker_elsewhere_is_rung_by_the_caller(store: Store) -> None:
    """Then the store rings for nothing, and says that somebody must; who joins need not."""
    jobs, what = Jobs(store, native=False), key()
    assert (await jobs.submit(what, "a")).ring
    assert not (await jobs.submit(what, "b")).ring
    assert await jobs.enqueue(jobs.action("c"))
    assert not await jobs.enqueue(jobs.action("c"))
    await jobs.clean()


async def test_a_computed_value_ends_its_job(jobs: Jobs) -> None:
    """Commit stores the value and finishes the job in one step; the key is free again, and nobody holds anything."""
    what = key()
    claim = await running(jobs, what)
    assert (claim.what, claim.fence) == ("claimed", 1)
    assert await jobs.holds() == {"a"}
    assert (await jobs.commit(what, "a", claim)).what == "stored"
    assert await jobs.status("a") == "succeeded"
    assert (await jobs.submit(what, "b")).what == "hit"
    assert await jobs.left() == []


async def test_a_ring_without_work_is_harmless(jobs: Jobs) -> None:
    """A message that came twice finds nothing to take."""
    what = key()
    await running(jobs, what)
    assert await jobs.take() is None


async def test_a_job_taken_twice_runs_once(jobs: Jobs) -> None:
    """The second claim of a running job is refused, and so is a claim of a finished or forgotten one."""
    what = key()
    claim = await running(jobs, what)
    assert (await jobs.claim("a", what, worker="other")).what == "duplicate"
    assert await jobs.holds("other") == set()
    await jobs.commit(what, "a", claim)
    assert (await jobs.claim("a", what)).what == "over"
    assert (await jobs.claim("never", what)).what == "gone"
    assert await jobs.holds() == set()


async def test_a_second_process_of_the_same_worker_does_not_take_over_what_is_held(jobs: Jobs) -> None:
    """Its refused claim leaves the worker holding what the first process runs."""
    what = key()
    claim = await running(jobs, what)
    assert (await jobs.claim("a", what, pid=4712)).what == "duplicate"
    held = json.loads(await jobs.store.command("HGET", jobs.names.held("w"), "a"))
    assert (held["pid"], held["fence"]) == (4711, claim.fence)


async def test_a_claim_whose_answer_was_lost_is_made_once_more(jobs: Jobs) -> None:
    """The same claim again is the same attempt: no other one is needed, and no crash is counted."""
    what = key(tags=("sales",))
    await jobs.submit(what, "a")
    first = await jobs.claim("a", what, token="mine")
    again = await jobs.claim("a", what, token="mine")
    assert (again.what, again.fence, again.tag_versions) == ("claimed", first.fence, first.tag_versions)
    assert (await jobs.claim("a", what, token="another's")).what == "duplicate"
    assert (await jobs.commit(what, "a", again)).what == "stored"


async def test_a_zombie_cannot_write(jobs: Jobs) -> None:
    """An attempt whose job was claimed again stores nothing, reports nothing and ends nothing."""
    what = key()
    zombie = await running(jobs, what)
    assert (await jobs.end("a", zombie.fence, "died")).status == "queued"
    heir = await jobs.work("a", what, worker="heir")
    assert heir.fence == zombie.fence + 1
    version = (await jobs.fields("a"))["version"]
    assert (await jobs.commit(what, "a", zombie)).what == "revoked"
    assert await jobs.beat("a", zombie.fence, progress=b"{}") == "lost"
    endings: list[Ending] = ["failed", "retrying", "cancelled", "interrupted", "died"]
    assert {(await jobs.end("a", zombie.fence, how, problem=PROBLEM)).status for how in endings} == {""}
    assert (await jobs.fields("a"))["version"] == version
    assert await jobs.holds("heir") == {"a"}
    assert (await jobs.commit(what, "a", heir, worker="heir")).what == "stored"


async def test_a_silent_worker_is_a_loss(jobs: Jobs) -> None:
    """What a worker holds whose lease ran out is named in a reaper's round, until somebody has seen after it."""
    what = key()
    await jobs.shows_life()
    claim = await running(jobs, what)
    assert (await jobs.round()).lost == {}
    await jobs.falls_silent()
    lost = (await jobs.round()).lost
    assert [(one.worker, one.fence, one.reason) for one in lost.values()] == [("w", claim.fence, "died")]
    assert (await jobs.round()).lost == lost
    await jobs.end("a", claim.fence, "died")
    await jobs.queues.seen_after("a", lost["a"])
    assert (await jobs.round()).lost == {}
    assert await jobs.waiting() == ["a"]


async def test_a_later_loss_of_the_same_job_is_another(jobs: Jobs) -> None:
    """Who has seen after one loss of a job does not wipe out the next one."""
    what = key()
    await jobs.shows_life()
    claim = await running(jobs, what)
    await jobs.falls_silent()
    first = (await jobs.round()).lost["a"]
    await jobs.end("a", claim.fence, "died")
    await jobs.queues.seen_after("a", first)
    await jobs.shows_life("heir")
    await jobs.work("a", what, worker="heir")
    await jobs.falls_silent("heir")
    assert (await jobs.round()).lost["a"].fence == 2
    await jobs.queues.seen_after("a", first)
    assert (await jobs.round()).lost["a"].fence == 2


async def test_who_joins_a_silent_worker_s_job_is_told(jobs: Jobs) -> None:
    """So that a request need not wait for the next round."""
    what = key()
    await jobs.shows_life()
    await running(jobs, what)
    assert not (await jobs.submit(what, "b")).silent
    await jobs.falls_silent()
    assert (await jobs.submit(what, "b")).silent


async def test_three_crashes_are_enough(jobs: Jobs) -> None:
    """A job whose workers die again and again is dead at the third time; its key fails for a moment, and is free."""
    what = key()
    await jobs.submit(what, "a")
    for expected in ("queued", "queued", "dead"):
        claim = await jobs.work("a", what)
        assert (await jobs.end("a", claim.fence, "died")).status == expected
    assert await jobs.status("a") == "dead"
    assert (await jobs.cache.lookup(what)).failure == records_module.DEAD
    history = json.loads((await jobs.fields("a"))["history"])
    assert [(one["attempt"], one["outcome"]) for one in history] == [(1, "died"), (2, "died"), (3, "died")]
    assert await jobs.left() == []


async def test_ids_of_forgotten_jobs_are_forgotten(jobs: Jobs) -> None:
    """All of them, though an older one is kept."""
    kept, *gone = (new_job_id(1_700_000_000_000 + number) for number in range(6))
    await jobs.submit(key(), kept)
    await jobs.store.command("ZADD", jobs.names.all_jobs(), *(part for job_id in gone for part in (0, job_id)))
    assert await jobs.records.sweep(most=2) == 5
    assert await jobs.store.command("ZRANGE", jobs.names.all_jobs(), 0, -1) == [kept.encode()]


async def test_a_lost_message_is_rung_again(jobs: Jobs) -> None:
    """Where something waits, and less was rung for than waits, a silent queue is rung for once more."""
    what, stats = key(), jobs.names.queues("s:default")
    await jobs.submit(what, "a")
    assert (await jobs.round()).rings == {}
    await jobs.store.command("HSET", stats, "rung", 1, "heard", 1)
    assert (await jobs.round()).rings == {}
    await jobs.store.command("UNLINK", jobs.messages())
    assert (await jobs.round()).rings == {"default": 1}
    assert (await jobs.round()).rings == {}


async def test_an_action_that_was_put_on_its_queue_twice_waits_once(jobs: Jobs) -> None:
    """Whoever puts it there again changes nothing, now or for later, until its time is taken away."""
    ticket = jobs.action("f")
    await jobs.enqueue(ticket)
    await jobs.enqueue(ticket)
    await jobs.enqueue(ticket, due=60)
    assert (await jobs.waiting(), await jobs.rings()) == (["f"], 1)
    assert await jobs.take() == ticket
    await jobs.enqueue(ticket, due=60)
    assert await jobs.take() is None
    await jobs.enqueue(ticket)
    assert await jobs.take() == ticket


async def test_what_is_due_is_put_on_its_queue(jobs: Jobs) -> None:
    """A round of a reaper moves what has waited for its time, and rings for it."""
    await jobs.enqueue(jobs.action("f"), due=60)
    assert (await jobs.round()).rings == {}
    await jobs.store.command("ZADD", jobs.names.queues("due"), 1, "f")
    assert (await jobs.round()).rings == {"default": 1}
    assert await jobs.waiting() == ["f"]


async def test_a_job_that_stands_nowhere_is_put_on_its_queue_again(jobs: Jobs) -> None:
    """Taken by a worker nobody hears of again, before it was claimed: whoever looks after it finds that."""
    what = key()
    await jobs.submit(what, "a")
    await jobs.take()
    await jobs.store.command("UNLINK", jobs.names.held("w"))
    assert await jobs.look_after("a") == ([], [])
    await jobs.store.command("HSET", jobs.names.job("a"), "taken_at", 1)
    assert await jobs.look_after("a") == (["default"], [])
    assert await jobs.waiting() == ["a"]


async def test_a_running_job_that_nobody_holds_is_lost(jobs: Jobs) -> None:
    """Its worker lives and does not hold it, for longer than a lease lasts; or is not known, and shows no life."""
    held, nobody_s = key("held"), key("nobody.s")
    await jobs.shows_life()
    await running(jobs, held, "held")
    await running(jobs, nobody_s, "nobody")
    await jobs.store.command("HDEL", jobs.names.held("w"), "nobody")
    await jobs.look_after("held", "nobody")
    await jobs.store.command("HSET", jobs.names.job("nobody"), "unheld_at", 1)
    await jobs.look_after("held", "nobody")
    assert list((await jobs.round()).lost) == ["nobody"]
    await jobs.store.command("ZREM", jobs.names.lives(), "w")
    await jobs.look_after("held")
    await jobs.falls_silent()
    await jobs.look_after("held")
    assert sorted((await jobs.round()).lost) == ["held", "nobody"]


async def test_an_invalidated_computation_starts_over(jobs: Jobs) -> None:
    """What was computed from data invalidated meanwhile is not stored: the same job runs again, and then it is."""
    what = key(tags=("sales",))
    first = await running(jobs, what)
    await jobs.cache.invalidate(of_tags("sales"))
    committed = await jobs.commit(what, "a", first)
    assert (committed.what, committed.ring) == ("superseded", 1)
    assert await jobs.status("a") == "queued"
    assert (await jobs.cache.lookup(what)).entry is None
    second = await jobs.work("a", what)
    assert (await jobs.commit(what, "a", second)).what == "stored"
    assert (await jobs.cache.lookup(what)).entry is not None


async def test_reruns_are_bounded(jobs: Jobs) -> None:
    """Invalidated faster than it is computed, a job stops starting over and is left to be failed."""
    what = key(tags=("sales",))
    await jobs.submit(what, "a")
    rings = []
    for _ in range(6):
        claim = await jobs.work("a", what)
        await jobs.cache.invalidate(of_tags("sales"))
        rings.append((await jobs.commit(what, "a", claim)).ring)
    assert rings == [1, 1, 1, 1, 1, -1]
    assert (await jobs.end("a", claim.fence, "failed", problem=PROBLEM)).status == "failed"


async def test_a_full_queue_refuses(store: Store) -> None:
    """Above the limit nothing is accepted, and nothing is left behind."""
    jobs = Jobs(store, Limits(queue=2))
    assert [(await jobs.submit(key(f"k{n}"), f"job{n}")).what for n in range(3)] == ["created", "created", "full"]
    assert await jobs.status("job2") == ""
    assert await jobs.waiting() == ["job0", "job1"]
    await jobs.clean()


async def test_a_waiting_job_is_cancelled_at_once(jobs: Jobs) -> None:
    """It leaves its queue, a claim of what was just taken finds it over, and the key is free for another job."""
    what = key()
    await jobs.submit(what, "a")
    assert await jobs.records.cancel("a") == ("queued", False)
    assert await jobs.left() == []
    assert (await jobs.submit(what, "b")).what == "created"
    await jobs.take()
    await jobs.records.cancel("b")
    assert (await jobs.claim("b", what)).what == "over"
    assert await jobs.left() == []


async def test_a_running_job_learns_that_it_was_cancelled(jobs: Jobs) -> None:
    """The next sign of life of a running attempt is answered with the wish to stop, and so is its worker's watch."""
    what = key()
    claim = await running(jobs, what)
    assert await jobs.beat("a", claim.fence) == "on"
    assert await jobs.records.cancel("a") == ("running", False)
    assert await jobs.beat("a", claim.fence, progress=b"{}") == "cancel"
    watch = await jobs.queues.watch("w", "w", [], life=7.0)
    (_, since), *_ = watch.held.values()
    assert since is not None
    assert (await jobs.end("a", claim.fence, "cancelled")).status == "cancelled"
    assert (await jobs.submit(what, "b")).what == "created"
    await jobs.records.cancel("b")
    assert await jobs.left() == []


async def test_asking_again_does_not_put_the_end_off(jobs: Jobs) -> None:
    """An attempt has so long to end from the first time on that somebody asked."""
    what, cancels = key(), jobs.names.cancels()
    await running(jobs, what)
    await jobs.records.cancel("a")
    await jobs.store.command("HSET", cancels, "a", 1)
    version = (await jobs.fields("a"))["version"]
    await jobs.records.cancel("a")
    await jobs.queues.ask_for_end("a")
    assert await jobs.store.command("HGET", cancels, "a") == b"1"
    assert (await jobs.fields("a"))["version"] == version


@pytest.mark.parametrize("how", ["retrying", "interrupted", "died"])
async def test_a_cancelled_job_has_no_other_attempt(jobs: Jobs, how: Ending) -> None:
    """However its attempt ends that has not heard of the wish, it does not begin again."""
    what = key()
    claim = await running(jobs, what)
    await jobs.records.cancel("a")
    assert (await jobs.end("a", claim.fence, how, problem=PROBLEM if how == "retrying" else b"")).status == "cancelled"
    assert await jobs.left() == []
    assert (await jobs.cache.lookup(what)).failure is None
    assert (await jobs.submit(what, "b")).what == "created"


async def test_a_cancelled_job_does_not_start_over(jobs: Jobs) -> None:
    """Invalidated and cancelled while it ran, it is over."""
    what = key(tags=("sales",))
    claim = await running(jobs, what)
    await jobs.records.cancel("a")
    await jobs.cache.invalidate(of_tags("sales"))
    committed = await jobs.commit(what, "a", claim)
    assert (committed.what, committed.ring) == ("superseded", 0)
    assert await jobs.status("a") == "cancelled"
    assert (await jobs.submit(what, "b")).what == "created"


async def test_one_of_several_does_not_cancel_for_the_others(jobs: Jobs) -> None:
    """It goes on for whoever else has asked for it lately; when all have gone, and for the staff, it ends."""
    what = key()
    await jobs.submit(what, "a", lane="ann")
    await jobs.submit(what, "b", lane="bob")
    assert await jobs.records.cancel("a", by="ann") == ("queued", True)
    assert await jobs.records.cancel("a", by="bob") == ("queued", False)
    assert await jobs.status("a") == "cancelled"
    await jobs.submit(what, "c", lane="ann")
    await jobs.submit(what, "d", lane="bob")
    assert await jobs.records.cancel("c") == ("queued", False)


async def test_a_job_that_has_not_begun_in_time_expires(jobs: Jobs) -> None:
    """Whoever comes first sees it: the worker that would claim it, or who looks after it."""
    for number, job_id in enumerate(("claimed", "examined")):
        await jobs.submit(key(f"k{number}"), job_id, expires=60.0)
        await jobs.store.command("HSET", jobs.names.job(job_id), "expires_at", 1)
    ticket = await jobs.take()
    assert ticket is not None
    assert (await jobs.claim("claimed", key("k0"), ticket=ticket)).what == "expired"
    await jobs.look_after("examined")
    assert [await jobs.status(job_id) for job_id in ("claimed", "examined")] == ["expired", "expired"]
    assert await jobs.left() == []
    assert (await jobs.submit(key("k0"), "next")).what == "created"


async def test_nobody_wants_it_any_more(jobs: Jobs) -> None:
    """A job that may be given up is named when nobody has asked for it for a while, and nobody listens."""
    await jobs.submit(key("kept"), "kept")
    await jobs.submit(key("given.up"), "given up", abandonable=True)
    assert await jobs.look_after() == ([], [])
    for job_id in ("kept", "given up"):
        await jobs.store.command("HSET", jobs.names.job(job_id), "wanted_at", 1, "channel", "nobody's")
    assert await jobs.look_after() == ([], ["given up"])
    await jobs.records.want("given up")
    assert await jobs.look_after() == ([], [])
    await jobs.records.want("never")
    assert await jobs.records.get("never") is None


async def test_a_failure_is_told_and_frees_the_key(jobs: Jobs) -> None:
    """A failed job remembers its failure for the key, and after that time the key may be computed again."""
    what = key(error_ttl=60)
    claim = await running(jobs, what)
    assert (await jobs.end("a", claim.fence, "failed", problem=PROBLEM)).status == "failed"
    assert (await jobs.cache.lookup(what)).failure == PROBLEM
    assert (await jobs.submit(what, "b")).what == "failed"
    await jobs.store.command("UNLINK", jobs.names.failure(what))
    assert (await jobs.submit(what, "c")).what == "created"


async def test_a_worker_that_cannot_run_a_job_tells_those_who_wait(jobs: Jobs) -> None:
    """A job that is ended by a worker without the declaration fails its key too: the record names what to end."""
    what = key(error_ttl=60)
    await jobs.submit(what, "a")
    ticket = await jobs.take()
    claim = await jobs.claim("a", None, ticket=ticket)
    await jobs.end("a", claim.fence, "failed", problem=PROBLEM)
    assert (await jobs.submit(what, "b")).what == "failed"


async def test_an_interruption_is_no_failure(jobs: Jobs) -> None:
    """An attempt whose process was told to go waits again, with no error, and its next one is the second."""
    what = key()
    claim = await running(jobs, what)
    ended = await jobs.end("a", claim.fence, "interrupted")
    assert (ended.status, ended.ring) == ("queued", True)
    fields = await jobs.fields("a")
    assert (fields["status"], fields["failures"], fields["crashes"], fields.get("error")) == ("queued", "0", "0", None)
    assert (await jobs.work("a", what)).fence == 2


async def test_a_retry_waits_in_the_same_job(jobs: Jobs) -> None:
    """A failed attempt that shall be tried again keeps its key, and stands on its queue when it is due."""
    what = key()
    claim = await running(jobs, what)
    assert (await jobs.end("a", claim.fence, "retrying", problem=PROBLEM, due=60.0)).status == "retrying"
    assert (await jobs.submit(what, "b")).job_id == "a"
    assert await jobs.take() is None
    await jobs.store.command("ZADD", jobs.names.queues("due"), 1, "a")
    assert (await jobs.round()).rings == {"default": 1}
    assert (await jobs.work("a", what)).fence == 2


async def test_accepted_work_is_not_evicted(jobs: Jobs) -> None:
    """While a job lives its record has no TTL, so a full store drops values and not jobs; its end gives it one."""
    what = key()
    await jobs.submit(what, "a")
    job, lease = jobs.names.job("a"), jobs.names.lease(what)
    assert [await jobs.store.command("PTTL", name) for name in (job, lease)] == [-1, -1]
    claim = await jobs.work("a", what)
    await jobs.commit(what, "a", claim)
    assert await jobs.store.command("PTTL", job) > 0
    assert await jobs.store.command("EXISTS", lease) == 0


async def test_roles_are_alive_while_one_process_is(jobs: Jobs) -> None:
    """Two workers share a queue: when one leaves, the queue is still attended; when both have left, it is not."""
    for process in ("one", "two"):
        await jobs.records.show_life(process, 60, "worker", "worker:default")
    await jobs.records.show_life("one", 0, "worker", "worker:default")
    assert await jobs.records.alive("worker", "scheduler") == {"worker": True, "scheduler": False}
    assert (await jobs.submit(key(), "a")).alive
    await jobs.records.show_life("two", 0, "worker", "worker:default")
    assert await jobs.records.alive("worker") == {"worker": False}
    assert not (await jobs.submit(key(), "b")).alive
