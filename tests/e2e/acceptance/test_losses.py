"""Processes that die, messages that are lost and brokers that hang, on every broker."""

from __future__ import annotations

import time
from uuid import uuid4

import psutil

from tests.e2e.acceptance.conftest import Deployment, quickly
from tests.support.service import until


def unique() -> str:
    return uuid4().hex[:12]


def test_a_killed_process_of_a_worker(deployed: Deployment) -> None:
    """kill -9 of the one that runs a job: another one runs it."""
    name = unique()
    job = deployed.run("steady", name=name, seconds=1.5)
    until(lambda: deployed.pids(f"steady {name}"), "it runs")
    psutil.Process(deployed.pids(f"steady {name}")[0]).kill()
    ended = deployed.over(job)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 2)
    assert len(set(deployed.pids(f"steady {name}"))) == 2


def test_a_killed_worker(deployed: Deployment) -> None:
    """kill -9 of all of it: the next worker runs the job."""
    name = unique()
    job = deployed.run("steady", name=name, seconds=1.5)
    until(lambda: deployed.pids(f"steady {name}"), "it runs")
    parent = psutil.Process(deployed.pids(f"steady {name}")[0]).parent()
    assert parent is not None
    for process in (parent, *parent.children()):
        process.kill()
    ended = deployed.over(job, within=50)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 2)


def test_lost_messages(deployed: Deployment) -> None:
    """The broker loses all it had: what waits is rung for again."""
    name = unique()
    busy = [deployed.run("steady", name=f"{name}{part}", seconds=3.0) for part in "ab"]
    until(lambda: all(deployed.pids(f"steady {name}{part}") for part in "ab"), "both processes are busy")
    waiting = [deployed.run("note", name=f"{name} {number}") for number in range(4)]
    until(lambda: deployed.broker.purge() > 0, "there was something to lose")
    for job in (*waiting, *busy):
        assert deployed.over(job)["status"] == "succeeded"
    assert [deployed.noted(f"{name} {number}") for number in range(4)] == [1] * 4


def test_a_frozen_broker(deployed: Deployment) -> None:
    """While it hangs the web answers; what was accepted runs when it is back."""
    name = unique()
    known = deployed.http.get("/resources/plain.double?n=1", headers={"Prefer": "wait=20"})
    assert known.status_code == 200
    deployed.broker.freeze()
    jobs = []
    try:
        for number in range(5):
            began = time.monotonic()
            jobs.append(deployed.run("note", name=f"{name} {number}"))
            quickly(began)
            began = time.monotonic()
            assert deployed.http.get("/resources/plain.double?n=1").json() == 2
            quickly(began)
    finally:
        deployed.broker.thaw()
    for job in jobs:
        assert deployed.over(job, within=50)["status"] == "succeeded"
    assert [deployed.noted(f"{name} {number}") for number in range(5)] == [1] * 5
