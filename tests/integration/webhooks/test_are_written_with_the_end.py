"""The message of an end is committed with it, for those who want it, and for nobody else."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from asgi_app import jobs, webhooks
from asgi_app.models import WebhookDelivery
from tests.integration.webhooks.conftest import ended, registered, told

pytestmark = pytest.mark.django_db(transaction=True)
URL = "https://hooks.example/"


@pytest.mark.parametrize("status", sorted(jobs.TERMINAL))
def test_every_end_is_told(owner: User, status: str) -> None:
    """With its type, its time and the public job, to each webhook."""
    two = {registered(owner, URL).pk, registered(owner, URL).pk}
    job = ended(str(owner.pk), status=status)
    webhooks.note_completion(job)
    written = list(WebhookDelivery.objects.all())
    assert {row.webhook_id for row in written} == two
    for row in written:
        assert (row.job, row.event, row.status, row.attempts) == (job.pk, f"job.{status}", "pending", 0)
        message = json.loads(row.payload)
        public = jobs.public(job.fields())
        assert message == {"type": f"job.{status}", "timestamp": public["finished_at"], "data": public}


def test_an_end_that_is_rolled_back_is_told_to_nobody(owner: User) -> None:
    """The row goes with it."""
    registered(owner, URL)
    with transaction.atomic():
        told(owner)
        assert WebhookDelivery.objects.exists()
        transaction.set_rollback(True)
    assert not WebhookDelivery.objects.exists()


def test_only_who_wants_it_is_told(owner: User) -> None:
    """By the name of the action; and never who has been switched off."""
    wanting = registered(owner, URL, "demo.*", "report.mail")
    registered(owner, URL, "demo.*")
    registered(owner, URL, active=False)
    told(owner)
    assert [row.webhook_id for row in WebhookDelivery.objects.all()] == [wanting.pk]


@pytest.mark.parametrize("asker", ["", jobs.SERVICE, "somebody-elsewhere", "999999", " {}", "0{}", "{} "])
def test_the_jobs_of_others_are_not_told(owner: User, asker: str) -> None:
    """Nor those of a name that only looks like the owner's id."""
    registered(owner, URL)
    webhooks.note_completion(ended(asker.format(owner.pk)))
    assert not WebhookDelivery.objects.exists()


def test_without_webhooks_it_is_one_question(owner: User) -> None:
    """And none at all for the jobs of the service and the public."""
    mine, service = ended(str(owner.pk)), ended(jobs.SERVICE)
    with CaptureQueriesContext(connection) as asked:
        webhooks.note_completion(mine)
    assert len(asked) == 1
    with CaptureQueriesContext(connection) as asked:
        webhooks.note_completion(service)
    assert len(asked) == 0
