"""What each kind of broker needs: the options of its transport, and on RabbitMQ the queues themselves.

Invariant: nothing waits for a broker without a deadline, and two deployments that share one under two namespaces share
no queue, no exchange and no list of it.
"""

from __future__ import annotations

import logging
from typing import Any

from amqp.exceptions import PreconditionFailed
from celery.app.amqp import AMQP, Queues
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.transport.pyamqp import Transport

from asgi_app.env import Env
from cache_layer.keys import Names

log = logging.getLogger(__name__)

#: Redis transport: the levels a priority is mapped to, the most urgent first.
PRIORITY_STEPS = (0, 3, 6, 9)
#: The queue of whatever names no other.
DEFAULT = "default"
#: Seconds a broker may take for one step: to accept a connection, to answer, to confirm a message.
CONNECT, ANSWER, CONFIRM = 2, 3, 3
#: Deliveries of one message before it is put aside: by then it has taken some workers along.
_DELIVERIES = 5
#: What is kept of messages put aside: so many, so many bytes, for so many milliseconds.
_DEAD_MESSAGES, _DEAD_BYTES, _DEAD_FOR = 10_000, 64 * 2**20, 7 * 86_400_000


def transport_options(settings: Env) -> dict[str, Any]:
    """For kombu."""
    if settings.on_rabbitmq:
        return {
            # A quorum queue has a message when it says so, not when we have sent it.
            "confirm_publish": True,
            "read_timeout": ANSWER,
            "write_timeout": ANSWER,
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.1,
        }
    return {
        "global_keyprefix": Names(settings.namespace).broker_prefix(),
        "visibility_timeout": 60,  # only messages nobody started are unacknowledged
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": ANSWER,
        "socket_connect_timeout": CONNECT,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": False,  # a publication repeated is a message doubled
        "queue_order_strategy": "priority",
        "priority_steps": list(PRIORITY_STEPS),
        "max_connections": 20,
        **settings.broker_options,
    }


def configuration(settings: Env) -> dict[str, Any]:
    """For Celery: what differs from broker to broker."""
    if not settings.on_rabbitmq:
        return {"broker_transport_options": transport_options(settings), "worker_disable_prefetch": True}
    ours = settings.namespace
    return {
        "broker_transport_options": transport_options(settings),
        "broker_use_ssl": settings.broker_tls,
        "broker_heartbeat": 20,
        "worker_disable_prefetch": False,  # it is for Redis only
        "worker_detect_quorum_queues": True,
        "task_default_exchange": ours,
        "task_default_exchange_type": "topic",  # what is to be delivered later cannot come through another
        "task_default_routing_key": f"{ours}.{DEFAULT}",
        "control_exchange": f"{ours}.control",
        "event_exchange": f"{ours}.events",
        "event_queue_prefix": f"{ours}.events",
    }


class QueueDiffers(Exception):
    """A queue of that name is there, and of another kind."""


class WorkQueue(Queue):
    """A quorum queue of RabbitMQ: replicated, and it puts aside what it has delivered too often."""

    def declare(self, nowait: bool = False, channel: Any = None) -> str:
        """Declare it, and where it puts things aside.  Raises QueueDiffers."""
        arguments = self.queue_arguments or {}
        dead_letters(arguments["x-dead-letter-exchange"]).declare(channel=channel or self.channel)
        try:
            return str(super().declare(nowait=nowait, channel=channel))
        except PreconditionFailed as error:
            raise QueueDiffers(
                f"the queue '{self.name}' is on the broker already, and is no quorum queue as it has to be "
                f"({error.reply_text}): delete it there when it is empty, or take another MILLPOND_NAMESPACE or "
                "virtual host"
            ) from error


def work_queue(namespace: str, name: str) -> WorkQueue:
    """The queue that is called `name` here; on the broker the namespace stands in front of it."""
    full = f"{namespace}.{name}"
    return WorkQueue(
        full,
        Exchange(namespace, type="topic", durable=True),
        routing_key=full,
        alias=name,
        queue_arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": _DELIVERIES,
            "x-dead-letter-exchange": f"{namespace}.dlx",
        },
    )


def dead_letters(exchange: str) -> Queue:
    """Where the queues put messages aside, for somebody to look at; the oldest give way."""
    return Queue(
        f"{exchange.removesuffix('.dlx')}.dead",
        Exchange(exchange, type="fanout", durable=True),
        queue_arguments={
            "x-queue-type": "quorum",
            "x-max-length": _DEAD_MESSAGES,
            "x-max-length-bytes": _DEAD_BYTES,
            "x-message-ttl": _DEAD_FOR,
        },
    )


class RabbitQueues(Queues):
    """Celery's table of queues, in which each name stands for a quorum queue of this namespace."""

    def __init__(self, namespace: str, **options: Any) -> None:
        self._namespace = namespace
        super().__init__([work_queue(namespace, DEFAULT)], **options)

    def new_missing(self, name: str) -> Queue:
        """A queue nobody has declared, as plain tasks may name one."""
        return work_queue(self._namespace, name.removeprefix(f"{self._namespace}."))


class Amqp(AMQP):
    """Celery's `app.amqp`, with our queues where the broker is RabbitMQ."""

    def Queues(self, queues: Any = None, *args: Any, **options: Any) -> Queues:  # noqa: N802  (Celery's name)
        """The table of queues."""
        settings: Env = self.app.settings  # type: ignore[attr-defined]  # it is an Application
        if not settings.on_rabbitmq:
            return super().Queues(queues, *args, **options)
        return RabbitQueues(settings.namespace, default_exchange=self.default_exchange, create_missing=True)


def prepare(app: Any, names: list[str]) -> None:
    """Declare a worker's queues on RabbitMQ before it shows any sign of life.  Raises QueueDiffers.

    A broker that is away is Celery's to wait for.
    """
    if not app.settings.on_rabbitmq:
        return
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2 * CONNECT)
            for name in names:
                app.amqp.queues[name](connection.default_channel).declare()
    except connection_errors() as error:
        log.warning("the queues are not declared yet, the broker is away: %s", error)


def connection_errors() -> tuple[type[BaseException], ...]:
    """What it may mean that RabbitMQ is away."""
    return (OperationalError, *Transport.connection_errors)


def plain_name(queue: Queue) -> str:
    """What a queue is called here."""
    return str(getattr(queue, "alias", None) or queue.name)
