"""The doorbell's messages are Celery's: held against what Celery and kombu themselves would send to the store."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from asgi_app.env import load_env
from asgi_app.errors import Unavailable
from tasks import submit
from tasks.app import PRIORITY_STEPS, app
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
    with app.connection_for_write() as connection:
        run_job.apply_async((JOB,), task_id=JOB, ignore_result=True, **{**options, "connection": connection})
    ((_, name, message),) = [command for command in sent if command[0] == "LPUSH"]
    return name, json.loads(message)


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """All of a message but what is random, or names the sending process."""
    message = json.loads(json.dumps(message))
    message["properties"].pop("delivery_tag")
    message["properties"].pop("reply_to", None)
    message["headers"].pop("origin")
    return message


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("queue", ["default", "heavy"])
@pytest.mark.parametrize(("time_limit", "hard"), [(60.0, 105), (0.5, 46)])
@pytest.mark.parametrize("priority", [0, 5, 9])
def test_the_message_is_the_one_celery_makes(
    sent: list[tuple[Any, ...]], serializer: str, queue: str, time_limit: float, hard: int, priority: int
) -> None:
    """Field by field what `apply_async` sends for the same options, save the tag and the names of the sender."""
    bell = doorbell(serializer=serializer).bell(JOB, queue=queue, priority=priority, time_limit=time_limit)
    _, theirs = pushed(
        sent,
        serializer=serializer,
        queue=queue,
        priority=redis_priority(priority),
        time_limit=hard,
    )
    ours = json.loads(bell.message)
    assert comparable(ours) == comparable(theirs)
    assert ours["headers"]["id"] == ours["properties"]["correlation_id"] == JOB
    assert ours["content-type"] == {"json": "application/json", "msgpack": "application/x-msgpack"}[serializer]


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_a_countdown_is_celery_s(sent: list[tuple[Any, ...]], serializer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later attempt carries the time Celery would give it."""
    monkeypatch.setattr(app, "now", lambda: datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))
    bell = doorbell(serializer=serializer).bell(JOB, queue="default", priority=5, time_limit=60, countdown=2.5)
    _, theirs = pushed(sent, serializer=serializer, queue="default", priority=3, time_limit=105, countdown=2.5)
    assert comparable(json.loads(bell.message)) == comparable(theirs)
    assert theirs["headers"]["eta"] == "2030-01-02T03:04:07.500000+00:00"


@pytest.mark.parametrize("priority", range(10))
@pytest.mark.parametrize("queue", ["default", "heavy"])
def test_the_lists_are_those_of_kombu(sent: list[tuple[Any, ...]], queue: str, priority: int) -> None:
    """The first list is the one kombu pushes to, with prefix and level; the others are all it would read besides."""
    bell = doorbell().bell(JOB, queue=queue, priority=priority, time_limit=60)
    name, _ = pushed(sent, queue=queue, priority=9 - priority)
    assert bell.lists[0] == name
    assert bell.lists[0].startswith("b:{tests}:")
    read = {pushed(sent, queue=queue, priority=level)[0] for level in range(10)}
    assert set(bell.lists) == read
    assert len(bell.lists) == len(read) == len(PRIORITY_STEPS)
    assert bell.queue == queue


def test_nine_is_the_most_urgent() -> None:
    """A higher priority never gets a later level, and all levels are used."""
    levels = [redis_priority(priority) for priority in range(10)]
    assert levels == [9, 6, 6, 6, 3, 3, 3, 0, 0, 0]


def test_the_message_carries_the_job_and_no_more() -> None:
    """Parameters and principal stay in the record."""
    bell = doorbell().bell(JOB, queue="default", priority=5, time_limit=60)
    arguments, named, _ = json.loads(base64.b64decode(json.loads(bell.message)["body"]))
    assert (arguments, named) == ([JOB], {})


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


class Clock:
    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(submit, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("url", "level"), [("amqp://guest:guest@localhost:5672//", 8), ("redis://elsewhere:6379/0", 0)]
)
async def test_a_broker_elsewhere_is_rung_with_the_same_options(
    broker: Broker, clock: Clock, url: str, level: int
) -> None:
    """The message holds what ringing needs, with the broker's own level of the priority, and no list of the store."""
    bells = doorbell(broker_url=url)
    bell = bells.bell(JOB, queue="heavy", priority=8, time_limit=0.5, countdown=5.0)
    assert bell.lists == ()
    clock.now += 2.0
    await bells.ring(JOB, {"message": bell.message.decode()})
    await bells.close()
    assert broker.taken == [
        (
            TASK,
            {
                "args": (JOB,),
                "task_id": JOB,
                "queue": "heavy",
                "priority": level,
                "ignore_result": True,
                "time_limit": 46,
                "countdown": 3.0,
            },
        )
    ]


async def test_a_late_ring_has_no_countdown(broker: Broker, clock: Clock) -> None:
    """What was due while the broker was away is delivered at once."""
    bells = doorbell(broker_url="amqp://localhost//")
    bell = bells.bell(JOB, queue="heavy", priority=5, time_limit=60, countdown=5.0)
    clock.now += 60.0
    await bells.ring(JOB, {"message": bell.message.decode()})
    await bells.close()
    assert broker.taken[0][1]["countdown"] is None


async def test_a_broker_that_fails_is_unavailable(broker: Broker) -> None:
    """Whatever kombu raises, the caller hears that the broker is away and when to come again."""
    broker.failure = OSError("connection refused by amqp://user:hunter2@localhost")
    bells = doorbell(broker_url="amqp://localhost//")
    bell = bells.bell(JOB, queue="heavy", priority=5, time_limit=60)
    with pytest.raises(Unavailable) as refused:
        await bells.ring(JOB, {"message": bell.message.decode()})
    await bells.close()
    await bells.close()
    assert refused.value.retry_after == 2.0
    assert refused.value.problem()["part"] == "broker"
    assert "hunter2" not in json.dumps(refused.value.problem())


@pytest.mark.parametrize("url", ["", "same"])
def test_the_store_as_broker_needs_no_threads(url: str) -> None:
    """With no broker named, or the store itself, the message lies ready for the store's own lists."""
    settings = {"broker_url": os.environ["MILLPOND_REDIS_URL"]} if url else {}
    assert doorbell(**settings).bell(JOB, queue="default", priority=5, time_limit=60).lists
