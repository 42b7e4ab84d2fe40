"""PostgreSQL and MariaDB: their JSON, their upserts, their locks; schedules are the same as on SQLite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import databases
from tests.support.child import run

pytestmark = pytest.mark.services

SETTLES = """
import logging
from threading import Barrier, Thread
from django.core.management import call_command
from asgi_app.models import ScheduleEntry, ScheduleState
from asgi_app.scheduling import book

logging.disable()  # there is no store here to tell of the migrations
call_command("migrate", verbosity=0)

entry = ScheduleEntry(name="x", kind="resource", what="test.echo", params={"n": 2}, crontab="0 6 * * *")
entry.full_clean()
ScheduleEntry.objects.bulk_create([entry])
(plan,), wrong = book.plans()
assert wrong == {} and plan.what.dump(plan.params) == {"n": 2, "text": "hello"}, wrong

# Two at once, in different orders, from the first row on.
barrier, failures = Barrier(4), []
def settle(names):
    try:
        barrier.wait(10)
        for ms in range(1, 40):
            book.settle({name: ("1.0 s", ms * 1000) for name in names})
            now = {key: settled.until for key, settled in book.settled().items()}
            assert all(now[name] >= ms for name in names), now
    except Exception as error:
        failures.append(error)
    finally:
        connection.close()
names = [f"entry:{n}" for n in range(20)]
threads = [Thread(target=settle, args=(some,)) for some in (names, names[::-1], names, names[::-1])]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failures, failures
assert {settled.until for settled in book.settled().values()} == {39.0}
book.settle({"entry:0": ("1.0 s", 5000)})
book.settle({"entry:1": ("2.0 s", 5000)})
assert {key: settled.until for key, settled in book.settled().items() if key in ("entry:0", "entry:1")} == {
    "entry:0": 39.0, "entry:1": 5.0
}
book.forget_gone()
assert ScheduleState.objects.count() == 1
"""


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own; its URL."""
    with databases.database(request.param, "schedules") as url:
        yield url


def test_schedules_on_a_production_database(database: str, tmp_path: Path) -> None:
    """Entries are read; what schedulers settle at once grows, and none of them waits for another for ever."""
    environment = {
        **os.environ,
        "MILLPOND_HOME": str(tmp_path),
        "MILLPOND_DATABASE_URL": database,
        "MILLPOND_APPS": "tests.support.app",
    }
    run(SETTLES, environment)
