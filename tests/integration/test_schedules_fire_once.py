"""Schedulers as they are started: each due time is one job, whatever is edited, killed or lost meanwhile."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
import redis

from asgi_app.jobs import firing_id
from tests.support.child import ROOT, run
from tests.support.service import until
from tests.support.store import StoreServer

#: Processes start and seconds pass, on a machine that may be busy.
pytestmark = pytest.mark.timeout(180)

MIGRATE = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
"""
#: What the staff's form does.
WRITE = """
from asgi_app.models import ScheduleEntry
for pk, changes in {changes}:
    entry = ScheduleEntry.objects.filter(pk=pk).first() or ScheduleEntry(pk=pk, kind="action", what="test.once")
    for field, value in changes.items():
        setattr(entry, field, value)
    entry.name = entry.name or str(pk)
    entry.params = entry.params or {{"name": "x"}}
    entry.full_clean()
    entry.save()
"""


class Place:
    """A database file, a part of the store, and the schedulers that work there.  Jobs wait: there is no worker."""

    def __init__(self, home: Path, store_url: str, namespace: str) -> None:
        self.environment = {
            **os.environ,
            "MILLPOND_HOME": str(home),
            "MILLPOND_REDIS_URL": store_url,
            "MILLPOND_NAMESPACE": namespace,
            "MILLPOND_APPS": "tests.support.app",
        }
        self.database = home / "millpond.sqlite3"
        self.log = home / "schedulers.log"
        self._store = redis.Redis.from_url(store_url)
        self._pattern = f"*{{{namespace}}}*"
        self._schedulers: list[subprocess.Popen[bytes]] = []
        run(MIGRATE, self.environment)

    def start(self, number: int) -> None:
        """Schedulers, as `millpond scheduler` starts them."""
        command = [sys.executable, "-m", "asgi_app", "scheduler"]
        with self.log.open("ab") as log:
            for _ in range(number):
                self._schedulers.append(subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=log))

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End them all; may be called twice."""
        for process in self._schedulers:
            process.send_signal(number)
        for process in self._schedulers:
            process.wait(20)
        self._schedulers.clear()

    def write(self, **changes: object) -> None:
        """Add or change an entry by its number."""
        run(WRITE.format(changes=repr([(changes.pop("pk", 1), changes)])), self.environment)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.database, timeout=10)) as database, database:
            return list(database.execute(statement))

    def fired(self, key: str) -> list[int]:
        """The due times, in unix seconds, for which there is a job of this plan."""
        found = {str(UUID(hex=str(row[0]))) for row in self.sql("SELECT id FROM millpond_job")}
        found |= {
            name.decode().rpartition(":")[2] for name in self._store.scan_iter(self._pattern.replace("*{", "j:{"))
        }
        jobs = [(int(job_id[:8] + job_id[9:13], 16), job_id) for job_id in found if job_id.count("-") == 4]
        return sorted(ms // 1000 for ms, job_id in jobs if job_id == firing_id(key, ms))

    def jobs(self) -> int:
        return int(str(self.sql("SELECT count(*) FROM millpond_job")[0][0]))

    def lose_the_store(self) -> None:
        for name in self._store.scan_iter(self._pattern):
            self._store.unlink(name)

    def leave(self) -> None:
        self.end(signal.SIGKILL)
        self.lose_the_store()
        self._store.close()


@pytest.fixture
def place(store_server: StoreServer, namespace: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, store_server.url, namespace)
    yield made
    made.leave()


def gaps(times: list[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(times)]


TICK = "action:test.tick"


def test_two_schedulers_fire_each_second_once(place: Place) -> None:
    """What is declared and what stands in the database, also when all are killed and started again in the middle."""
    place.write(seconds=1, catch_up="all")
    place.start(2)
    until(lambda: len(place.fired(TICK)) > 2 and len(place.fired("entry:1")) > 2, "they fire", 30)
    place.end(signal.SIGKILL)
    place.start(2)
    seen = len(place.fired("entry:1"))
    until(lambda: len(place.fired("entry:1")) > seen + 3, "they go on", 30)
    place.end()
    entry = place.fired("entry:1")
    assert set(gaps(entry)) == {1}
    assert place.jobs() == len(place.fired(TICK)) + len(entry), "every job is that of a due time"


def test_an_entry_that_is_edited_takes_effect(place: Place) -> None:
    """Added, changed and switched off while schedulers run; what could not be fired is said, and disturbs nothing."""
    place.start(2)
    until(lambda: len(place.fired(TICK)) > 1, "they run", 30)
    place.sql(
        "INSERT INTO millpond_scheduleentry (id, name, kind, what, params, crontab, seconds, timezone, catch_up,"
        " lateness, enabled, created_at, changed_at) VALUES (7, 'wrong', 'action', 'gone.away', '{}', '', 1, 'UTC',"
        " 'last', 60, 1, '2026-01-01', '2026-01-01')"
    )
    place.write(seconds=2, catch_up="all")
    until(lambda: len(place.fired("entry:1")) > 1, "it fires every two seconds")
    place.write(seconds=1)
    until(lambda: gaps(place.fired("entry:1"))[-2:] == [1, 1], "it fires every second")
    place.write(enabled=False)
    until(lambda: place.fired("entry:1")[-1] < place.fired(TICK)[-1] - 2, "it does not fire any more")
    fired = place.fired("entry:1")
    assert set(gaps(fired)) <= {1, 2}
    place.end()
    assert "the schedule 'wrong' is not fired: what: no action 'gone.away' is declared" in place.log.read_text()
    assert place.log.read_text().count("'wrong'") == 2, "once by each scheduler"


def test_what_was_missed_is_made_up_for_although_the_store_was_lost(place: Place) -> None:
    """As each entry says: how far the schedulers had got stands in the database."""
    for pk, catch_up in enumerate(("all", "last", "skip"), 1):
        place.write(pk=pk, seconds=1, catch_up=catch_up)
    place.start(2)
    until(lambda: all(len(place.fired(f"entry:{pk}")) > 2 for pk in (1, 2, 3)), "they fire", 30)
    place.end(signal.SIGKILL)
    before = {pk: place.fired(f"entry:{pk}") for pk in (1, 2, 3)}
    place.lose_the_store()
    until(lambda: time.time() > before[1][-1] + 5, "nobody fires for a while")
    started = time.time()
    place.start(1)
    until(lambda: all(place.fired(f"entry:{pk}")[-1] > started + 2 for pk in (1, 2, 3)), "it fires", 30)
    place.end()
    after = {pk: sorted({*before[pk], *place.fired(f"entry:{pk}")}) for pk in (1, 2, 3)}
    assert set(gaps(after[1])) == {1}
    assert max(gaps(after[2])) >= 4
    assert max(gaps(after[3])) >= 4
    assert after[3][len(before[3])] > started


def test_a_database_that_is_away_changes_nothing(place: Place) -> None:
    """Of the entries, that is: they go on as they were, and its changes are seen once it is back."""
    place.write(seconds=1)
    place.start(1)
    until(lambda: len(place.fired("entry:1")) > 1, "it fires", 30)
    place.sql("ALTER TABLE millpond_scheduleentry RENAME TO elsewhere")
    until(lambda: "the database is away" in place.log.read_text(), "it is noticed")
    seen = len(place.fired("entry:1"))
    until(lambda: len(place.fired("entry:1")) > seen + 3, "it goes on")
    place.sql("UPDATE elsewhere SET enabled = 0")
    place.sql("ALTER TABLE elsewhere RENAME TO millpond_scheduleentry")
    until(lambda: place.fired("entry:1")[-1] < place.fired(TICK)[-1] - 2, "it sees the change")
    place.end()
    assert place.log.read_text().count("the database is away") == 1
