"""The record of a job: joined while it lives, claimed once, fenced, ended once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from cache_layer import records as records_module
from cache_layer.cache import Cache, Committed
from cache_layer.keys import Key
from cache_layer.outdated import of_tags
from cache_layer.records import Bell, Records, Submitted
from cache_layer.redis import Store
from tests.support.keys import key

PROBLEM = b'{"type":"problem"}'


class Desk:
    """The verbs of a submitter and of a worker, with everything the tests do not vary."""

    def __init__(self, store: Store, queue_limit: int = 100) -> None:
        self.store = store
        self.cache = Cache(store)
        self.records = Records(store, queue_limit=queue_limit)
        self.list = store.names.broker_prefix() + "default"

    def bell(self, job_id: str) -> Bell:
        return Bell(queue="default", message=f"message of {job_id}".encode(), lists=(self.list, self.list + "6"))

    async def submit(self, what: Key, job_id: str, *, seen: bytes = b"", force: bool = False) -> Submitted:
        fields = {"id": job_id, "kind": "computation"}
        return await self.records.submit(
            what, job_id=job_id, bell=self.bell(job_id), fields=fields, seen=seen, force=force
        )

    async def claim(self, job_id: str, what: Key | None) -> records_module.Claim:
        return await self.records.claim(job_id, what, worker="w")

    async def commit(self, what: Key, job_id: str, claim: records_module.Claim, payload: bytes = b"1") -> Committed:
        return await self.cache.commit(
            what,
            payload,
            holder=job_id,
            tag_versions=claim.tag_versions,
            compute_seconds=0.1,
            computed_at=time.time(),
            luck=0.5,
            job_id=job_id,
            fence=claim.fence,
        )

    async def status(self, job_id: str) -> str:
        fields = await self.records.get(job_id)
        return fields["status"] if fields else ""

    async def fields(self, job_id: str) -> dict[str, str]:
        found = await self.records.get(job_id)
        assert found is not None
        return found

    async def waiting(self) -> int:
        return int(await self.store.command("LLEN", self.list))

    async def clean(self) -> None:
        """Drop what lives without a TTL: the messages, and jobs that a test left alive."""
        names = self.store.names
        for job_id in await self.store.command("ZRANGE", names.live(), 0, -1):
            job = names.job(job_id.decode())
            lease = await self.store.command("HGET", job, "lease")
            await self.store.command("UNLINK", job, *([lease] if lease else []))
        await self.store.command("UNLINK", self.list, names.live())

    async def silence(self, job_id: str) -> None:
        """Let the attempt's lease run out."""
        await self.store.command("HSET", self.store.names.job(job_id), "lease_until", 1)


@pytest.fixture
async def desk(store: Store) -> AsyncIterator[Desk]:
    made = Desk(store)
    yield made
    await made.clean()


async def test_many_submissions_are_one_job(desk: Desk) -> None:
    """Whoever asks for a key that is being computed joins its job; one message is rung."""
    what = key()
    answers = await asyncio.gather(*(desk.submit(what, f"job{n}") for n in range(50)))
    assert sorted({answer.what for answer in answers}) == ["created", "joined"]
    assert len({answer.job_id for answer in answers}) == 1
    assert len({answer.position for answer in answers}) == 1
    assert await desk.waiting() == 1


async def test_a_computed_value_ends_its_job(desk: Desk) -> None:
    """Commit stores the value and finishes the job in one step; the key is free again."""
    what = key()
    await desk.submit(what, "a")
    claim = await desk.claim("a", what)
    assert (claim.what, claim.fence) == ("claimed", 1)
    assert (await desk.commit(what, "a", claim)).what == "stored"
    assert await desk.status("a") == "succeeded"
    assert (await desk.submit(what, "b")).what == "hit"


async def test_a_message_delivered_twice_runs_once(desk: Desk) -> None:
    """The second claim of a running job is refused, and so is a claim of a finished one."""
    what = key()
    await desk.submit(what, "a")
    claim = await desk.claim("a", what)
    assert (await desk.claim("a", what)).what == "duplicate"
    await desk.commit(what, "a", claim)
    assert (await desk.claim("a", what)).what == "over"
    assert (await desk.claim("never", what)).what == "gone"


async def test_a_zombie_cannot_write(desk: Desk) -> None:
    """An attempt whose job was claimed again stores nothing, reports nothing and ends nothing."""
    what = key()
    await desk.submit(what, "a")
    zombie = await desk.claim("a", what)
    await desk.silence("a")
    assert (await desk.claim("a", what)).what == "silent"
    assert (await desk.records.wake("a", desk.bell("a"))).what == "requeued"
    heir = await desk.claim("a", what)
    assert heir.fence == zombie.fence + 1
    assert (await desk.commit(what, "a", zombie)).what == "revoked"
    assert await desk.records.beat("a", zombie.fence, progress=b"{}") == "lost"
    assert await desk.records.end("a", zombie.fence, "failed", fields=await desk.fields("a"), problem=PROBLEM) == (
        False,
        False,
    )
    assert (await desk.commit(what, "a", heir)).what == "stored"


async def test_a_silent_worker_is_noticed_by_the_next_who_asks(desk: Desk) -> None:
    """A job whose worker stopped to show life waits again, with a new message, and is dead after three crashes."""
    what = key()
    await desk.submit(what, "a")
    for crash in (1, 2):
        await desk.claim("a", what)
        await desk.silence("a")
        assert (await desk.submit(what, "b")).job_id == "a"
        assert await desk.waiting() == crash + 1
        assert await desk.status("a") == "queued"
    await desk.claim("a", what)
    await desk.silence("a")
    assert (await desk.submit(what, "b")).what == "failed"
    assert await desk.status("a") == "dead"
    assert (await desk.cache.lookup(what)).failure == records_module.DEAD


async def test_a_lost_message_is_rung_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has waited too long is rung again by the next who asks; its duplicate would die at the claim."""
    what = key()
    await desk.submit(what, "a")
    await desk.store.command("UNLINK", desk.list)
    await desk.submit(what, "b")
    assert await desk.waiting() == 0
    await desk.store.command("HSET", desk.store.names.job("a"), "rung_at", 1)
    assert (await desk.submit(what, "c")).job_id == "a"
    assert await desk.waiting() == 1


async def test_a_long_queue_is_no_lost_message(desk: Desk) -> None:
    """While other messages wait its own may be among them: it is rung for after twice the time, and not never."""
    await desk.submit(key("other"), "other")
    what = key()
    await desk.submit(what, "a")
    recently = int(time.time() * 1000) - 30_000
    await desk.store.command("HSET", desk.store.names.job("a"), "rung_at", recently)
    assert (await desk.records.wake("a", desk.bell("a"))).what == "well"
    assert await desk.waiting() == 2
    await desk.store.command("HSET", desk.store.names.job("a"), "rung_at", 1)
    assert (await desk.records.wake("a", desk.bell("a"))).what == "rung"
    assert await desk.waiting() == 3


async def test_lost_jobs_are_found_without_anybody_asking(desk: Desk) -> None:
    """The index of live jobs names those whose worker went silent; what is over is not in it."""
    what = key()
    await desk.submit(what, "a")
    await desk.claim("a", what)
    assert await desk.records.overdue() == []
    await desk.silence("a")
    await desk.store.command("ZADD", desk.store.names.live(), 1, "a", 1, "never")
    assert await desk.records.overdue() == ["a", "never"]
    assert (await desk.records.wake("a", desk.bell("a"))).what == "requeued"
    assert (await desk.records.wake("never", desk.bell("never"))).what == "gone"
    assert await desk.records.overdue() == []
    claim = await desk.claim("a", what)
    await desk.commit(what, "a", claim)
    assert await desk.store.command("ZCARD", desk.store.names.live()) == 0


async def test_an_invalidated_computation_starts_over(desk: Desk) -> None:
    """What was computed from data invalidated meanwhile is not stored: the same job runs again, and then it is."""
    what = key(tags=("sales",))
    await desk.submit(what, "a")
    first = await desk.claim("a", what)
    await desk.cache.invalidate(of_tags("sales"))
    assert (await desk.commit(what, "a", first)).what == "superseded"
    assert await desk.status("a") == "queued"
    assert (await desk.cache.lookup(what)).entry is None
    assert await desk.waiting() == 2
    second = await desk.claim("a", what)
    assert (await desk.commit(what, "a", second)).what == "stored"
    assert (await desk.cache.lookup(what)).entry is not None


async def test_reruns_are_bounded(desk: Desk) -> None:
    """Invalidated faster than it is computed, a job stops starting over and is left to be failed."""
    what = key(tags=("sales",))
    await desk.submit(what, "a")
    rings = []
    for _ in range(6):
        claim = await desk.claim("a", what)
        await desk.cache.invalidate(of_tags("sales"))
        rings.append((await desk.commit(what, "a", claim)).ring)
    assert rings == [0, 0, 0, 0, 0, -1]


async def test_a_full_queue_refuses(store: Store) -> None:
    """Above the limit nothing is accepted, and nothing is left behind."""
    desk = Desk(store, queue_limit=2)
    assert [(await desk.submit(key(f"k{n}"), f"job{n}")).what for n in range(3)] == ["created", "created", "full"]
    assert await desk.status("job2") == ""
    await desk.clean()


async def test_a_waiting_job_is_cancelled_at_once(desk: Desk) -> None:
    """Its message dies at the claim, and the key is free for another job."""
    what = key()
    await desk.submit(what, "a")
    assert await desk.records.cancel("a") == "queued"
    assert (await desk.claim("a", what)).what == "over"
    assert (await desk.submit(what, "b")).what == "created"


async def test_a_running_job_learns_that_it_was_cancelled(desk: Desk) -> None:
    """The next sign of life of a running attempt is answered with the wish to stop."""
    what = key()
    await desk.submit(what, "a")
    claim = await desk.claim("a", what)
    assert await desk.records.beat("a", claim.fence) == "on"
    assert await desk.records.cancel("a") == "running"
    assert await desk.records.beat("a", claim.fence, progress=b"{}") == "cancel"


async def test_a_failure_is_told_and_frees_the_key(desk: Desk) -> None:
    """A failed job remembers its failure for the key, and after that time the key may be computed again."""
    what = key(error_ttl=60)
    await desk.submit(what, "a")
    claim = await desk.claim("a", what)
    ended = await desk.records.end("a", claim.fence, "failed", fields=await desk.fields("a"), problem=PROBLEM)
    assert ended == (True, False)
    assert (await desk.cache.lookup(what)).failure == PROBLEM
    assert (await desk.submit(what, "b")).what == "failed"
    await desk.store.command("UNLINK", desk.store.names.failure(what))
    assert (await desk.submit(what, "c")).what == "created"


async def test_a_worker_that_cannot_run_a_job_tells_those_who_wait(desk: Desk) -> None:
    """A job that is ended by a worker without the declaration fails its key too: the record names what to end."""
    what = key(error_ttl=60)
    await desk.submit(what, "a")
    claim = await desk.claim("a", None)
    await desk.records.end("a", claim.fence, "failed", fields=await desk.fields("a"), problem=PROBLEM)
    assert (await desk.submit(what, "b")).what == "failed"


async def test_an_interruption_is_no_failure(desk: Desk) -> None:
    """An attempt whose process was told to go waits again, with no error, and its next one is the second."""
    what = key()
    await desk.submit(what, "a")
    claim = await desk.claim("a", what)
    await desk.records.end("a", claim.fence, "retrying", fields=await desk.fields("a"), message=b"again")
    fields = await desk.fields("a")
    assert (fields["status"], fields["reruns"], fields.get("error")) == ("queued", "1", None)
    assert (await desk.claim("a", what)).fence == 2


async def test_accepted_work_is_not_evicted(desk: Desk) -> None:
    """While a job lives its record has no TTL, so a full store drops values and not jobs; its end gives it one."""
    what = key()
    await desk.submit(what, "a")
    job, lease = desk.store.names.job("a"), desk.store.names.lease(what)
    assert [await desk.store.command("PTTL", name) for name in (job, lease)] == [-1, -1]
    claim = await desk.claim("a", what)
    await desk.commit(what, "a", claim)
    assert await desk.store.command("PTTL", job) > 0
    assert await desk.store.command("EXISTS", lease) == 0


async def test_roles_are_alive_while_one_process_is(desk: Desk) -> None:
    """Two workers share a queue: when one leaves, the queue is still attended; when both have left, it is not."""
    for process in ("one", "two"):
        await desk.records.show_life(process, 60, "worker", "worker:default")
    await desk.records.show_life("one", 0, "worker", "worker:default")
    assert await desk.records.alive("worker", "scheduler") == {"worker": True, "scheduler": False}
    assert (await desk.submit(key(), "a")).alive
    await desk.records.show_life("two", 0, "worker", "worker:default")
    assert await desk.records.alive("worker") == {"worker": False}
    assert not (await desk.submit(key(), "b")).alive


async def test_a_retry_waits_in_the_same_job(desk: Desk) -> None:
    """A failed attempt that shall be tried again keeps its key and rings with a later message."""
    what = key()
    await desk.submit(what, "a")
    claim = await desk.claim("a", what)
    await desk.records.end(
        "a", claim.fence, "retrying", fields=await desk.fields("a"), problem=PROBLEM, due=0.1, message=b"later"
    )
    assert await desk.status("a") == "retrying"
    assert (await desk.submit(what, "b")).job_id == "a"
    assert (await desk.claim("a", what)).fence == 2


async def test_the_same_action_id_is_one_job(desk: Desk) -> None:
    """A firing named twice, by two schedulers, is one job and one message."""
    fields = {"id": "f", "kind": "action"}
    first = await desk.records.enqueue("f", bell=desk.bell("f"), fields=fields)
    second = await desk.records.enqueue("f", bell=desk.bell("f"), fields=fields)
    assert (first.what, second.what) == ("created", "joined")
    assert await desk.waiting() == 1
    claim = await desk.claim("f", None)
    assert await desk.records.end("f", claim.fence, "succeeded", fields=await desk.fields("f")) == (True, False)
    assert await desk.status("f") == "succeeded"
