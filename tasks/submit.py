"""Ring the doorbell: Celery's message for a job, and its way to a broker that is not the store.

Invariant: the message equals what Celery's own `apply_async` would send; nothing here blocks the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from bisect import bisect
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil
from typing import Any

from kombu.serialization import dumps

from asgi_app.env import Env
from asgi_app.errors import Unavailable
from cache_layer.keys import Names
from cache_layer.records import Bell
from tasks.app import PRIORITY_STEPS, app, native

TASK = "millpond.run"
#: Seconds a time limit is exceeded until Celery kills the process that runs the attempt: enough to clean up, and to go
#: on trying to write a result while the store is away (`runner._PERSISTENCE`).
HARD_LIMIT_GRACE = 45.0
_SEPARATOR = "\x06\x16"
#: Seconds a foreign broker may take for one message.
_DEADLINE = 3.0


def redis_priority(priority: int) -> int:
    """The Redis transport's level for ours: 9 is our most urgent, 0 is theirs."""
    return PRIORITY_STEPS[bisect(PRIORITY_STEPS, 9 - priority) - 1]


class CeleryDoorbell:
    """See `asgi_app.doorbell.Doorbell`."""

    def __init__(self, settings: Env) -> None:
        self._native = native(settings)
        self._serializer = settings.serializer
        self._prefix = Names(settings.namespace).broker_prefix()
        self._is_redis = not settings.broker.startswith("amqp")
        # Its own few threads: a hung broker must not hold the thread that all of Django's ORM calls share.
        self._threads = ThreadPoolExecutor(4, "doorbell") if not self._native else None

    def bell(self, job_id: str, *, queue: str, priority: int, time_limit: float, countdown: float = 0.0) -> Bell:
        """The message for a job; for the store's own lists as they hold it, else what `ring` needs."""
        level = redis_priority(priority) if self._is_redis else priority
        if not self._native:
            options = {"queue": queue, "priority": level, "time_limit": time_limit, "due": time.time() + countdown}
            return Bell(queue=queue, message=json.dumps(options).encode(), lists=())
        message = self._envelope(job_id, queue, level, time_limit, countdown)
        first = self._list(queue, level)
        others = [name for step in PRIORITY_STEPS if (name := self._list(queue, step)) != first]
        return Bell(queue=queue, message=message, lists=(first, *others))

    async def ring(self, job_id: str, fields: Mapping[str, str]) -> None:
        """Publish through kombu, in a thread, within a deadline.

        Raises Unavailable; the job stays, and is rung again by the next who asks.
        """
        assert self._threads is not None
        options = json.loads(fields["message"])
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, partial(self._publish, job_id, options))
        try:
            async with asyncio.timeout(_DEADLINE):
                await asyncio.shield(work)
        except Exception as error:
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise Unavailable("the broker cannot be reached", retry_after=2.0, extra={"part": "broker"}) from error

    async def close(self) -> None:
        """End the threads; may be called twice."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _publish(self, job_id: str, options: Mapping[str, Any]) -> None:
        app.send_task(
            TASK,
            (job_id,),
            task_id=job_id,
            queue=options["queue"],
            priority=options["priority"],
            ignore_result=True,
            time_limit=ceil(options["time_limit"] + HARD_LIMIT_GRACE),
            countdown=max(0.0, options["due"] - time.time()) or None,
        )

    def _list(self, queue: str, level: int) -> str:
        return f"{self._prefix}{queue}{_SEPARATOR}{level}" if level else f"{self._prefix}{queue}"

    def _envelope(self, job_id: str, queue: str, level: int, time_limit: float, countdown: float) -> bytes:
        message = app.amqp.as_task_v2(
            job_id,
            TASK,
            (job_id,),
            {},
            countdown=countdown or None,
            time_limit=ceil(time_limit + HARD_LIMIT_GRACE),
            ignore_result=True,
        )
        content_type, encoding, body = dumps(message.body, serializer=self._serializer)
        raw = body.encode() if isinstance(body, str) else body
        properties = {
            **message.properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": level,
            "body_encoding": "base64",
            "delivery_tag": job_id,
        }
        return json.dumps(
            {
                "body": base64.b64encode(raw).decode(),
                "content-encoding": encoding,
                "content-type": content_type,
                "headers": message.headers,
                "properties": properties,
            }
        ).encode()
