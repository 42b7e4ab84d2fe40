"""What the tests of webhooks share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User

from asgi_app import webhooks
from asgi_app.env import Env, env
from asgi_app.jobs import dump_principal
from asgi_app.models import Job, Webhook
from asgi_app.registry import Principal
from tests.support.receiver import Receiver
from tests.support.store import StoreServer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Answers 204, or what it is told to."""
    with Receiver() as running:
        yield running


@pytest.fixture
def loopback() -> Env:
    """Settings by which the receiver may be sent to."""
    return msgspec.structs.replace(env(), webhook_allow=(ip_network("127.0.0.0/8"),))


@pytest.fixture
def owner(transactional_db: None, store_server: StoreServer) -> User:
    """Who is to be told."""
    return User.objects.create_user("ada")


def registered(owner: User, url: str, *globs: str, **fields: Any) -> Webhook:
    """A webhook of theirs."""
    return Webhook.objects.create(
        id=webhooks.new_id(),
        owner=owner,
        url=url,
        actions=json.dumps(globs or ["*"]),
        secret=webhooks.new_secret(),
        **fields,
    )


def ended(owner: str, name: str = "report.mail", status: str = "succeeded") -> Job:
    """A job that has just ended, as the ledger hands it over."""
    job = Job(
        id=webhooks.new_id(),
        name=name,
        params='{"to":"ada"}',
        queue="default",
        priority=5,
        status=status,
        owner=owner,
        principal=dump_principal(Principal.public()),
        created_at=datetime.now(UTC) - timedelta(seconds=5),
        finished_at=datetime.now(UTC),
        rung_at=datetime.now(UTC),
    )
    job.save(force_insert=True)
    return Job.objects.get(pk=job.pk)


def told(owner: User, **job: str) -> None:
    """One message to all webhooks of the owner that want it."""
    webhooks.note_completion(ended(str(owner.pk), **job))
