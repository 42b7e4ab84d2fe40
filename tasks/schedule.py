"""The scheduler: runs actions and refreshes resources at their times.

Invariant: any number of schedulers may run; each firing is one job, because its id follows from its plan and due time.
How far they have got stands in the database, so that what none of them was there for can be made up for.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from channels.db import database_sync_to_async
from django.db import Error

from asgi_app import wiring
from asgi_app.errors import MillpondError
from asgi_app.jobs import firing_id
from asgi_app.registry import Action, Principal, Registry, Resource, registry
from asgi_app.scheduling import book
from asgi_app.scheduling.plans import Plan, Settled, declared
from cache_layer.errors import StoreUnavailable
from tasks.heartbeat import EVERY, LIFE
from tasks.identity import process_name
from tasks.noticing import keep_noticing
from tasks.reaper import keep_reaping
from tasks.relay import keep_relaying
from tasks.results import keep_forgetting
from tasks.timetable import Entry, Timetable
from tasks.webhooks import keep_delivering

log = logging.getLogger(__name__)

#: Seconds between two looks at the database, jittered: for entries that changed, and to say how far this one has got.
LOOK = 2.0
#: Seconds a scheduler that starts waits for the database, which knows what was missed.
PATIENCE = 30.0
#: Seconds until a firing that failed is tried again.
AGAIN = 1.0
#: Firings of actions, and of resources, at once: many entries are due at the full hour.
AT_ONCE = 20
#: Milliseconds a firing that leaves no record is remembered.
_REMEMBERED = 24 * 3_600_000


class Scheduler:
    """One of any number of schedulers.  `clock` gives unix seconds, and may jump."""

    def __init__(self, node: wiring.Node, *, of: Registry = registry, clock: Callable[[], float] = time.time) -> None:
        self._node = node
        self._registry = of
        self._clock = clock
        self._timetable = Timetable()
        self._firing: dict[str, asyncio.Task[None]] = {}
        #: Two, because a database that does not answer holds up actions only.
        self._slots = {kind: asyncio.Semaphore(AT_ONCE) for kind in (Action, Resource)}
        self._begun = False
        self._patient_until = time.monotonic() + PATIENCE
        #: What the database was told last, and what was said of it.
        self._told: dict[str, tuple[str, int]] = {}
        self._complaints: dict[str, str] = {}
        self._away = False

    def tick(self) -> float:
        """Begin to fire what is due; how many seconds there are until something is due again."""
        now = self._clock()
        if not self._begun and time.monotonic() > self._patient_until:
            log.warning("what was missed before is not made up for: the database did not say it")
            self.change(list(declared(self._registry)), {})
        for key, entry in self._timetable.entries.items():
            entry.take_up(now)
            if entry.waiting and key not in self._firing:
                self._firing[key] = asyncio.ensure_future(self._fire_waiting(entry))
                self._firing[key].add_done_callback(partial(self._ended, key))
        return self._timetable.next_due() - now

    def change(self, plans: list[Plan], settled: dict[str, Settled]) -> None:
        """From now on these plans and no others; see `Timetable.change`."""
        if not self._begun:
            log.info("%d schedules: %s", len(plans), ", ".join(plan.key for plan in plans))
        self._timetable.change(plans, settled, self._clock())
        self._begun = True

    async def look(self) -> None:
        """Tell the database how far this one has got, and read what it has to say.  A database that is away changes

        nothing.
        """
        try:
            if self._begun:
                await self._tell()
            else:
                await database_sync_to_async(book.forget_gone)()
            made, wrong, settled = await database_sync_to_async(_read)()
        except Error as error:
            if not self._away:
                log.warning("schedules go on as they are, the database is away: %s", error)
            self._away = True
            return
        self._away = False
        self.change([*declared(self._registry), *made], settled)
        for name, reason in wrong.items():
            if self._complaints.get(name) != reason:
                log.warning("the schedule '%s' is not fired: %s", name, reason)
        self._complaints = wrong

    async def keep_looking(self) -> None:
        """Looks until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("the schedules of the database were not read")
            await asyncio.sleep(LOOK * random.uniform(0.7, 1.2))

    async def idle(self) -> None:
        """Returns when nothing is being fired."""
        while self._firing:
            await asyncio.wait(list(self._firing.values()))

    async def stop(self) -> None:
        """End what is being fired, and say how far this one has got; may be called twice."""
        for task in list(self._firing.values()):
            task.cancel()
        await self.idle()
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(5.0):
                await self._tell()

    async def _tell(self) -> None:
        reached = self._timetable.reached()
        news = {key: value for key, value in reached.items() if self._told.get(key) != value}
        if news:
            await database_sync_to_async(book.settle)(news)
        self._told = reached

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        del self._firing[key]

    async def _fire_waiting(self, entry: Entry) -> None:
        """Fire what waits of an entry, one after another; what fails for now is tried again until it is too late."""
        failed: float | None = None
        while (due := entry.first(self._clock())) is not None:
            try:
                async with self._slots[type(entry.plan.what)]:
                    await fire(self._node, entry.plan, due)
            except (MillpondError, StoreUnavailable, Error) as error:
                again = not isinstance(error, MillpondError) or error.retryable
                if failed != due:
                    log.warning("%s was not fired%s: %s", entry.plan.key, " yet" if again else "", error)
                failed = due
                if again:
                    await asyncio.sleep(AGAIN)
                    continue
            except Exception:
                log.exception("%s was not fired", entry.plan.key)
            entry.fired(due)


def _read() -> tuple[list[Plan], dict[str, str], dict[str, Settled]]:
    return *book.plans(), book.settled()


async def fire(node: wiring.Node, plan: Plan, due: float) -> None:
    """Make the job of one firing; made already, by whomever, is well."""
    job_id = firing_id(plan.key, round(due * 1000))
    if isinstance(plan.what, Action):
        await node.submitter.action(plan.what, plan.params, Principal.public(), job_id=job_id, trusted=True)
    elif plan.what.offload:
        await node.reader.refresh(plan.what, plan.params, Principal.public(), job_id=job_id, trusted=True)
    else:
        await _fire_here(node, plan.what, plan.params, job_id)


async def _fire_here(node: wiring.Node, resource: Resource, params: object, firing: str) -> None:
    """What is computed in this process has no record that would say that it was fired."""
    name = node.store.names.firing(firing)
    if await node.store.command("SET", name, firing, "NX", "PX", _REMEMBERED) is None:
        return
    try:
        await node.reader.refresh(resource, params, Principal.public(), trusted=True)
    except BaseException:
        await node.store.command("UNLINK", name)
        raise


async def serve(stopped: asyncio.Event) -> None:
    """Schedule until `stopped` is set."""
    node = await wiring.start_node()
    scheduler = Scheduler(node)
    of_every_scheduler = (_show_life, keep_reaping, keep_relaying, keep_delivering, keep_noticing, keep_forgetting)
    behind = [asyncio.ensure_future(work(node)) for work in of_every_scheduler]
    behind.append(asyncio.ensure_future(scheduler.keep_looking()))
    try:
        while not stopped.is_set():
            await _sleep(stopped, min(0.5, max(0.01, scheduler.tick())))
    finally:
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)
        await scheduler.stop()
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
