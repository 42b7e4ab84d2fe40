"""PostgreSQL and MariaDB: their quoting, their statements, their locks; the outbox is the same as on SQLite."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import databases
from tests.support.child import run
from tests.support.store import StoreServer

pytestmark = pytest.mark.services

MIGRATE = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
"""
#: Every change is told once it is committed, and its row is gone by then.
SEEN = """
from django.contrib.auth.models import Permission
from tests.support.told import Told
invalidate_on(Group, tags="groups")
told = Told(wiring.env().store_url)

def sql(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else cursor.rowcount

def seen(change):
    for inside in (False, True):
        if inside:
            with transaction.atomic():
                change()
                assert told.since_last() == []
        else:
            change()
        assert {tag for tags in told.tags() for tag in tags} == {"groups"}
        assert not Outbox.objects.exists()

seen(lambda: Group.objects.bulk_create([Group(name=os.urandom(4).hex()), Group(name=os.urandom(4).hex())]))
seen(lambda: Group.objects.create(name=os.urandom(4).hex()).pk.bit_length())
seen(lambda: Group.objects.first().save())
seen(lambda: Group.objects.bulk_update(list(Group.objects.all()), ["name"]))
seen(lambda: Group.objects.filter(pk=0).update(name="x"))
seen(lambda: Group.objects.first().permissions.set([Permission.objects.exclude(group__pk__gt=0).first()]))
seen(lambda: Group.objects.first().permissions.clear())
seen(lambda: Group.objects.first().delete())
seen(lambda: sql("UPDATE auth_group SET name = %s WHERE id = 0", "x"))
with connection.cursor() as cursor:
    seen(lambda: cursor.executemany("DELETE FROM auth_group WHERE id = %s", [(0,), (1,)]))
rows = Permission.objects.iterator(chunk_size=1)
assert [Group.objects.create(name=next(rows).codename + os.urandom(4).hex()) for _ in range(3)]
assert len(list(rows)) == Permission.objects.count() - 3
told.since_last()
"""
ONLY_POSTGRESQL = """
from psycopg import sql as composed
seen(lambda: sql(composed.SQL("DELETE FROM {} WHERE id = 0").format(composed.Identifier("auth_group"))))
seen(lambda: sql('WITH gone AS (DELETE FROM "public"."auth_group" WHERE id = 0 RETURNING *) SELECT * FROM gone'))
rows = []
seen(lambda: rows.extend(sql("INSERT INTO auth_group (name) VALUES (%s) RETURNING name", os.urandom(4).hex())))
assert len(rows) == 2, rows
seen(lambda: sql("TRUNCATE auth_group CASCADE"))
with connection.cursor() as cursor:
    with cursor.copy("COPY auth_group (name) FROM STDIN") as copy:
        copy.write_row(["by COPY"])
assert Group.objects.filter(name="by COPY").exists()
assert told.since_last() == []
"""
ONLY_MARIADB = """
seen(lambda: sql("REPLACE INTO `auth_group` (id, name) VALUES (7, 'seven')"))
seen(lambda: sql("UPDATE auth_user JOIN auth_group ON auth_user.id = auth_group.id SET auth_group.name = 'x'"))
rows = []
seen(lambda: rows.extend(sql("INSERT INTO auth_group (name) VALUES (%s) RETURNING name", os.urandom(4).hex())))
assert len(rows) == 2, rows
"""
CRASHES = """
invalidate_on(Group, tags="groups")
wiring.call = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Group.objects.create(name="new")
"""
#: A row younger than the age is left alone, by the clock of the database.
RELAYED = """
from asgi_app.invalidating import outbox
from tasks.relay import relay
from tests.support.told import Told
told = Told(wiring.env().store_url)
assert Group.objects.filter(name="new").exists()
assert Outbox.objects.count() == 1
assert wiring.call(lambda node: relay(node, age=3600)) == 0
assert wiring.call(lambda node: relay(node, age=0)) == 1
assert told.tags() == [{"groups"}]
assert not Outbox.objects.exists()
"""
#: Somebody else moves the row, between our loading and our saving of it, in a transaction that is still open.
MOVED_MEANWHILE = """
import threading
from asgi_app.invalidating import after_commit
from django.db import connections
sent = []
after_commit._send = lambda outdated: sent.append(set(outdated.tags))
Group.objects.create(id=77, name="a")
invalidate_on(Group, tags=lambda group: ["group." + group.name])
ours, moved, saving = Group.objects.get(id=77), threading.Event(), threading.Event()

def elsewhere():
    with transaction.atomic():
        theirs = Group.objects.get(id=77)
        theirs.name = "c"
        theirs.save()
        moved.set()
        saving.wait(10)
        threading.Event().wait(0.5)  # long enough to be waited for
    connections.close_all()

thread = threading.Thread(target=elsewhere)
thread.start()
moved.wait(10)
with transaction.atomic():
    ours.name = "b"
    saving.set()
    ours.save()
thread.join()
assert {"group.c", "group.b"} in sent, sent
"""


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own; its URL."""
    with databases.database(request.param, "outbox") as url:
        yield url


def test_a_production_database(database: str, store_server: StoreServer, namespace: str, tmp_path: Path) -> None:
    """Writes are seen, rows are written, relayed and removed, and a row that is moved by two is told of both."""
    environment = {
        **os.environ,
        "MILLPOND_HOME": str(tmp_path),
        "MILLPOND_DATABASE_URL": database,
        "MILLPOND_REDIS_URL": store_server.url,
        "MILLPOND_NAMESPACE": namespace,
        "MILLPOND_APPS": "",
    }
    run(MIGRATE, environment)
    run(SEEN + (ONLY_POSTGRESQL if database.startswith("postgresql") else ONLY_MARIADB), environment)
    run(CRASHES, environment, code_of_exit=-signal.SIGKILL)
    run(RELAYED, environment)
    run(MOVED_MEANWHILE, environment)
