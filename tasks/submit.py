"""Ring the doorbell: Celery's message for a job, and its way to a broker that is not the store.

Invariant: the message equals what Celery's own `apply_async` would send; nothing here blocks the event loop, and nobody
waits for a broker longer than `_DEADLINE`, or at all while it is known to be away.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from bisect import bisect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kombu.serialization import dumps

from asgi_app.env import Env
from asgi_app.errors import Unavailable
from cache_layer.breaker import Breaker
from cache_layer.keys import Names
from cache_layer.queues import Bell
from tasks.app import app, native
from tasks.brokers import PRIORITY_STEPS

log = logging.getLogger(__name__)

TASK = "millpond.run"
_SEPARATOR = "\x06\x16"
#: Seconds a foreign broker may take for one message.
_DEADLINE = 0.8
#: Stands for the id of a job in a message that is made once and used for all.
_ANY_JOB = "00000000-0000-0000-0000-000000000000"
#: Messages at once on their way to it; what comes then is left to the reaper, who rings again.
_AT_ONCE = 200


def redis_priority(priority: int) -> int:
    """The Redis transport's level for ours: 9 is our most urgent, 0 is theirs."""
    return PRIORITY_STEPS[bisect(PRIORITY_STEPS, 9 - priority) - 1]


class CeleryDoorbell:
    """See `asgi_app.doorbell.Doorbell`."""

    def __init__(self, settings: Env) -> None:
        self._native = native(settings)
        self._serializer = settings.serializer
        self._prefix = Names(settings.namespace).broker_prefix()
        self._is_redis = not settings.on_rabbitmq
        # Its own few threads: a hung broker must not hold the thread that all of Django's ORM calls share.
        self._threads = ThreadPoolExecutor(4, "doorbell") if not self._native else None
        self._breaker = Breaker()
        self._ringing = 0
        self._away = False
        #: Queue and priority -> list, and the message between whose parts the id of a job stands.
        self._made: dict[tuple[str, int], tuple[str, list[bytes]]] = {}

    def bell(self, job_id: str, *, queue: str, priority: int) -> Bell:
        """The message that makes a worker of `queue` take its best job; it is named after the job that rings."""
        if not self._native:
            level = redis_priority(priority) if self._is_redis else priority
            return Bell(queue=queue, message=json.dumps([job_id, level]).encode(), list="")
        made = self._made.get((queue, priority))
        if made is None:
            made = self._made[queue, priority] = self._new_made(queue, redis_priority(priority))
        list_, message = made
        return Bell(queue=queue, message=job_id.encode().join(message), list=list_)

    def lists(self, queue: str) -> Sequence[str]:
        """The lists of a queue, by level, when the broker is the store itself; else none."""
        return [self._list(queue, step) for step in PRIORITY_STEPS] if self._native else []

    async def ring(self, bell: Bell) -> None:
        """Publish through kombu, in a thread, within a second.

        Raises Unavailable: the message may have been sent or not; who waits is rung for again by the reaper.
        """
        assert self._threads is not None
        if self._breaker.open(time.monotonic()) or self._ringing >= _AT_ONCE:
            raise broker_away()
        job_id, level = json.loads(bell.message)
        loop = asyncio.get_running_loop()
        self._ringing += 1
        work = loop.run_in_executor(self._threads, partial(self._publish, job_id, bell.queue, level))
        work.add_done_callback(self._rung)
        try:
            async with asyncio.timeout(_DEADLINE):
                await asyncio.shield(work)
        except Exception as error:
            if not self._away:
                log.warning("the broker takes no messages: %s", str(error) or type(error).__name__)
            self._away = True
            self._breaker.failed(time.monotonic())
            raise broker_away() from error
        self._away = False
        self._breaker.succeeded()

    async def close(self) -> None:
        """End the threads; may be called twice."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _rung(self, work: asyncio.Future[None]) -> None:
        self._ringing -= 1
        if not work.cancelled():
            work.exception()  # it is the waiting one's, who may have gone

    def _publish(self, job_id: str, queue: str, level: int) -> None:
        app.send_task(TASK, (queue,), task_id=job_id, queue=queue, priority=level, ignore_result=True)

    def _list(self, queue: str, level: int) -> str:
        return f"{self._prefix}{queue}{_SEPARATOR}{level}" if level else f"{self._prefix}{queue}"

    def _new_made(self, queue: str, level: int) -> tuple[str, list[bytes]]:
        """Messages of one queue differ in the id alone; making one takes Celery longer than all the rest takes."""
        return self._list(queue, level), self._new_envelope(_ANY_JOB, queue, level).split(_ANY_JOB.encode())

    def _new_envelope(self, job_id: str, queue: str, level: int) -> bytes:
        message = app.amqp.as_task_v2(job_id, TASK, (queue,), {}, ignore_result=True)
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


def broker_away() -> Unavailable:
    """The broker does not answer; worth trying again in two seconds."""
    return Unavailable("the broker cannot be reached", retry_after=2.0, extra={"part": "broker"})
