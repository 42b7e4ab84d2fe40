"""Each database has its own transactions, and its own outbox."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.child import run
from tests.support.store import StoreServer

MIGRATE = """
from django.core.management import call_command
for alias in ("default", "other"):
    call_command("migrate", database=alias, verbosity=0)
"""
HEARD = """
from tests.support.told import Told, rolled_back
from asgi_app.invalidation import dirty
told = Told(wiring.env().store_url)
"""
TRANSACTIONS = (
    HEARD
    + """
invalidate_on(Group, tags="groups")
invalidate_on(Group, tags=lambda group: ["group." + group.name])
with transaction.atomic(using="other"):
    with transaction.atomic():
        Group.objects.using("other").create(name="a")
        assert dirty("a.b", "d1", ["groups"]) and dirty("a.b", "d1", ["groups"], using="other")
        assert not dirty("a.b", "d1", ["groups"], using="default")
    assert told.tags() == []
assert told.tags() == [{"groups", "group.a"}]

with transaction.atomic(using="other"):
    Group.objects.create(name="b")
    assert {tag for tags in told.tags() for tag in tags} == {"groups", "group.b"}

with transaction.atomic(using="other"):
    invalidate("x")
    assert told.tags() == []
assert told.tags() == [{"x"}]
with transaction.atomic(using="other"), rolled_back():
    invalidate("kept of the outer one")
assert told.tags() == [{"kept of the outer one"}]
assert not Outbox.objects.exists() and not Outbox.objects.using("other").exists()
"""
)
CRASHES = """
invalidate_on(Group, tags="groups")
wiring.call = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Group.objects.using("other").create(name="new")
"""
RELAYED = (
    HEARD
    + """
from tasks.relay import relay
assert Outbox.objects.using("other").count() == 1
assert not Outbox.objects.exists()
assert wiring.call(lambda node: relay(node, age=0)) == 1
assert told.tags() == [{"groups"}]
assert not Outbox.objects.using("other").exists()
"""
)


@pytest.fixture
def environment(store_server: StoreServer, namespace: str, tmp_path: Path) -> dict[str, str]:
    """A home with two migrated databases."""
    made = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.support.two_databases",
        "MILLPOND_HOME": str(tmp_path),
        "MILLPOND_REDIS_URL": store_server.url,
        "MILLPOND_NAMESPACE": namespace,
        "MILLPOND_APPS": "",
    }
    run(MIGRATE, made)
    return made


def test_a_change_waits_for_the_commit_of_its_own_database(environment: dict[str, str]) -> None:
    """What names no database waits for every transaction that is open."""
    run(TRANSACTIONS, environment)


def test_the_relay_looks_into_every_outbox(environment: dict[str, str]) -> None:
    """A row stands in the database whose transaction it was part of."""
    run(CRASHES, environment, code_of_exit=-signal.SIGKILL)
    run(RELAYED, environment)
