"""What each kind of broker is told: options, and on RabbitMQ the queues."""

from __future__ import annotations

import os
import ssl
from typing import Any

import pytest
from kombu import Connection
from kombu.transport.pyamqp import Transport

from asgi_app.env import load_env
from tasks.app import Application, make_app
from tasks.brokers import WorkQueue, dead_letters, plain_name

RABBITMQ = "amqp://guest:guest@localhost:5672//"


def application(**settings: str) -> Application:
    """Celery as a deployment with these settings has it."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("MILLPOND_")}
    return make_app(load_env({**ours, **{f"MILLPOND_{name.upper()}": value for name, value in settings.items()}}))


def test_queues_of_rabbitmq_are_quorum_queues_of_the_namespace() -> None:
    """The default one, declared ones and those that plain tasks name; each puts aside what kills its workers."""
    queues = application(broker_url=RABBITMQ, namespace="ours").amqp.queues
    for name in ("default", "heavy", "letters"):
        queue = queues[name]
        assert isinstance(queue, WorkQueue)
        assert (queue.name, queue.routing_key, queue.exchange.name, queue.exchange.type) == (
            *(f"ours.{name}", f"ours.{name}", "ours", "topic"),
        )
        assert queue.queue_arguments == {
            "x-queue-type": "quorum",
            "x-delivery-limit": 5,
            "x-dead-letter-exchange": "ours.dlx",
        }
        assert queues[name] is queue
        assert plain_name(queue) == name


def test_dead_letters_are_bounded() -> None:
    """In number, in bytes and in time."""
    queue = dead_letters("ours.dlx")
    assert (queue.name, queue.exchange.name) == ("ours.dead", "ours.dlx")
    assert {"x-max-length", "x-max-length-bytes", "x-message-ttl"} < set(queue.queue_arguments or {})


@pytest.mark.parametrize("name", ["control_exchange", "event_exchange", "event_queue_prefix", "task_default_exchange"])
def test_two_deployments_on_one_rabbitmq_share_nothing(name: str) -> None:
    """Not the queues, and not what Celery's own messages go through."""
    one, other = (application(broker_url=RABBITMQ, namespace=namespace) for namespace in ("one", "other"))
    assert one.conf[name] != other.conf[name]
    assert one.amqp.queues["default"].name != other.amqp.queues["default"].name


def test_rabbitmq_confirms_in_time() -> None:
    """Messages are confirmed, and no step of the way waits without a deadline."""
    options = application(broker_url=RABBITMQ).conf.broker_transport_options
    assert options["confirm_publish"] is True
    assert options["read_timeout"] == options["write_timeout"] == 3
    assert application(broker_url="amqps://mq//").connection_for_write().transport_cls == "amqps"
    assert issubclass(Connection("amqps://mq//").get_transport_cls(), Transport)


def test_a_message_waits_for_its_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a plain task without saying so has a deadline, too; who says another has that one."""
    sent: list[Any] = []
    monkeypatch.setattr("celery.Celery.send_task", lambda self, name, *args, **options: sent.append(options))
    made = application(broker_url=RABBITMQ)
    made.send_task("some.task")
    made.send_task("some.task", confirm_timeout=1)
    application().send_task("some.task")
    assert [options.get("confirm_timeout") for options in sent] == [3, 1, None]


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h/0?ssl_ca_certs=/ca.pem", "sentinel://h/0?master_name=m"])
def test_a_redis_has_deadlines_and_a_prefix(url: str) -> None:
    """Whichever way it is reached."""
    made = application(broker_url=url, namespace="ours")
    options = made.conf.broker_transport_options
    assert options["global_keyprefix"] == "b:{ours}:"
    assert (options["socket_timeout"], options["socket_connect_timeout"], options["retry_on_timeout"]) == (3, 2, False)
    assert made.amqp.queues["default"].name == "default"


def test_what_a_redis_over_tls_is_told() -> None:
    """The authority named in the URL reaches the connection, and the certificate is checked."""
    with application(broker_url="rediss://h/0?ssl_ca_certs=/ca.pem").connection_for_write() as connection:
        assert connection.ssl == {"ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": ssl.CERT_REQUIRED}


def test_what_a_sentinel_is_told() -> None:
    """The master's name reaches the transport, and sentinels have deadlines of their own."""
    made = application(broker_url="sentinel://h/0?master_name=m")
    with made.connection_for_write() as connection:
        options = connection.transport_options or {}
    assert options["master_name"] == "m"
    assert options["sentinel_kwargs"] == {"socket_timeout": 2, "socket_connect_timeout": 2}


@pytest.mark.parametrize(
    ("settings", "accepted"),
    [
        ({}, ["json", "msgpack"]),
        ({"serializer": "msgpack"}, ["json", "msgpack"]),
        ({"allow_yaml": "true"}, ["json", "msgpack", "yaml"]),
        ({"serializer": "yaml", "allow_yaml": "true"}, ["json", "msgpack", "yaml"]),
    ],
)
def test_pickle_is_never_accepted(settings: dict[str, str], accepted: list[str]) -> None:
    """And yaml only by opt-in."""
    conf = application(**settings).conf
    assert conf.accept_content == accepted
    assert conf.task_serializer == conf.result_serializer == settings.get("serializer", "json")


def test_results_are_kept_where_there_is_a_place() -> None:
    """Without a back end nothing is kept by default, so that nobody waits for what never comes."""
    assert application().conf.task_ignore_result is True
    assert application(result_backend="redis://h/1").conf.task_ignore_result is False
