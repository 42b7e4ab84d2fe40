"""When RabbitMQ hears that a message was seen to: after the job, so that a worker gets no more than it has hands for.

Nothing can be taken back from a worker that has more messages than free processes: a job would wait for it while
another worker is idle.  On Redis Celery fetches none it has no hands for; on RabbitMQ it does, unless the messages of
running jobs count, and those count that are not acknowledged.
Invariant: none is kept for longer than twice `_LOOK`, for RabbitMQ closes the channel on who does (`consumer_timeout`,
30 minutes).
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker import state

from tasks.submit import TASK

#: Seconds between two looks; what is there at two of them is acknowledged.
_LOOK = 300.0


class Acknowledging(bootsteps.StartStopStep):
    """Celery's door to it, in the thread that speaks with the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._seen: set[str] = set()
        self._timer: Any = None

    def include_if(self, parent: Any) -> bool:
        """Only there are messages of running jobs kept."""
        return bool(parent.app.settings.on_rabbitmq)

    def start(self, parent: Any) -> None:
        """Called by Celery whenever the broker is connected."""
        self.stop(parent)
        self._timer = parent.timer.call_repeatedly(_LOOK, self.look)

    def stop(self, parent: Any) -> None:
        """May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Acknowledge what has been here at the last look, too."""
        kept = {request.id: request for request in list(state.reserved_requests) if request.name == TASK}
        for job_id in self._seen & kept.keys():
            kept[job_id].acknowledge()
        self._seen = set(kept)
