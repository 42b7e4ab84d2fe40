"""What was submitted, what ran, who was killed; and what of it breaks a promise.  No service is needed to judge.

Invariant: `wrong` only grows; a run is good when it is empty at the end.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "dead", "expired"})
#: Seconds within which a job goes on, by who was killed; "message": the message alone was lost; "again": it had been
#: hit before, and what kills its process twice waits a second.
BOUNDS: Mapping[str, float] = {"child": 2.0, "worker": 20.0, "group": 20.0, "message": 10.0, "again": 24.0}
#: Crashes after which a job is dead.
_DEADLY = 3
#: Seconds by which times cut to milliseconds may be out of order; and those a process may live on after its death was
#: written down, on a busy machine.
_TICK, _LIVES_ON = 0.02, 0.5


@dataclass(slots=True, kw_only=True)
class Job:
    """A job as its user knows it."""

    id: str
    name: str
    kind: str
    #: Which of the users asked for it.
    user: int
    status: str = "queued"
    version: int = 0
    attempt: int = 0
    started: float | None = None
    finished: float | None = None
    #: Its attempts, the last ones, as the API tells them.
    history: list[Mapping[str, Any]] = field(default_factory=list)
    result_url: str | None = None
    #: Versions its watcher was told.
    told: list[int] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.status in TERMINAL


class Books:
    """One run's record."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.by_name: dict[str, Job] = {}
        self.wrong: list[str] = []
        #: Kinds of which a job may have run again although nobody died: what a store has from before its own death is
        #: outdated, and so is a value that was computed meanwhile.
        self.outdated: tuple[str, ...] = ()
        self.counts: Counter[str] = Counter()

    def blame(self, what: str) -> None:
        """Note a broken promise, once."""
        if what not in self.wrong:
            self.wrong.append(what)

    def submitted(self, job: Job) -> None:
        """It was answered 202."""
        if job.id in self.jobs:
            self.blame(f"job {job.id} was given to two submissions")
        self.jobs[job.id] = self.by_name[job.name] = job

    def open(self) -> list[Job]:
        """Jobs that are not known to be over."""
        return [job for job in self.jobs.values() if not job.over]

    def looked(self, found: Mapping[str, Any]) -> None:
        """A job was looked at: it only moves on."""
        job = self.jobs[found["id"]]
        before = (job.status, job.version, job.attempt)
        now = (found["status"], found["version"], found["attempt"])
        if job.over and now != before:
            self.blame(f"job {job.id} was over as {before} and is {now}")
        if now[1] < before[1] or now[2] < before[2]:
            self.blame(f"job {job.id} went back from {before} to {now}")
        if now[1] == before[1] and now != before:
            self.blame(f"job {job.id} changed from {before} to {now} without a new version")
        job.status, job.version, job.attempt = now
        job.started, job.finished = _unix(found["started_at"]), _unix(found["finished_at"])
        job.history, job.result_url = found["history"], found["result_url"]

    def told(self, found: Mapping[str, Any]) -> None:
        """A watcher was told of a job."""
        job = self.jobs.get(found["id"])
        if job is not None:
            if job.told and found["version"] <= job.told[-1]:
                self.blame(f"the watcher of job {job.id} was told version {found['version']} after {job.told[-1]}")
            job.told.append(found["version"])
            self.counts["versions told"] += 1

    # --- the end

    def audit(
        self, ledger: Sequence[Mapping[str, Any]], kills: Sequence[Mapping[str, Any]], rows: Mapping[str, int]
    ) -> Recoveries:
        """Hold what ran against who was killed.  `rows`: effects in the database, by name."""
        course = Course(self, ledger, kills)
        for job in self.jobs.values():
            if not job.over:
                self.blame(f"job {job.id} ({job.name}) is {job.status}, attempt {job.attempt}, and not over")
                continue
            self.counts[f"{job.kind} {job.status}"] += 1
            self._audit_job(job, course)
            expected = 1 if job.kind == "row" and job.status == "succeeded" else 0
            if rows.get(job.name, 0) != expected:
                self.blame(f"job {job.id} ({job.name}, {job.status}) has had {rows.get(job.name, 0)} effects in rows")
        return course.recoveries()

    def _audit_job(self, job: Job, course: Course) -> None:
        runs = course.runs[job.name]
        deaths = [attempt for attempt in job.history if attempt["outcome"] == "died"]
        for attempt in deaths:
            if not course.explains_death(job, attempt):
                self.blame(f"job {job.id} is said to have died, and nobody had killed it: {attempt}")
        if job.status == "dead" and len(deaths) != _DEADLY:
            self.blame(f"job {job.id} is dead after {len(deaths)} crashes")
        if job.status == "succeeded" and job.attempt != len(deaths) + 1 and job.kind not in self.outdated:
            self.blame(f"job {job.id} made {job.attempt} attempts, of which {len(deaths)} died")
        if job.status not in ("succeeded", "dead"):
            self.blame(f"job {job.id} is {job.status}")
        if job.status == "succeeded" and not any(run.done for run in runs):
            self.blame(f"job {job.id} succeeded, and its function did not end")
        if len(runs) > job.attempt:
            self.blame(f"job {job.id} ran {len(runs)} times in {job.attempt} attempts")
        for before, after in pairwise(runs):
            if not course.explains_repetition(before, after) and job.kind not in self.outdated:
                self.blame(f"job {job.id} ({job.name}) ran again although nobody had killed it: {before}, {after}")
        self.counts["functions that ran again"] += max(0, len(runs) - 1)


@dataclass(slots=True, kw_only=True)
class Run:
    """A function was called."""

    began: float
    pid: int
    worker: str
    done: float | None = None

    def hit_by(self, kill: Mapping[str, Any]) -> bool:
        """Whether its process was killed by this."""
        same = kill["pid"] == self.pid if kill["victim"] == "child" else True
        return same and kill["worker"] == self.worker

    def in_hand(self, at: float) -> bool:
        """Whether it was at work, or had just done it."""
        return self.began <= at and (self.done is None or at <= self.done)


class Course:
    """Runs of functions beside kills, by job."""

    def __init__(self, books: Books, ledger: Sequence[Mapping[str, Any]], kills: Sequence[Mapping[str, Any]]) -> None:
        self._books, self._kills = books, kills
        self.runs: dict[str, list[Run]] = defaultdict(list)
        for line in sorted(ledger, key=lambda line: float(line["at"])):
            if line["what"] == "began":
                self.runs[line["name"]].append(Run(began=line["at"], pid=line["pid"], worker=line["worker"]))
                continue
            same = [run for run in self.runs[line["name"]] if (run.pid, run.worker) == (line["pid"], line["worker"])]
            same[-1].done = line["at"]
        self._by_worker: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for kill in kills:
            self._by_worker[kill["worker"]].append(kill)

    def explains_death(self, job: Job, attempt: Mapping[str, Any]) -> bool:
        """Whether somebody has killed what an attempt ran in, before it was said to have died."""
        until = (_unix(attempt["ended_at"]) or 0.0) + _TICK
        for kill in self._by_worker[attempt["worker"]]:
            own = kill["victim"] != "child" or kill["job"] == job.id or kill["name"] == job.name
            if own and kill["at"] <= until:
                return True
        return False

    def explains_repetition(self, before: Run, after: Run) -> bool:
        """Whether what ran was killed after its function had begun, and before the function began again."""
        kills = self._by_worker[before.worker]
        return any(before.hit_by(kill) and before.began - _LIVES_ON <= kill["at"] <= after.began for kill in kills)

    def recoveries(self) -> Recoveries:
        """For each kill, and each job known to be concerned, the seconds until it ran again or was over."""
        concerned = [(kill, job) for kill in self._kills for job in self._concerned(kill)]
        times: dict[str, list[float]] = defaultdict(list)
        unfinished = Counter[str]()
        for kill, job in concerned:
            waited = not any(run.began < kill["at"] for run in self.runs[job.name])
            own = kill["step"] == "popped" and kill["job"] == job.id
            what = "message" if own and waited else kill["victim"]
            others = [other["at"] for other, same in concerned if same is job and other is not kill]
            later = [other for other in others if other > kill["at"]]
            if any(other < kill["at"] for other in others):
                what = "again"
            events = [run.began for run in self.runs[job.name] if run.began > kill["at"]]
            events += [job.finished] if job.finished is not None else []
            until = min((event for event in events if event > kill["at"] - _TICK), default=None)
            later += [other["at"] for other in self._by_worker[kill["worker"]] if self._takes_over(kill, other)]
            # What died before its function began is in no line, but in the history.
            starts = [_unix(attempt["started_at"]) for attempt in job.history if attempt["outcome"] == "died"]
            later += [start for start in starts if start is not None and start > kill["at"]]
            if until is None or any(other < until for other in later):
                unfinished[what] += 1
                continue
            times[f"{what}: {kill['step']}"].append(max(0.0, until - kill["at"]))
        return Recoveries(times=times, unfinished=unfinished)

    def _takes_over(self, kill: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether the parent that was to notice a death has died, too."""
        return bool(kill["victim"] == "child" and other["victim"] != "child" and other["at"] > kill["at"])

    def _concerned(self, kill: Mapping[str, Any]) -> list[Job]:
        """Jobs that were alive and in the hands of what was killed, as far as lines tell."""
        names = {run_of for run_of, runs in self.runs.items() for run in runs if _held(run, kill)}
        own = self._books.jobs.get(kill["job"]) or self._books.by_name.get(kill["name"])
        jobs = [self._books.by_name[name] for name in names if name in self._books.by_name]
        if own is not None and (kill["step"] != "popped" or not any(r.began < kill["at"] for r in self.runs[own.name])):
            jobs.append(own)
        alive = [job for job in jobs if job.finished is None or job.finished > kill["at"] + _TICK]
        return list({job.id: job for job in alive}.values())


@dataclass(slots=True, kw_only=True)
class Recoveries:
    """Seconds from a kill until a job concerned ran again or was over, by "who: step"."""

    times: Mapping[str, Sequence[float]]
    #: Jobs that were hit again before that, by who.
    unfinished: Mapping[str, int]

    def by_victim(self) -> dict[str, list[float]]:
        """Over all steps."""
        found: dict[str, list[float]] = defaultdict(list)
        for what, times in self.times.items():
            found[what.partition(":")[0]] += times
        return found

    def table(self) -> list[tuple[str, int, float, float, float]]:
        """What, how many, median, 95th percentile, maximum."""
        rows = {**{f"{who}: all": times for who, times in self.by_victim().items()}, **self.times}
        return [
            (what, len(times), statistics.median(times), percentile(times, 0.95), max(times))
            for what, times in sorted(rows.items())
        ]


def percentile(times: Sequence[float], share: float) -> float:
    """The smallest that is not less than `share` of them."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _held(run: Run, kill: Mapping[str, Any]) -> bool:
    return run.hit_by(kill) and run.in_hand(kill["at"])


def _unix(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
