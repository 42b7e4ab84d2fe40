"""The scheduler: runs actions and refreshes resources at their times.

Invariant: any number of schedulers may run; each firing is one job, because its id follows from its name and time.
A firing that is missed while no scheduler runs is not made up for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from celery.schedules import crontab

from asgi_app import wiring
from asgi_app.errors import MillpondError
from asgi_app.jobs import firing_id
from asgi_app.registry import Action, Principal, Registry, Resource, registry
from cache_layer.errors import StoreUnavailable
from tasks.app import app
from tasks.heartbeat import EVERY, LIFE, process_name
from tasks.reaper import keep_reaping
from tasks.relay import keep_relaying
from tasks.webhooks import keep_delivering

log = logging.getLogger(__name__)

Schedule = Callable[[float], float]


def every(seconds: float) -> Schedule:
    """Fires at the multiples of `seconds` since the epoch, the same for every scheduler."""

    def after(moment: float) -> float:
        number = moment // seconds  # may be one off: 7 * 0.7 // 0.7 is 6
        return next(due for due in (number * seconds, (number + 1) * seconds, (number + 2) * seconds) if due > moment)

    return after


def cron(line: str) -> Schedule:
    """Fires at the times of a five-field crontab line, in UTC.  The arithmetic is Celery's."""
    minute, hour, day_of_month, month_of_year, day_of_week = line.split()
    # Our app, whose time is UTC: Celery's current one may be the user's.
    fields = crontab(minute, hour, day_of_week, day_of_month, month_of_year, app=app)

    def after(moment: float) -> float:
        # Whole seconds: `fromtimestamp` would round a moment just before a firing up to it, and skip it.
        start, delta, _ = fields.remaining_delta(datetime.fromtimestamp(math.floor(moment), UTC))
        return (start + delta).timestamp()  # type: ignore[no-any-return]

    return after


@dataclass(slots=True)
class Entry:
    """Something declared to happen at times."""

    what: Action | Resource
    schedule: Schedule
    due: float


def entries(declared: Registry, now: float) -> list[Entry]:
    """Everything in the registry that has a schedule, due for the first time after `now` (unix seconds)."""
    found: list[Entry] = []
    for action in declared.actions.values():
        if action.schedule is not None:
            found.append(_entry(action, action.schedule, now))
    for resource in declared.resources.values():
        if resource.refresh not in ("lazy", "watched"):
            found.append(_entry(resource, resource.refresh, now))
    return found


def _entry(what: Action | Resource, schedule: str | float, now: float) -> Entry:
    rule = cron(schedule) if isinstance(schedule, str) else every(float(schedule))
    return Entry(what, rule, rule(now))


async def fire(node: wiring.Node, what: Action | Resource, due: float) -> None:
    """Make the job of one firing; made already, by whomever, is well."""
    params = what.parse({}, text=False)
    job_id = firing_id(what.name, round(due * 1000))
    if isinstance(what, Action):
        await node.submitter.action(what, params, Principal.public(), job_id=job_id, trusted=True)
    else:
        await node.reader.refresh(what, params, Principal.public(), job_id=job_id, trusted=True)


async def tick(node: wiring.Node, scheduled: list[Entry], now: float) -> None:
    """Fire what is due.  A late scheduler fires the newest missed time of an entry, not all of them."""
    for entry in scheduled:
        if entry.due > now:
            continue
        due, entry.due = _newest(entry, now), entry.schedule(now)
        try:
            await fire(node, entry.what, due)
        except (MillpondError, StoreUnavailable) as error:
            if isinstance(error, StoreUnavailable) or error.retryable:
                entry.due = due  # again at the next tick: the same time is the same job
            log.warning("%s was not fired: %s", entry.what.name, error)


def _newest(entry: Entry, now: float) -> float:
    """The last time of an entry from `due` on that is not after `now`.

    Sought backwards in growing steps, because a clock may jump by years.
    """
    back, newest = 1.0, entry.due
    while now - back > entry.due:
        if (found := entry.schedule(now - back)) <= now:
            newest = found
            break
        back *= 2.0
    while (following := entry.schedule(newest)) <= now:
        newest = following
    return newest


async def serve(stopped: asyncio.Event) -> None:
    """Schedule until `stopped` is set."""
    node = await wiring.start_node()
    scheduled = entries(registry, time.time())
    log.info("%d entries: %s", len(scheduled), ", ".join(entry.what.name for entry in scheduled))
    behind = [asyncio.ensure_future(work(node)) for work in (_show_life, keep_reaping, keep_relaying, keep_delivering)]
    try:
        while not stopped.is_set():
            await tick(node, scheduled, time.time())
            nearest = min((entry.due for entry in scheduled), default=time.time() + 1.0)
            await _sleep(stopped, min(1.0, max(0.01, nearest - time.time())))
    finally:
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)
        await wiring.stop_node()


async def _show_life(node: wiring.Node) -> None:
    while True:
        try:
            await node.records.show_life(process_name(), LIFE, "scheduler")
        except StoreUnavailable as error:
            log.warning("no sign of life: %s", error)
        await asyncio.sleep(EVERY)


async def _sleep(stopped: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        pass


def main() -> int:
    """Run the scheduler until SIGTERM or SIGINT; Django is set up already.  The exit code."""

    async def run() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await serve(stopped)

    asyncio.run(run())
    return 0
