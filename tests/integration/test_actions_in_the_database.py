"""Actions have their record in the database: written with the data, never forgotten, claimed once, ended once.

These run on whichever database TESTS_DATABASE_URL names: SQLite, or see `test_actions_on_production_databases.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Thread
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.models.functions import Now

from asgi_app import backlog, ledger, run, wiring
from asgi_app.errors import IdempotencyMismatch, MillpondError
from asgi_app.jobs import dump_principal
from asgi_app.ledger import Order
from asgi_app.models import Job
from asgi_app.registry import Principal, action, registry
from asgi_app.submitting import new_id
from cache_layer import records
from cache_layer.errors import StoreUnavailable
from cache_layer.queues import Ticket
from tasks import action as action_module
from tasks import heartbeat
from tasks import reaper as reaper_module
from tasks.action import ActionAttempt
from tasks.heartbeat import Warden
from tasks.identity import worker_name
from tasks.reaper import Reaper
from tasks.relay import relay_actions
from tasks.runner import run_job
from tests.support import child
from tests.support.store import StoreServer

pytestmark = pytest.mark.usefixtures("tables")
T = TypeVar("T")


@pytest.fixture
def tables(transactional_db: None, store_server: StoreServer) -> Iterator[None]:
    """A database, and a store with queues that nobody takes from."""
    forget_the_queues()
    assert relay() == 0  # the store has queues from now on
    yield
    forget_the_queues()


def forget_the_queues() -> None:
    """As a store that has lost everything."""

    async def forget(node: wiring.Node) -> None:
        for part in ("q:*", "j:*", "b:*"):
            names = await node.store.command("KEYS", part)
            if names:
                await node.store.command("UNLINK", *names)

    wiring.call(forget)


def order(**more: Any) -> Order:
    given: dict[str, Any] = {
        "job_id": new_id(),
        "name": "test.once",
        "params": '{"name":"x","seconds":0.0}',
        "queue": "default",
        "priority": 5,
        "owner": "7",
        "principal": dump_principal(Principal.public()),
    }
    return Order(**{**given, **more})


def made(**more: Any) -> Job:
    """A row that has just been committed, and stands on no queue."""
    row, created = ledger.create(order(**more))
    assert created
    found = ledger.get(str(row.id))
    assert found is not None
    return found


def now(row: Job) -> Job:
    found = ledger.get(str(row.id))
    assert found is not None
    return found


def attempt(row: Job, worker: str = "w") -> Job:
    claimed = ledger.claim(str(row.id), worker)
    assert claimed is not None
    return claimed


def past(row: Job, *fields: str) -> None:
    """These moments were an hour ago."""
    Job.objects.filter(pk=row.pk).update(**{field: Now() - timedelta(hours=1) for field in fields})


def at_once(*works: Callable[[], T]) -> list[T | BaseException]:
    """What they came to, each on a thread and a connection of its own, all let go at the same moment."""
    barrier, found = Barrier(len(works)), dict[int, Any]()

    def play(number: int, work: Callable[[], T]) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(20)
            found[number] = insisted(work)
        except BaseException as error:
            found[number] = error
        finally:
            connections.close_all()

    threads = [Thread(target=play, args=(number, work)) for number, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(works))]


def insisted(work: Callable[[], T]) -> T:
    """As `insist_in_database`: nobody waits for a lock of SQLite in memory, which threads of a test share."""
    while True:
        try:
            return work()
        except OperationalError as error:
            if "locked" not in str(error):
                raise


def waits(*those: Job) -> list[bool]:
    """Which of them are on their queues."""
    return wiring.call(lambda node: node.queues.waits([str(row.id) for row in those]))


def take(worker: str = "w", pid: int = 1) -> Ticket | None:
    return wiring.call(lambda node: node.queues.take("default", worker=worker, pid=pid))


def relay(age: float = 0.0) -> int:
    return wiring.call(lambda node: relay_actions(node, age=age))


def reaper() -> Reaper:
    async def make(node: wiring.Node) -> Reaper:
        return Reaper(node)

    return wiring.call(make)


# --- written with the data


def test_a_rolled_back_transaction_runs_nothing() -> None:
    """Neither a row is left nor a place on a queue."""
    with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012
        job_id = run("test.once", name="x")
        assert ledger.get(job_id) is not None
        raise RuntimeError
    assert ledger.get(job_id) is None
    assert take() is None
    assert relay() == 0


def test_it_is_on_its_queue_after_the_commit_and_not_before() -> None:
    """So no worker sees a row that is not there yet; and the row learns that somebody has rung for it."""
    with transaction.atomic():
        job_id = run("test.once", name="x")
        assert take() is None
    ticket = take()
    assert ticket is not None
    assert (ticket.job_id, ticket.kind, ticket.lane) == (job_id, "action", "*")
    row = ledger.get(job_id)
    assert row is not None
    assert (row.status, row.owner, row.parameters()) == ("queued", "*", {"name": "x", "seconds": 1.0})
    backlog.rung([job_id])
    assert relay() == 0


def test_what_was_committed_outlives_its_process(tmp_path: Path) -> None:
    """Killed right after the commit, it has put nothing on a queue: the relay does, once."""
    if connection.vendor == "sqlite":  # this test's own is in memory
        url = f"sqlite:///{tmp_path}/db.sqlite3"
    else:
        settings = connection.settings_dict
        scheme = "postgresql" if connection.vendor == "postgresql" else "mysql"
        url = f"{scheme}://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    environment = {**os.environ, "MILLPOND_DATABASE_URL": url, "MILLPOND_HOME": str(tmp_path)}
    if connection.vendor == "sqlite":
        child.run('from django.core.management import call_command; call_command("migrate", verbosity=0)', environment)
    dies = """
from asgi_app import run
from asgi_app.submitting import Submitter
Submitter.put_on_queue = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with transaction.atomic():
    print(run("test.once", name="x"), flush=True)
"""
    child.run(dies, environment, code_of_exit=-9)
    relays = """
from asgi_app.models import Job
from tasks.relay import relay_actions
from tasks.runner import run_job
row, = Job.objects.all()
taken = lambda: wiring.call(lambda node: node.queues.take("default", worker="w", pid=1))
assert (row.status, row.rung_at, taken()) == ("queued", None, None)
assert wiring.call(lambda node: relay_actions(node, age=3600)) == 0
assert wiring.call(lambda node: relay_actions(node, age=0)) == 1
assert taken().job_id == str(row.id)
"""
    child.run(relays, environment)


def test_the_same_id_is_one_job() -> None:
    """However often it is said, one after the other or at once (two schedulers fire the same moment)."""
    same = order()
    _, created = ledger.create(same)
    assert created
    assert not ledger.create(same)[1]
    many = order()
    found = at_once(*[lambda: ledger.create(many)[1]] * 4)
    assert sorted(map(str, found)) == ["False", "False", "False", "True"]
    assert Job.objects.count() == 2


def test_a_refused_row_does_not_cost_the_transaction() -> None:
    """Who says an id again inside of a transaction may go on in it."""
    same = order()
    ledger.create(same)
    with transaction.atomic():
        assert not ledger.create(same)[1]
        Group.objects.create(name="goes on")
    assert Group.objects.filter(name="goes on").exists()


def test_an_idempotency_key_is_one_job() -> None:
    """With the same parameters, however they are written, it is the same; with others it is a mistake of the caller."""
    first, _ = ledger.create(order(idempotency="k", params='{"name":"x","seconds":0}'))
    again, created = ledger.create(order(idempotency="k", params='{"seconds": 0, "name": "x"}'))
    assert (again.id, created) == (first.id, False)
    with pytest.raises(IdempotencyMismatch):
        ledger.create(order(idempotency="k", params='{"name":"y"}'))
    found = at_once(*[lambda: ledger.create(order(idempotency="l"))[0].id] * 4)
    assert len(set(map(str, found))) == 1, found
    others = at_once(*[lambda n=n: ledger.create(order(idempotency="m", params=f'{{"n":{n}}}'))[0].id for n in "1234"])
    assert sorted(type(one).__name__ for one in others) == [*["IdempotencyMismatch"] * 3, "UUID"]
    assert Job.objects.count() == 3


# --- one attempt at a time


def test_of_many_claims_one_is_granted() -> None:
    """Workers that took the same job at once."""
    row = made()
    claims = at_once(*[lambda n=n: ledger.claim(str(row.id), f"w{n}") for n in range(4)])
    assert sum(claim is not None for claim in claims) == 1, claims
    assert all(claim is None or isinstance(claim, Job) for claim in claims), claims
    found = now(row)
    assert (found.status, found.fence, found.transitions) == ("running", 1, 2)
    assert ledger.claim(str(row.id), "late") is None
    assert ledger.claim(new_id(), "w") is None


def test_a_zombie_changes_nothing() -> None:
    """An attempt that was given up may neither end the job nor let it wait again, nor die a second time."""
    row = made()
    zombie = attempt(row, "zombie")
    assert ledger.died(zombie, due=0.0) == "queued"
    assert ledger.end(zombie, "succeeded", result=b"1") is False
    heir = attempt(row, "heir")
    for refused in (
        ledger.end(zombie, "failed", problem=b"{}"),
        ledger.again(zombie, "failed", due=1.0),
        ledger.again(zombie, "interrupted"),
        ledger.died(zombie, due=0.0),
    ):
        assert not refused
    found = now(row)
    assert (found.status, found.fence, found.worker, found.crashes) == ("running", 2, "heir", 1)
    assert ledger.end(heir, "succeeded", result=b"2")
    assert not ledger.end(heir, "failed")
    found = now(row)
    assert (found.status, found.result, found.error) == ("succeeded", "2", "")
    assert [(one["attempt"], one["outcome"]) for one in json.loads(found.history)] == [(1, "died"), (2, "succeeded")]


def test_two_ends_at_once_are_one() -> None:
    """The worker finishes while a reaper thinks it dead: whoever comes first."""
    row = made()
    claimed = attempt(row)
    ends = at_once(lambda: ledger.end(claimed, "succeeded"), lambda: ledger.died(claimed, due=0.0))
    assert [bool(one) for one in ends].count(True) == 1, ends
    assert now(row).status == ("succeeded" if ends[0] else "queued")


def test_a_retry_waits_for_its_time() -> None:
    """What failed may be tried again later; it keeps what went wrong, and how often."""
    row = made()
    assert ledger.again(attempt(row), "failed", due=60.0, problem=b'{"detail":"no luck"}') == "retrying"
    found = now(row)
    assert (found.status, found.failures, found.crashes, found.rung_at) == ("retrying", 1, 0, None)
    assert json.loads(found.history)[0]["detail"] == "no luck"
    assert 50 < backlog.seconds_until_due(found) <= 60
    ((same, left),) = backlog.unrung(older_than=0.0, most=10)
    assert same.id == row.id
    assert 50 < left <= 60
    assert relay() == 1
    assert waits(row) == [True]
    assert take() is None
    assert ledger.again(attempt(row), "interrupted") == "queued"
    assert now(row).interruptions == 1


def test_three_deaths_are_enough() -> None:
    """The third time its worker dies the job is dead, with what is known of its attempts."""
    row = made()
    assert [ledger.died(attempt(row, f"w{n}"), due=0.0) for n in range(3)] == ["queued", "queued", "dead"]
    found = now(row)
    assert (found.status, found.crashes, found.fence) == ("dead", 3, 3)
    assert json.loads(found.error)["reason"] == "dead"
    history = json.loads(found.history)
    assert [(one["attempt"], one["worker"], one["outcome"]) for one in history] == [
        (1, "w0", "died"),
        (2, "w1", "died"),
        (3, "w2", "died"),
    ]
    assert all(one["started_at"] for one in history)


# --- cancelled, expired, forgotten


def test_what_waits_is_cancelled_at_once() -> None:
    """And what is over stays as it is."""
    row = made()
    assert ledger.cancel(str(row.id)) == "queued"
    assert now(row).status == "cancelled"
    assert ledger.cancel(str(row.id)) == "cancelled"
    assert ledger.claim(str(row.id), "w") is None
    assert ledger.cancel(new_id()) == ""


@pytest.mark.parametrize("how", ["interrupted", "failed", "died"])
def test_what_runs_and_was_cancelled_has_no_other_attempt(how: Any) -> None:
    """However its attempt ends that has not heard of it."""
    row = made()
    claimed = attempt(row)
    assert ledger.cancel(str(row.id)) == "running"
    assert now(row).cancel_at is not None
    got = ledger.died(now(row), due=0.0) if how == "died" else ledger.again(claimed, how, due=1.0)
    assert (got, now(row).status) == ("cancelled", "cancelled")


def test_a_cancellation_and_a_claim_at_once() -> None:
    """Either it never runs, or its worker is told."""
    for _ in range(5):
        row = made()
        status, claimed = at_once(lambda: ledger.cancel(str(row.id)), lambda: ledger.claim(str(row.id), "w"))  # noqa: B023
        found = now(row)
        if claimed is None:
            assert (status, found.status) == ("queued", "cancelled")
        else:
            assert (status, found.status) == ("running", "running")
            assert found.cancel_at is not None


def test_what_has_not_begun_in_time_expires() -> None:
    """At the claim, or when a reaper finds it; what has time left, or none set, does not."""
    claimed, found = made(expires=60.0), made(expires=60.0)
    kept = [made(expires=60.0), made()]
    past(claimed, "expires_at")
    past(found, "expires_at")
    assert ledger.claim(str(claimed.id), "w") is None
    assert [row.id for row in ledger.expire(backlog.overdue(most=10))] == [found.id]
    assert {now(claimed).status, now(found).status} == {"expired"}
    assert [now(row).status for row in kept] == ["queued", "queued"]
    assert ledger.claim(str(kept[0].id), "w") is not None


def test_what_is_over_is_purged_in_time() -> None:
    """Not before, and nothing that waits or runs, however old it is."""
    old, young, waiting, running = made(), made(), made(), made()
    for row in (old, young):
        ledger.end(attempt(row), "succeeded")
    attempt(running)
    past(old, "finished_at", "created_at")
    past(waiting, "created_at")
    past(running, "created_at")
    assert backlog.purge(older_than=60.0, most=10) == 1
    assert set(Job.objects.values_list("pk", flat=True)) == {young.id, waiting.id, running.id}
    assert not ledger.discard(str(waiting.id))
    assert ledger.discard(str(young.id))


# --- the queues in the store


def test_all_that_is_over_is_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it is: more may end in a minute than are deleted at once."""
    monkeypatch.setattr(reaper_module, "_MOST", 2)
    for _ in range(5):
        row = made()
        ledger.end(attempt(row), "succeeded")
        Job.objects.filter(pk=row.pk).update(finished_at=Now() - timedelta(days=1000))
    looks = reaper()
    wiring.call(lambda _: looks.sweep())
    assert not Job.objects.exists()


def test_a_store_that_lost_its_queues_gets_them_back() -> None:
    """All that waits is put on its queue again, also what is due later; what runs or is over is not."""
    waiting, later, running, over = made(), made(), made(), made()
    ledger.again(attempt(later), "failed", due=60.0)
    assert relay() == 4
    attempt(running)
    ledger.cancel(str(over.id))
    past(later, "started_at")
    backlog.rung([str(waiting.id), str(later.id)])
    assert relay() == 0
    forget_the_queues()
    assert waits(waiting, later) == [False, False]
    assert relay() == 2
    assert waits(waiting, later, running, over) == [True, True, False, False]
    ticket = take()
    assert ticket is not None
    assert ticket.job_id == str(waiting.id)


def test_a_place_that_was_lost_alone_is_found() -> None:
    """The database says that it waits, and it stands nowhere: who compares the two sees to it."""
    lost, there = made(), made()
    assert relay() == 2
    backlog.rung([str(lost.id), str(there.id)])
    assert take() is not None, "somebody took the first, and is never heard of again"
    looks = reaper()
    wiring.call(lambda node: looks.compare())
    assert relay() == 0, "it was rung for just now"
    past(lost, "rung_at")
    past(there, "rung_at")
    wiring.call(lambda node: looks.compare())
    assert relay() == 1
    assert waits(lost, there) == [True, True]


def test_what_a_dead_worker_held_is_seen_after() -> None:
    """Taken and not claimed it waits again; claimed, it has died once; ended meanwhile, it is left alone."""
    taken, claimed, ended = made(), made(), made()
    assert relay() == 3
    for row in (taken, claimed, ended):
        ticket = take("dead")
        assert ticket is not None
        assert ticket.job_id == str(row.id)
    attempt(claimed, "dead")
    ledger.end(attempt(ended, "dead"), "succeeded")
    looks = reaper()

    async def dies(node: wiring.Node) -> None:
        await looks.round()
        await node.store.command("ZADD", node.store.names.lives(), 1, "dead")
        await looks.round()

    wiring.call(dies)
    assert [now(row).status for row in (taken, claimed, ended)] == ["queued", "queued", "succeeded"]
    assert [now(row).crashes for row in (taken, claimed, ended)] == [0, 1, 0]
    assert waits(taken, claimed, ended) == [True, True, False]


def test_a_running_action_that_nobody_holds_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker lives and knows nothing of it, or of this attempt at it; one whose worker holds it goes on."""
    monkeypatch.setattr(reaper_module, "LEASE", 0.0)
    rows = held, _not_begun, nobody_s = made(), made(), made()
    assert relay() == 3
    for row in rows:
        ticket = take("w")
        assert ticket is not None
        attempt(row)
        if row is held:
            first = records.held(ticket, pid=1, fence=1)
    looks = reaper()

    async def look(node: wiring.Node) -> None:
        await node.queues.watch("w", "w", [], life=5.0)
        await node.queues.hold("w", str(held.id), first)
        await node.store.command("HDEL", node.store.names.held("w"), str(nobody_s.id))
        await looks.look()
        await asyncio.sleep(0.01)
        await looks.look()

    wiring.call(look)
    assert [now(row).status for row in rows] == ["running", "queued", "queued"]
    assert waits(*rows) == [False, True, True]


def test_what_could_not_be_begun_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is claimed, and the database is away before it is read: its process says that it is at it no longer."""
    row = made()
    relay()

    def lost(job_id: str, worker: str) -> None:
        claimed = ledger.claim(job_id, worker)
        assert claimed is not None
        raise DatabaseError("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(action_module, "ledger", SimpleNamespace(**{**vars(ledger), "claim": lost}))
        with pytest.raises(DatabaseError):
            run_job("default")
    assert now(row).status == "running"
    looks = reaper()
    wiring.call(lambda _: looks.round())
    assert (now(row).status, now(row).crashes) == ("queued", 1)
    assert waits(row) == [True]


def test_a_process_that_takes_a_job_is_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store was away when it went on from an attempt: that is said before it takes the next job."""
    row = made()
    relay()
    ticket = take(worker_name(), os.getpid())
    assert ticket is not None
    left = ActionAttempt(ticket)
    assert left.claim()

    async def away(*_: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(left, "_lose", away)
        left.let_go()
    assert wiring.call(lambda node: node.queues.held(worker_name())).keys() == {str(row.id)}
    run_job("default")
    assert wiring.call(lambda node: node.queues.held(worker_name())) == {}
    looks = reaper()
    wiring.call(lambda _: looks.round())
    assert (now(row).status, now(row).crashes) == ("queued", 1)


def test_an_attempt_that_is_given_up_is_named_once_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread may go on for ever: that the store was away just then does not let the job run for ever, too."""
    row = made()
    relay()
    ticket = take("w", os.getpid())
    assert ticket is not None
    held = records.held(ticket, pid=os.getpid(), fence=attempt(row).fence)
    wiring.call(lambda node: node.queues.hold("w", ticket.job_id, held))
    warden = Warden("w", lambda: ["default"])
    monkeypatch.setattr(warden, "_slots", 2)  # it is not the last thread: this process goes on
    monkeypatch.setattr(heartbeat, "under_way", {(ticket.job_id, 1)})

    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(warden._store, "script", away)
        with pytest.raises(StoreUnavailable):
            warden._give_up(ticket.job_id, 1, "limit")
    warden._give_up(ticket.job_id, 1, "limit")
    warden.stop()
    looks = reaper()
    wiring.call(lambda _: looks.round())
    assert now(row).status == "failed"


def test_a_zombie_leaves_the_place_of_its_job_alone() -> None:
    """Its job waits again when it comes to its end: it stays on its queue."""
    row = made()
    relay()
    ticket = take("zombie")
    assert ticket is not None
    zombie = ActionAttempt(ticket)
    assert zombie.claim()
    ledger.died(now(row), due=0.0)
    assert relay() == 1
    zombie.run()
    assert now(row).status == "queued"
    assert waits(row) == [True]


def test_a_late_word_that_it_was_rung_for_is_of_no_claim_before_it() -> None:
    """Put on its queue, claimed and interrupted before the database heard of the first: it waits to be put there."""
    row = made()
    assert relay() == 1
    ledger.again(attempt(row), "interrupted")
    backlog.rung([str(row.id)], ago=0.2)
    assert now(row).rung_at is None
    past(row, "started_at")
    backlog.rung([str(row.id)], ago=0.2)
    assert now(row).rung_at is not None


def test_a_listing_has_what_may_be_looked_at_one_by_one() -> None:
    """Whoever may not run an action any more sees none of its jobs there, and the pages go on behind them."""
    owner = Principal(
        user_id="7", username="ann", scopes=frozenset({"read"}), is_anonymous=False, permissions=frozenset()
    )
    with registry.isolated():

        @action("test.revoked", access="auth.no_longer")
        def revoked(name: str) -> None: ...

        @action("test.allowed", access="login")
        def allowed(name: str) -> None: ...

        rows = [made(name=name, params='{"name":"x"}') for name in ("test.allowed", "test.revoked", "test.revoked")]
        found: list[str] = []

        async def turn_the_pages(node: wiring.Node) -> None:
            cursor: str | None = ""
            while cursor is not None:
                page, cursor, _ = await node.desk.page(owner, before=cursor, most=1)
                found.extend(fields["id"] for fields in page)

        wiring.call(turn_the_pages)
    assert found == [str(rows[0].id)]


# --- exactly once


@pytest.fixture
def declared() -> Iterator[list[str]]:
    """Actions that leave a group behind, one of them in the transaction that ends it."""
    calls: list[str] = []
    with registry.isolated():

        @action("test.effect", atomic=True, retries=0)
        def effect(name: str, fails: bool = False) -> None:
            calls.append(name)
            Group.objects.create(name=f"{name} {len(calls)}")
            if fails:
                raise ValueError("after its effect")

        yield calls


def effects() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


def begun(row: Job, worker: str) -> ActionAttempt:
    ticket = take(worker)
    assert ticket is not None
    assert ticket.job_id == str(row.id)
    found = ActionAttempt(ticket)
    assert found.claim()
    return found


def test_an_effect_and_the_end_of_its_job_are_committed_together(declared: list[str]) -> None:
    """The row is over when the effect is there; what raises leaves neither."""
    good = made(name="test.effect", params='{"name":"good"}')
    bad = made(name="test.effect", params='{"name":"bad","fails":true}')
    relay()
    for row in (good, bad):
        begun(row, "w").run()
    assert declared == ["good", "bad"]
    assert (now(good).status, now(bad).status) == ("succeeded", "failed")
    assert effects() == ["good 1"]


def test_a_zombie_s_effect_is_undone(declared: list[str]) -> None:
    """Two attempts of one job run; what one of them did stays, that of the one that has the job."""
    row = made(name="test.effect", params='{"name":"x"}')
    relay()
    zombie = begun(row, "zombie")
    ledger.died(now(row), due=0.0)
    relay()
    heir = begun(row, "heir")
    zombie.run()
    assert (now(row).status, effects()) == ("running", [])
    heir.run()
    assert declared == ["x", "x"]
    assert (now(row).status, effects()) == ("succeeded", ["x 2"])


def test_what_cannot_be_run_here_fails() -> None:
    """A worker without the declaration ends the job, with the reason, and holds nothing."""
    row = made(name="test.never_declared")
    relay()
    ticket = take()
    assert ticket is not None
    found = ActionAttempt(ticket)
    with pytest.raises(MillpondError) as refused:
        found.claim()
    found.refuse(refused.value)
    assert now(row).status == "failed"
    assert waits(row) == [False]
