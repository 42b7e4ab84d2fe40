"""The one Celery task: take the best job of a queue -> claim -> run -> finish.

The message says only that there is work; which, says the queue.
Invariant (promise 4): an attempt that did not get the claim does nothing, and one that lost it writes nothing.
"""

from __future__ import annotations

import logging
import os

from asgi_app.errors import MillpondError
from cache_layer.queues import Ticket
from tasks.action import ActionAttempt
from tasks.app import app
from tasks.attempt import Attempt, let_go_of_the_rest
from tasks.computation import ComputationAttempt
from tasks.identity import worker_name
from tasks.persistence import insist
from tasks.submit import TASK

log = logging.getLogger(__name__)


# On Redis a message is acknowledged before the work, see `app.py`; on RabbitMQ after it (`acknowledging.py`).
@app.task(name=TASK, ignore_result=True, acks_late=app.settings.on_rabbitmq)
def run_job(queue: str) -> None:
    """Run the job of this queue whose turn it is, if one waits."""
    let_go_of_the_rest()
    ticket = insist(lambda node: node.queues.take(queue, worker=worker_name(), pid=os.getpid()))
    if ticket is None:
        log.debug("nothing waits on %s", queue)
        return
    attempt = attempt_at(ticket)
    try:
        _make(attempt)
    except BaseException:  # its beginning or its end could not be written, or this process has to go
        attempt.let_go()
        raise


def _make(attempt: Attempt) -> None:
    try:
        claimed = attempt.claim()
    except MillpondError as error:
        log.warning("job %s cannot be run here: %s", attempt.id, error.detail)
        attempt.refuse(error)
        return
    if claimed:
        attempt.run()


def attempt_at(ticket: Ticket) -> Attempt:
    """The attempt for what was taken."""
    return ActionAttempt(ticket) if ticket.kind == "action" else ComputationAttempt(ticket)
