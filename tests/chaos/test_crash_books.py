"""The crash harness's books notice every kind of broken promise; otherwise a good run would mean nothing."""

from __future__ import annotations

from typing import Any

from tests.chaos.crashes.books import Books, Job

#: A job id whose time is 1000 s.
ID = "00000000-f424-7000-8000-000000000000"


def books(kind: str = "line") -> Books:
    made = Books()
    made.submitted(Job(id=ID, name="a", kind=kind, user=0))
    return made


def seen(status: str, version: int, attempt: int, *outcomes: str) -> dict[str, Any]:
    history = [
        {"outcome": outcome, "worker": "w", "ended_at": "1970-01-01T00:16:45.000Z", "started_at": None}
        for outcome in outcomes
    ]
    finished = "1970-01-01T00:16:50.000Z" if status == "succeeded" else None
    found = {"id": ID, "status": status, "version": version, "attempt": attempt, "history": history}
    return {**found, "started_at": None, "finished_at": finished, "result_url": None}


def ran(at: float, done: float | None, pid: int = 1) -> list[dict[str, Any]]:
    about = {"name": "a", "pid": pid, "worker": "w"}
    began = [{"what": "began", "at": at, **about}]
    return began if done is None else [*began, {"what": "done", "at": done, **about}]


def kill(at: float, pid: int = 1, step: str = "begun") -> dict[str, Any]:
    about = {"order": str(at), "step": step, "victim": "child", "job": "", "name": "a", "worker": "w"}
    return {**about, "pid": pid, "at": at}


def test_a_death_and_its_repetition_are_right() -> None:
    """The job ran again because it was killed; how long that took is measured."""
    kept = books()
    kept.looked(seen("running", 2, 1))
    kept.looked(seen("succeeded", 5, 2, "died", "succeeded"))
    found = kept.audit([*ran(1001, None), *ran(1003.5, 1004, pid=2)], [kill(1002)], {})
    assert not kept.wrong
    assert found.times == {"child: begun": [1.5]}


def test_a_repetition_nobody_caused_is_blamed() -> None:
    """Nobody had killed the process, or the kill came before its function began."""
    for kills in ([], [kill(1000.1)], [kill(1002, pid=7)]):
        kept = books()
        kept.looked(seen("succeeded", 5, 2, "died", "succeeded"))
        kept.audit([*ran(1001, None), *ran(1003, 1004, pid=2)], kills, {})
        assert any("ran again although nobody" in what for what in kept.wrong)


def test_a_death_nobody_caused_is_blamed() -> None:
    """A history that tells of one."""
    kept = books()
    kept.looked(seen("succeeded", 5, 2, "died", "succeeded"))
    kept.audit(ran(1003, 1004), [], {})
    assert any("is said to have died" in what for what in kept.wrong)


def test_a_job_that_is_not_over_is_blamed() -> None:
    """However it stands."""
    kept = books()
    kept.looked(seen("running", 2, 1))
    kept.audit([], [], {})
    assert len(kept.wrong) == 1


def test_effects_are_counted() -> None:
    """None and two are both wrong for an atomic action that succeeded."""
    for rows in ({}, {"a": 2}):
        kept = books("row")
        kept.looked(seen("succeeded", 3, 1, "succeeded"))
        kept.audit(ran(1001, 1002), [], rows)
        assert any("effects in rows" in what for what in kept.wrong)


def test_a_job_that_goes_back_is_blamed() -> None:
    """An older version, a change without a new one, a change after the end."""
    for first, second in (
        (seen("running", 3, 1), seen("queued", 2, 1)),
        (seen("queued", 2, 1), seen("running", 2, 1)),
        (seen("succeeded", 3, 1), seen("running", 4, 2)),
    ):
        kept = books()
        kept.looked(first)
        kept.looked(second)
        assert kept.wrong


def test_a_watcher_is_told_ever_newer_versions() -> None:
    """The same one twice is wrong, too."""
    kept = books()
    for version in (1, 2, 2):
        kept.told(seen("running", version, 1))
    assert len(kept.wrong) == 1
