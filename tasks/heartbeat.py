"""Signs of life: what `/readyz` and every submission know of workers and schedulers.

Invariant: a role counts as alive only while it has shown a sign within `LIFE` seconds.
"""

from __future__ import annotations

import logging
import os
import socket
from importlib.resources import files
from typing import Any

import redis
from celery import bootsteps
from redis.backoff import NoBackoff
from redis.retry import Retry

from asgi_app.env import env
from cache_layer.keys import Names

log = logging.getLogger(__name__)

#: Seconds between signs, and how long one counts.
EVERY = 2.0
LIFE = 7.0


def process_name() -> str:
    """This process, as the store knows it."""
    return f"{socket.gethostname()}:{os.getpid()}"


class SignOfLife(bootsteps.StartStopStep):
    """Shows that a worker is there for each of its queues, from the worker's parent process."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        settings = env()
        self._names = Names(settings.namespace)
        self._entry: Any = None
        self._process = process_name()
        client = redis.Redis.from_url(
            settings.store_url,
            socket_timeout=1.0,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = client.register_script(files("cache_layer").joinpath("lua", "sign.lua").read_text())

    def start(self, parent: Any) -> None:
        """Called by Celery when the worker starts."""
        self._show(parent)
        self._entry = parent.timer.call_repeatedly(EVERY, self._show, (parent,), priority=10)

    def stop(self, parent: Any) -> None:
        """Called by Celery when the worker stops."""
        if self._entry is not None:
            self._entry.cancel()
        self._sign(parent, 0.0)

    def _show(self, parent: Any) -> None:
        self._sign(parent, LIFE)

    def _sign(self, parent: Any, life: float) -> None:
        queues = list(parent.app.amqp.queues.consume_from)
        roles = [self._names.role("worker"), *(self._names.role(f"worker:{queue}") for queue in queues)]
        try:
            self._script(keys=roles, args=[self._process, round(life * 1000)])
        except redis.RedisError as error:
            log.warning("no sign of life, the store is away: %s", error)
