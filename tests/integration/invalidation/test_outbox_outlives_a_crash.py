"""A process that dies between its commit and the invalidation leaves no stale value behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.child import ROOT, run
from tests.support.service import until
from tests.support.store import StoreServer

#: The names of all groups, kept for ten minutes.
DECLARED = """
@resource("groups", offload=False, fresh=600, tags=("groups",))
async def groups() -> list[str]:
    return [name async for name in Group.objects.order_by("name").values_list("name", flat=True)]
"""
MIGRATE = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
"""
READ = (
    DECLARED
    + """
print(read("groups"))
"""
)
#: Whoever comes as far as the store is shot.
SHOT = """
wiring.call = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
CHANGES = {
    "a transaction": """
with transaction.atomic():
    Group.objects.create(name="new")
    invalidate("groups")
""",
    "a model that is watched": """
invalidate_on(Group, tags="groups")
with transaction.atomic():
    Group.objects.create(name="new")
""",
    "a statement by itself": """
invalidate_on(Group, tags="groups")
Group.objects.bulk_create([Group(name="new")])
""",
    "raw SQL by itself": """
invalidate_on(Group, tags="groups")
connection.cursor().execute("INSERT INTO auth_group (name) VALUES ('new')")
""",
}


@pytest.fixture
def environment(store_server: StoreServer, namespace: str, tmp_path: Path) -> dict[str, str]:
    """A home of the test's own, with its database."""
    made = {
        **os.environ,
        "MILLPOND_HOME": str(tmp_path),
        "MILLPOND_REDIS_URL": store_server.url,
        "MILLPOND_NAMESPACE": namespace,
        "MILLPOND_APPS": "",
    }
    run(MIGRATE, made)
    return made


@contextmanager
def schedulers(environment: dict[str, str], number: int) -> Iterator[None]:
    """Schedulers, as `millpond scheduler` starts them; each has its relay."""
    command = [sys.executable, "-m", "asgi_app", "scheduler"]
    started = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(number)
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(20)


def left(home: Path) -> int:
    """How many rows stand in the outbox."""
    with closing(sqlite3.connect(home / "millpond.sqlite3", timeout=10)) as database:
        return int(database.execute("SELECT count(*) FROM millpond_outbox").fetchone()[0])


@pytest.mark.parametrize("change", CHANGES)
def test_a_crash_after_the_commit_is_made_up_for(change: str, environment: dict[str, str], tmp_path: Path) -> None:
    """The row that was committed with the change is found by the schedulers; then nobody is served the old value."""
    assert run(READ, environment) == "[]"
    run(SHOT + CHANGES[change], environment, code_of_exit=-signal.SIGKILL)
    assert left(tmp_path) == 1
    assert run(READ, environment) == "[]"  # still in the store: the crash was real
    with schedulers(environment, 2):
        until(lambda: left(tmp_path) == 0, "a relay finds the row", within=30)
    assert run(READ, environment) == "['new']"


def test_a_crash_before_the_commit_leaves_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    """Neither the change nor its row."""
    change = """
with transaction.atomic():
    Group.objects.create(name="new")
    invalidate("groups")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run(change, environment, code_of_exit=-signal.SIGKILL)
    assert left(tmp_path) == 0
    assert run(READ, environment) == "[]"
