"""The whole service on the servers people run in production: PostgreSQL, MariaDB, Redis over TCP, RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from tests.e2e.acceptance.brokers import forget
from tests.support.service import Service, until

pytestmark = pytest.mark.services

REDIS = "redis://127.0.0.1:6379/13"
OTHER_REDIS = "redis://127.0.0.1:6379/14"
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"


@pytest.fixture
def namespace() -> Iterator[str]:
    """A prefix in the shared Redis that is empty again afterwards."""
    name = f"test-{uuid4().hex[:8]}"
    yield name
    for url in (REDIS, OTHER_REDIS):
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(f"*{{{name}}}*"):
                client.delete(key)


@contextmanager
def running(home: Path, **settings: str) -> Iterator[Service]:
    """The service without the demo, its store in the shared Redis; it has to stop well."""
    service = Service(home, "--no-demo", MILLPOND_REDIS_URL=REDIS, **settings).start()
    try:
        yield service
    finally:
        assert service.stop() == 0


def works(service: Service) -> None:
    """A value is computed by a worker, a user can be made, an action runs, a second scheduler tick comes."""
    text = uuid4().hex[:12]
    answer = service.get(f"/api/v1/resources/test.echo?text={text}", Prefer="wait=20")
    assert (answer.status_code, answer.json()["text"]) == (200, text)
    service.command("shell", "-c", "from django.contrib.auth.models import User; User.objects.create_user('alice')")
    token = service.command("token", "create", "alice").strip()
    mine = service.get("/api/v1/resources/test.mine", Authorization=f"Bearer {token}", Prefer="wait=20")
    assert mine.json() == {"user": "alice"}
    failed = service.get(f"/api/v1/resources/test.recovers?name={text}", Prefer="wait=20")
    assert failed.json() == "well"
    ticks = service.ledger().count("tick")
    until(lambda: service.ledger().count("tick") > ticks + 1, "the scheduler fires")


def test_postgresql_and_redis(tmp_path: Path, postgresql: str, namespace: str) -> None:
    """Database in PostgreSQL, store and broker in a Redis over TCP."""
    with running(tmp_path, MILLPOND_DATABASE_URL=postgresql, MILLPOND_NAMESPACE=namespace) as service:
        works(service)


def test_mariadb_and_rabbitmq(tmp_path: Path, mariadb: str, namespace: str) -> None:
    """Database in MariaDB, broker RabbitMQ with msgpack messages, store in Redis."""
    settings = {
        "MILLPOND_DATABASE_URL": mariadb,
        "MILLPOND_BROKER_URL": RABBITMQ,
        "MILLPOND_SERIALIZER": "msgpack",
        "MILLPOND_NAMESPACE": namespace,
    }
    try:
        with running(tmp_path, **settings) as service:
            works(service)
    finally:
        forget(namespace)


def test_another_redis_as_broker(tmp_path: Path, namespace: str) -> None:
    """A broker that is a Redis, but not the store: messages go through kombu."""
    with running(tmp_path, MILLPOND_BROKER_URL=OTHER_REDIS, MILLPOND_NAMESPACE=namespace) as service:
        works(service)
