"""Processes die at each step of a job's life, and jobs that harm whoever runs them: every job ends once, and well."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from tests.chaos.crashes.__main__ import token
from tests.chaos.crashes.books import TERMINAL
from tests.chaos.crashes.injection import Orders, Step, Victim, read_lines
from tests.chaos.crashes.leftovers import Leftovers
from tests.support.service import Service, until

pytestmark = pytest.mark.timeout(120)

#: Seconds of waiting for what takes twelve on an idle machine: a worker's lease, its start.
LONG = 60.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker with two processes, whose steps are wrapped."""
    running = started(tmp_path_factory.mktemp("crashes"))
    yield running
    assert running.stop() == 0


def started(home: Path, **settings: str) -> Service:
    """A service that runs the crash harness's declarations."""
    named = {"MILLPOND_APPS": "tests.chaos.crashes.declared", "MILLPOND_WORKER_CONCURRENCY": "2", **settings}
    return Service(home, "--no-demo", **named).start()


@pytest.fixture(scope="module")
def user(service: Service) -> dict[str, str]:
    """Headers of a user who may end jobs."""
    return {"Authorization": f"Bearer {token(service, 'ash')}"}


class Asked:
    """A job that was asked for."""

    def __init__(self, service: Service, name: str, user: dict[str, str] | None = None, **params: Any) -> None:
        """`name`: of a resource or an action; the job's own name is in its parameters.  `user`: else the public."""
        self._user = user or {}
        self.service, self.name = service, f"{name}-{uuid4().hex[:8]}"
        url, params = f"{service.url}/api/v1", {"name": self.name, **params}
        headers = {"Prefer": "respond-async", **self._user}
        if "value" in name or "coroutine" in name:
            answer = httpx.get(f"{url}/resources/{name}", params=params, headers=headers)
        else:
            answer = httpx.post(f"{url}/actions/{name}", json=params, headers=headers)
        assert answer.status_code == 202, answer.text
        self.id = answer.json()["id"]

    def now(self) -> dict[str, Any]:
        """The job object."""
        found: dict[str, Any] = self.service.get(f"/api/v1/jobs/{self.id}", **self._user).json()
        return found

    def status(self) -> str:
        """Its status."""
        return str(self.now()["status"])

    def ended(self) -> dict[str, Any]:
        """The job object, when it is over."""
        until(lambda: self.status() in TERMINAL, f"{self.name} is over", within=LONG)
        return self.now()

    def began(self) -> int:
        """How often its function was called."""
        lines = read_lines(self.service.home / "ledger")
        return sum((line["name"], line["what"]) == (self.name, "began") for line in lines)

    def cancel(self) -> None:
        """Ask for its end."""
        answer = httpx.delete(f"{self.service.url}/api/v1/jobs/{self.id}", headers=self._user)
        assert answer.status_code == 202, answer.text

    def running(self) -> None:
        """Return when its function has been called."""
        until(lambda: self.began(), f"{self.name} runs", within=LONG)


def order(service: Service, step: Step, victim: Victim = "child") -> None:
    """Somebody shall die there, who is the next; everybody is there."""
    workers_are_there(service)
    Orders(service.home).give(step, victim)


def workers_are_there(service: Service) -> None:
    """Return when the worker has its processes."""
    until(lambda: len(children(service)) == 2, "the worker has two processes", within=LONG)


def children(service: Service) -> list[psutil.Process]:
    """The processes of the worker of `millpond up`."""
    found = []
    for child in psutil.Process(service.pid).children(recursive=True):
        try:
            parent = child.parent()
            if "worker" in child.cmdline() and parent is not None and "worker" in parent.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def rows(service: Service, job: Asked) -> int:
    """How often an action has had its effect in the database."""
    with closing(sqlite3.connect(service.home / "millpond.sqlite3")) as connection:
        found = connection.execute("SELECT count(*) FROM crashes_effect WHERE name = ?", (job.name,)).fetchone()
    return int(found[0])


def outcomes(job: dict[str, Any]) -> list[str]:
    """How its attempts went."""
    return [attempt["outcome"] for attempt in job["history"]]


@pytest.mark.parametrize(
    ("name", "step", "attempts", "runs"),
    [
        ("crash.value", "claimed", 2, 1),
        ("crash.value", "begun", 2, 2),
        ("crash.value", "ending", 2, 2),
        ("crash.value", "ended", 1, 1),
        ("crash.coroutine", "begun", 2, 2),
        ("crash.line", "taken", 1, 1),
        ("crash.line", "leaving", 1, 1),
        ("crash.row", "ending", 2, 2),
        ("crash.row", "ended", 2, 2),
    ],
)
def test_a_process_dies(service: Service, name: str, step: Step, attempts: int, runs: int) -> None:
    """Wherever: the job ends once, attempts that had begun are in its history, and a row is written exactly once."""
    order(service, step)
    job = Asked(service, name)
    ended = job.ended()
    until(lambda: not Orders(service.home).open(), "somebody has died")
    assert (ended["status"], ended["attempt"], job.began()) == ("succeeded", attempts, runs)
    assert outcomes(ended).count("died") == attempts - 1
    if ended["kind"] == "computation":
        assert service.get(ended["result_url"]).json() == {"name": job.name}
    if name == "crash.row":
        assert rows(service, job) == 1
    assert job.now() == ended


def test_a_worker_dies_with_two_jobs(service: Service) -> None:
    """The whole process group is killed: what it had in its hands runs again, and nothing stays in the store."""
    workers_are_there(service)
    beside = Asked(service, "crash.line", seconds=4)
    beside.running()
    Orders(service.home).give("begun", "group")
    job = Asked(service, "crash.row")
    assert (job.ended()["status"], beside.ended()["status"]) == ("succeeded", "succeeded")
    assert (outcomes(job.now()), outcomes(beside.now())) == (["died", "succeeded"], ["died", "succeeded"])
    assert rows(service, job) == 1
    workers_are_there(service)
    left = Leftovers(service.environment)
    try:
        assert left.wait(LONG, 1) == []
    finally:
        left.close()


def test_a_message_is_lost(service: Service) -> None:
    """The worker dies between the broker's pop and its note of it: the message is gone, and another is rung."""
    order(service, "popped", "worker")
    job = Asked(service, "crash.value")
    ended = job.ended()
    assert (ended["status"], ended["attempt"], job.began()) == ("succeeded", 1, 1)
    assert not Orders(service.home).open()


def test_poison(service: Service) -> None:
    """What harms its process runs three times at the most, and is then dead or failed; others are not disturbed."""
    workers_are_there(service)
    expected = {
        "exit": ("dead", 3),
        "kill": ("dead", 3),
        "memory": ("failed", 1),
        "unpicklable": ("failed", 1),
        "sys.exit": ("failed", 1),
        "hang": ("failed", 1),
        "grip": ("failed", 1),
    }
    kinds: dict[str, tuple[str, ...]] = dict.fromkeys(expected, ("poison.value", "poison.act"))
    kinds["hang"], kinds["grip"] = ("poison.value",), ("poison.act",)  # each keeps a process for six seconds
    poison = {(kind, how): Asked(service, kind, how=how) for how in expected for kind in kinds[how]}
    bystanders = [Asked(service, name) for name in ("crash.value", "crash.line", "crash.row") * 3]
    found = {what: (job.ended()["status"], job.began()) for what, job in poison.items()}
    assert found == {(kind, how): expected[how] for kind, how in poison}
    assert {job.ended()["status"] for job in bystanders} == {"succeeded"}
    for (_, how), job in poison.items():
        ended = job.now()
        assert ended["error"]["status"] == (504 if how in ("hang", "grip") else 502)
        if ended["status"] == "dead":
            assert outcomes(ended)[:2] == ["died", "died"]
    workers_are_there(service)


def test_a_cancelled_job_that_does_not_listen(service: Service, user: dict[str, str]) -> None:
    """Its process is ended by force after a while, and no other one: what runs beside it runs on."""
    workers_are_there(service)
    job, beside = Asked(service, "crash.deaf_value", user), Asked(service, "crash.line", seconds=7)
    job.running()
    beside.running()
    job.cancel()
    ended = job.ended()
    assert (ended["status"], job.began()) == ("cancelled", 1)
    assert (beside.ended()["status"], beside.began()) == ("succeeded", 1)
    workers_are_there(service)


def test_a_cancelled_job_that_listens(service: Service, user: dict[str, str]) -> None:
    """It ends by itself, and its process lives."""
    workers_are_there(service)
    before = {process.pid for process in children(service)}
    job = Asked(service, "crash.steps", user)
    job.running()
    job.cancel()
    assert job.ended()["status"] == "cancelled"
    assert {process.pid for process in children(service)} == before


def test_the_store_dies_with_all_it_had(service: Service) -> None:
    """Actions that waited, and those that ran, are once in the database."""
    workers_are_there(service)
    jobs = [Asked(service, "crash.row", seconds=0.2) for _ in range(12)]
    for process in psutil.Process(service.pid).children(recursive=True):
        if any("valkey-server" in word or "redis-server" in word for word in process.cmdline()):
            process.kill()
    assert {job.ended()["status"] for job in jobs} == {"succeeded"}
    assert [rows(service, job) for job in jobs] == [1] * len(jobs)


def test_threads_that_are_stuck(tmp_path: Path) -> None:
    """In a pool of threads nothing is killed: given up jobs are over, and a worker with no thread left is replaced."""
    service = started(tmp_path / "threads", MILLPOND_WORKER_POOL="threads")
    try:
        user = {"Authorization": f"Bearer {token(service, 'birch')}"}
        stuck = [Asked(service, name, user) for name in ("crash.deaf", "crash.deaf_value")]
        for job in stuck:
            job.running()
        for job in stuck:
            job.cancel()
        assert {job.ended()["status"] for job in stuck} == {"cancelled"}
        after = [Asked(service, name) for name in ("crash.value", "crash.row")]
        assert {job.ended()["status"] for job in after} == {"succeeded"}
        assert [job.began() for job in (*stuck, *after)] == [1, 1, 1, 1]
    finally:
        assert service.stop() == 0
