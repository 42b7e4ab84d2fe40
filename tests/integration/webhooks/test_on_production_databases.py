"""PostgreSQL and MariaDB: their clocks, their locks, their UUIDs; deliveries are the same as on SQLite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import databases
from tests.support.child import run

pytestmark = pytest.mark.services

DELIVERS = """
import asyncio
from datetime import timedelta
from threading import Barrier, Thread
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models.functions import Now
from asgi_app import webhooks
from asgi_app.models import WebhookDelivery
from tasks.posting import Answer
from tasks.webhooks import LEASE, claim, disable, forget, record
from tests.integration.webhooks.conftest import registered, told

call_command("migrate", verbosity=0)
# Nothing listens to invalidations here, and nobody is watched.
owner = User(username="ada")
owner.save_base(raw=True)
webhook = registered(owner, "https://hooks.example/")
with transaction.atomic():
    told(owner)
    transaction.set_rollback(True)
assert not WebhookDelivery.objects.exists()
for _ in range(3):
    told(owner)
ids = list(WebhookDelivery.objects.order_by("created_at").values_list("pk", flat=True))
assert list(WebhookDelivery.objects.order_by("pk").values_list("pk", flat=True)) == sorted(ids)

# Four at once: each delivery has one of them.
barrier, taken = Barrier(4), []
def take():
    try:
        list(WebhookDelivery.objects.all())
        barrier.wait(10)
        taken.extend(claim(1, []))
    finally:
        connection.close()
threads = [Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
taken += claim(16, [])
assert sorted(one.delivery for one in taken) == sorted(ids), taken
assert claim(16, []) == []

first, second, third = taken
record(first, Answer(status=204), "", luck=0.5)
record(second, None, "the connection failed", luck=0.5)
row = WebhookDelivery.objects.get(pk=second.delivery)
assert row.status == "pending" and row.attempts == 1
assert WebhookDelivery.objects.filter(pk=second.delivery, due_at__gt=Now() + timedelta(seconds=3)).exists()
assert not WebhookDelivery.objects.filter(pk=second.delivery, due_at__gt=Now() + timedelta(seconds=6)).exists()
assert WebhookDelivery.objects.filter(pk=third.delivery, due_at__gt=Now() + timedelta(seconds=LEASE - 30)).exists()
record(third, Answer(status=429, retry_after=600.0), "", luck=0.5)
assert WebhookDelivery.objects.filter(status="pending", due_at__gt=Now() + timedelta(seconds=500)).count() == 2
WebhookDelivery.objects.filter(pk=second.delivery).update(**webhooks.again())
[again] = claim(16, [])
assert (again.delivery, again.number) == (second.delivery, 1)
record(again, Answer(status=410), "", luck=0.5)
webhook.refresh_from_db()
assert not webhook.active
assert set(WebhookDelivery.objects.values_list("status", flat=True)) == {"delivered", "dead"}
WebhookDelivery.objects.update(created_at=Now() - timedelta(days=31))
assert forget() == 3
"""


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own; its URL."""
    with databases.database(request.param, "webhooks") as url:
        yield url


def test_a_production_database(database: str, tmp_path: Path) -> None:
    """One of several takes a delivery; times are the database's; what is over is where it belongs."""
    environment = {
        **os.environ,
        "MILLPOND_HOME": str(tmp_path),
        "MILLPOND_DATABASE_URL": database,
        "MILLPOND_APPS": "",
    }
    run(DELIVERS, environment)
