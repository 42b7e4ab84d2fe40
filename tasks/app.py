"""The Celery application: queues, limits, broker profile.

Invariant: Celery keeps no results and retries nothing of ours; its messages carry a queue's name and no more.  Plain
Celery tasks of the user's own live beside ours, with a result back end where MILLPOND_RESULT_BACKEND names one.
The settings and their reasons: messages are acknowledged before the work (a job's record finds lost work again, Celery
on Redis would wait an hour for it), sockets have deadlines (the default hangs for ever), nothing is prefetched (on
Redis priorities hold only then).  What depends on the broker stands in `brokers.py`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery

from asgi_app.env import Env, env
from cache_layer.keys import Names
from tasks.brokers import CONFIRM, CONNECT, DEFAULT, configuration

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asgi_app.settings")


class Application(Celery):
    """Celery, for one `Env`."""

    amqp_cls = "tasks.brokers:Amqp"
    settings: Env

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """As Celery's, and with a deadline where it has none of itself: for RabbitMQ's word that it has the message.

        That deadline passed means that nobody knows whether it has, and so does a socket's that timed out.
        """
        if self.settings.on_rabbitmq:
            options.setdefault("confirm_timeout", CONFIRM)
        return super().send_task(name, *args, **options)


def native(settings: Env) -> bool:
    """Whether the broker is the store itself, so that a job and its message are written in one step."""
    return settings.broker_url is None or settings.broker_url == settings.redis_url


def queues() -> list[str]:
    """All queues that a declaration names, `default` among them."""
    from asgi_app.registry import registry

    return registry.queues()


def make_app(settings: Env) -> Application:
    """A Celery application for these settings."""
    path = list(sys.path)
    made = Application("millpond", broker=settings.broker, backend=settings.results, set_as_current=False)
    made.settings = settings
    # Celery's Django fixup puts the current directory first, where modules of the user's would hide installed ones.
    sys.path[:] = path
    made.conf.update(
        imports=("tasks.runner",),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT,
        broker_pool_acquire_timeout=2,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
        task_ignore_result=settings.result_backend is None,
        result_expires=3600,
        result_backend_transport_options={"global_keyprefix": Names(settings.namespace).broker_prefix()},
        redis_socket_timeout=5,
        redis_socket_connect_timeout=CONNECT,
        redis_backend_health_check_interval=10,
        task_serializer=settings.serializer,
        result_serializer=settings.serializer,
        event_serializer="json",
        # Both are harmless, so a deployment may go from one to the other; yaml by opt-in, pickle never.
        accept_content=["json", "msgpack", *(["yaml"] if settings.allow_yaml else [])],
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_eta_task_limit=1000,
        worker_max_tasks_per_child=1000,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_inherit_parent_priority=True,
        task_default_queue=DEFAULT,
        task_create_missing_queues=True,
        timezone="UTC",
        enable_utc=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        **configuration(settings),
    )
    # Plain tasks stand in `tasks.py` beside `resources.py`.  Workers import them when they start.
    made.autodiscover_tasks(list(settings.apps), related_name="tasks")
    return made


app = make_app(env())
# The one that `shared_task` means in every thread of this process, and not only in the one that has made it.
app.set_default()
app.steps["worker"].add("tasks.heartbeat:SignOfLife")
app.steps["consumer"].add("tasks.acknowledging:Acknowledging")
