"""The doorbell's messages are Celery's: held against what Celery and kombu themselves would send to the store."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from contextlib import suppress
from typing import Any

import pytest
import redis

from asgi_app.env import load_env
from asgi_app.errors import Unavailable
from tasks.app import app
from tasks.brokers import PRIORITY_STEPS
from tasks.runner import run_job
from tasks.submit import TASK, CeleryDoorbell, redis_priority

JOB = "019a0000-0000-7000-8000-000000000001"


def doorbell(**settings: str) -> CeleryDoorbell:
    """A doorbell of this test run's settings, with some of them replaced."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("MILLPOND_")}
    return CeleryDoorbell(load_env({**ours, **{f"MILLPOND_{name.upper()}": value for name, value in settings.items()}}))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The commands redis-py would send to a server, which is not there."""
    commands: list[tuple[Any, ...]] = []

    def execute(self: Any, *args: Any, **options: Any) -> int:
        commands.append(args)
        return 1

    monkeypatch.setattr(redis.Redis, "execute_command", execute)
    monkeypatch.setattr(redis.client.Pipeline, "execute", lambda self, raise_on_error=True: [])
    return commands


def pushed(sent: list[tuple[Any, ...]], **options: Any) -> tuple[str, dict[str, Any]]:
    """The list and the message of Celery's own `apply_async`."""
    sent.clear()
    queue = options["queue"]
    with app.connection_for_write() as connection:
        run_job.apply_async((queue,), task_id=JOB, ignore_result=True, **{**options, "connection": connection})
    ((_, name, message),) = [command for command in sent if command[0] == "LPUSH"]
    return name, json.loads(message)


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """All of a message but what is random, or names the sending process."""
    message = json.loads(json.dumps(message))
    message["properties"].pop("delivery_tag")
    message["properties"].pop("reply_to", None)
    message["headers"].pop("origin")
    return message


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
@pytest.mark.parametrize("queue", ["default", "heavy"])
@pytest.mark.parametrize("priority", [0, 5, 9])
def test_the_message_is_the_one_celery_makes(
    sent: list[tuple[Any, ...]], serializer: str, queue: str, priority: int
) -> None:
    """Field by field what `apply_async` sends for the same options, save the tag and the names of the sender."""
    bell = doorbell(serializer=serializer, allow_yaml="true").bell(JOB, queue=queue, priority=priority)
    _, theirs = pushed(sent, serializer=serializer, queue=queue, priority=redis_priority(priority))
    ours = json.loads(bell.message)
    assert comparable(ours) == comparable(theirs)
    assert ours["headers"]["id"] == ours["properties"]["correlation_id"] == JOB
    assert ours["content-type"] == f"application/{'x-' if serializer != 'json' else ''}{serializer}"


@pytest.mark.parametrize("priority", range(10))
@pytest.mark.parametrize("queue", ["default", "heavy"])
def test_the_lists_are_those_of_kombu(sent: list[tuple[Any, ...]], queue: str, priority: int) -> None:
    """A message goes to the list kombu pushes to, with prefix and level; the lists of a queue are all it would read."""
    bell = doorbell().bell(JOB, queue=queue, priority=priority)
    name, _ = pushed(sent, queue=queue, priority=9 - priority)
    assert bell.list == name
    assert bell.list.startswith("b:{tests}:")
    read = {pushed(sent, queue=queue, priority=level)[0] for level in range(10)}
    assert set(doorbell().lists(queue)) == read
    assert len(read) == len(PRIORITY_STEPS)
    assert bell.queue == queue


def test_nine_is_the_most_urgent() -> None:
    """A higher priority never gets a later level, and all levels are used."""
    levels = [redis_priority(priority) for priority in range(10)]
    assert levels == [9, 6, 6, 6, 3, 3, 3, 0, 0, 0]


def test_the_message_carries_the_queue_and_no_more() -> None:
    """Which job is best is known when it is taken; parameters and principal stay in the record."""
    bell = doorbell().bell(JOB, queue="heavy", priority=5)
    arguments, named, _ = json.loads(base64.b64decode(json.loads(bell.message)["body"]))
    assert (arguments, named) == (["heavy"], {})


def test_a_message_is_that_of_its_own_job() -> None:
    """However many were made before it, for this queue and others."""
    bells = doorbell()
    for number in range(3):
        job_id = JOB[:-1] + str(number)
        for queue, priority in (("default", 5), ("heavy", 5), ("default", 9)):
            made = bells.bell(job_id, queue=queue, priority=priority)
            alone = doorbell().bell(job_id, queue=queue, priority=priority)
            assert comparable(json.loads(made.message)) == comparable(json.loads(alone.message))
            assert json.loads(made.message)["headers"]["id"] == job_id


class Broker:
    """A broker somewhere else: takes what `send_task` gives it, or fails."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, dict[str, Any]]] = []
        self.failure: Exception | None = None

    def send_task(self, name: str, args: Any, **options: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.taken.append((name, {"args": args, **options}))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(app, "send_task", made.send_task)
    return made


@pytest.mark.parametrize(
    ("url", "level"), [("amqp://guest:guest@localhost:5672//", 8), ("redis://elsewhere:6379/0", 0)]
)
async def test_a_broker_elsewhere_is_rung_with_the_same_options(broker: Broker, url: str, level: int) -> None:
    """The message holds what ringing needs, with the broker's own level of the priority, and no list of the store."""
    bells = doorbell(broker_url=url)
    bell = bells.bell(JOB, queue="heavy", priority=8)
    assert (bell.list, bells.lists("heavy")) == ("", [])
    await bells.ring(bell)
    await bells.close()
    options = {"task_id": JOB, "queue": "heavy", "priority": level, "ignore_result": True}
    assert broker.taken == [(TASK, {"args": ("heavy",), **options})]


async def test_a_broker_that_fails_is_unavailable(broker: Broker) -> None:
    """Whatever kombu raises, the caller hears that the broker is away and when to come again."""
    broker.failure = OSError("connection refused by amqp://user:hunter2@localhost")
    bells = doorbell(broker_url="amqp://localhost//")
    with pytest.raises(Unavailable) as refused:
        await bells.ring(bells.bell(JOB, queue="heavy", priority=5))
    await bells.close()
    await bells.close()
    assert refused.value.retry_after == 2.0
    assert refused.value.problem()["part"] == "broker"
    assert "hunter2" not in json.dumps(refused.value.problem())


async def test_a_broker_that_is_away_is_not_asked_again_and_again(broker: Broker) -> None:
    """After some failures the answer is there at once, and one in a while finds out whether it is back."""
    broker.failure = OSError("connection refused")
    bells = doorbell(broker_url="amqp://localhost//")
    bell = bells.bell(JOB, queue="heavy", priority=5)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await bells.ring(bell)
    broker.failure = None
    with pytest.raises(Unavailable):
        await bells.ring(bell)
    assert broker.taken == []
    deadline = asyncio.get_running_loop().time() + 10
    while not broker.taken:
        assert asyncio.get_running_loop().time() < deadline
        with suppress(Unavailable):
            await bells.ring(bell)
        await asyncio.sleep(0.02)
    await bells.close()


@pytest.mark.parametrize("url", ["", "same"])
def test_the_store_as_broker_needs_no_threads(url: str) -> None:
    """With no broker named, or the store itself, the message lies ready for the store's own lists."""
    settings = {"broker_url": os.environ["MILLPOND_REDIS_URL"]} if url else {}
    assert doorbell(**settings).bell(JOB, queue="default", priority=5).list
