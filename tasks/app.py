"""The Celery application: queues, limits, broker profile.

Invariant: Celery keeps no results and retries nothing of ours; its messages carry a job id and no more.  Plain Celery
tasks of the user's own may live beside ours, with a result back end where MILLPOND_RESULT_BACKEND names one.
The settings and their reasons: messages are acknowledged before the work (a job's record finds lost work again, Celery
on Redis would wait an hour for it), sockets have deadlines (the default hangs for ever), nothing is prefetched (on
Redis priorities hold only then).
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from asgi_app.env import Env, env
from cache_layer.keys import Names

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asgi_app.settings")

#: Redis transport: the levels a priority is mapped to, the most urgent first.
PRIORITY_STEPS = (0, 3, 6, 9)


def native(settings: Env) -> bool:
    """Whether the broker is the store itself, so that a job and its message are written in one step."""
    return settings.broker_url is None or settings.broker_url == settings.redis_url


def queues() -> list[str]:
    """All queues that a declaration names, `default` among them."""
    from asgi_app.registry import registry

    return registry.queues()


def _transport_options(settings: Env) -> dict[str, Any]:
    if settings.broker.startswith("amqp"):
        return {"confirm_publish": True, "max_retries": 2, "interval_start": 0, "interval_step": 0.1}
    return {
        "global_keyprefix": Names(settings.namespace).broker_prefix(),
        "visibility_timeout": 60,  # only messages nobody started are unacknowledged
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": False,  # a publication repeated is a message doubled
        "queue_order_strategy": "priority",
        "priority_steps": list(PRIORITY_STEPS),
        "max_connections": 20,
    }


def make_app(settings: Env) -> Celery:
    """A Celery application for these settings."""
    made = Celery("millpond", broker=settings.broker, backend=settings.results)
    made.conf.update(
        imports=("tasks.runner",),
        broker_transport_options=_transport_options(settings),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        broker_pool_acquire_timeout=2,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
        task_ignore_result=settings.result_backend is None,
        result_expires=3600,
        task_serializer=settings.serializer,
        result_serializer=settings.serializer,
        event_serializer="json",
        accept_content=sorted({"json", settings.serializer}),
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not settings.broker.startswith("amqp"),
        worker_eta_task_limit=1000,
        worker_max_tasks_per_child=1000,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_inherit_parent_priority=True,
        task_default_queue="default",
        task_create_missing_queues=True,
        timezone="UTC",
        enable_utc=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return made


app = make_app(env())
app.steps["worker"].add("tasks.heartbeat:SignOfLife")
