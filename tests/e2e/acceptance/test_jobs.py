"""A job's ways, on every broker."""

from __future__ import annotations

from uuid import uuid4

from tests.e2e.acceptance.conftest import Deployment
from tests.support.service import until


def unique() -> str:
    return uuid4().hex[:12]


def test_a_value_is_computed(deployed: Deployment) -> None:
    """By a worker, once for all who ask."""
    number = int(uuid4().hex[:6], 16)
    answers = [deployed.http.get(f"/resources/plain.double?n={number}", headers={"Prefer": "wait=20"}) for _ in "ab"]
    assert [answer.json() for answer in answers] == [2 * number] * 2
    assert deployed.noted(f"double {number}") == 1


def test_an_action_happens_once_for_one_key(deployed: Deployment) -> None:
    """The same Idempotency-Key is the same job, with another body it is refused."""
    name, key = unique(), unique()
    job = deployed.run("note", key, name=name)
    assert deployed.run("note", key, name=name)["id"] == job["id"]
    refused = deployed.http.post("/actions/plain.note", json={"name": "other"}, headers={"Idempotency-Key": key})
    assert refused.status_code == 422
    assert deployed.over(job)["status"] == "succeeded"
    assert deployed.noted(name) == 1


def test_what_fails_once_is_tried_again(deployed: Deployment) -> None:
    """The second attempt of the same job succeeds."""
    job = deployed.over(deployed.run("recovers", name=unique()))
    assert (job["status"], job["attempt"]) == ("succeeded", 2)


def test_a_failure_says_what_it_is(deployed: Deployment) -> None:
    """The job is there, failed, with the problem of its function."""
    job = deployed.over(deployed.run("fails", name="broken pipe"))
    assert job["status"] == "failed"
    assert job["error"]["exception"] == "ValueError"
    assert "broken pipe" in job["error"]["detail"]


def test_progress_is_seen(deployed: Deployment) -> None:
    """While it runs its job says how far it is."""
    job = deployed.run("steps", name=unique(), seconds=4.0)
    until(lambda: (deployed.job(job)["progress"] or {}).get("done", 0) > 2, "progress is seen")
    progress = deployed.job(job)["progress"]
    assert (progress["total"], progress["percent"]) == (20, 5.0 * progress["done"])
    assert deployed.over(job)["status"] == "succeeded"


def test_a_running_job_is_cancelled(deployed: Deployment) -> None:
    """It hears of it where it reports progress, and ends there."""
    name = unique()
    job = deployed.run("steps", name=name, seconds=30.0)
    until(lambda: deployed.job(job)["status"] == "running", "it runs")
    assert deployed.http.delete(f"/jobs/{job['id']}").status_code == 202
    assert deployed.over(job)["status"] == "cancelled"
    assert deployed.noted(f"stepped {name}") == 0


def test_a_waiting_job_is_cancelled_and_the_others_come_by_priority(deployed: Deployment) -> None:
    """While all processes are busy four jobs come, least urgent first: they run by priority, but for the cancelled."""
    name = unique()
    long, short = (
        deployed.run("steady", name=f"{name}{part}", seconds=seconds) for part, seconds in (("l", 8), ("s", 3))
    )
    until(lambda: all(deployed.pids(f"steady {name}{part}") for part in "ls"), "both processes are busy")
    jobs = [deployed.run(action, name=name) for action in ("least", "middle", "first")]
    gone = deployed.run("note", name=f"{name} gone")
    assert deployed.http.delete(f"/jobs/{gone['id']}").status_code in (200, 202)
    assert deployed.over(gone)["status"] == "cancelled"
    assert {deployed.job(job)["status"] for job in jobs} == {"queued"}
    for job in (*jobs, long, short):
        assert deployed.over(job)["status"] == "succeeded"
    assert [line for line in deployed.service.ledger() if line.startswith(f"{name} ")] == [
        f"{name} {p}" for p in (9, 5, 0)
    ]


def test_schedules_fire(deployed: Deployment) -> None:
    """Each second, as declared."""
    ticks = deployed.noted("tick")
    until(lambda: deployed.noted("tick") > ticks + 2, "it fires")


def test_coroutines_run_side_by_side_or_wait(deployed: Deployment) -> None:
    """Each process has one loop, so an `async def` runs like any other job."""
    name = unique()
    jobs = [deployed.run("meets", name=f"{name}{part}") for part in "ab"]
    until(lambda: all(deployed.pids(f"meets {name}{part}") for part in "ab"), "both run")
    for job in jobs:
        deployed.http.delete(f"/jobs/{job['id']}")
        assert deployed.over(job)["status"] == "cancelled"
