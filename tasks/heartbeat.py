"""A worker's parent process: it shows life, and watches over the attempts of its children.

It runs in a thread of the parent, beside Celery and with a connection of its own: a child that holds its interpreter,
or a broker that hangs, does not stop it.
Invariant: a worker has its lease, and its queues count as attended, only while this thread has shown a sign lately; and
a child is ended by force only while it is stopped and the store says that it runs just the attempt that shall end.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
from celery import bootsteps, signals

from asgi_app.env import env
from cache_layer.blocking import BlockingStore
from cache_layer.errors import StoreUnavailable
from cache_layer.keys import Names
from cache_layer.queues import Reason, Watch, read_watch, watching
from tasks.attempt import under_way
from tasks.brokers import plain_name
from tasks.identity import become_worker, process_name
from tasks.loop import pulse
from tasks.verdict import judge

log = logging.getLogger(__name__)

#: Seconds between signs, and how long one counts: what `/readyz` and every submission know of workers and schedulers.
EVERY = 2.0
LIFE = 7.0
#: Seconds between two looks at what is held, and between two at whether the processes that hold it live.
_LOOK, _GLANCE = 0.5, 0.1
#: Seconds the store may take to answer.
_PATIENCE = 2.0


class SignOfLife(bootsteps.StartStopStep):
    """Celery's door to the `Warden`."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        # Before the pool is started: its processes have the name from their parent.
        self._warden = Warden(
            become_worker(), lambda: [plain_name(queue) for queue in parent.app.amqp.queues.consume_from.values()]
        )
        self._threads = "thread" in str(getattr(parent, "pool_cls", ""))

    def start(self, parent: Any) -> None:
        """Called by Celery when the worker starts."""
        self._warden.start(shared=self._threads, slots=parent.concurrency)
        # Celery stops its steps in the opposite order, this one before the pool, whose last attempts are watched, too.
        signals.worker_shutdown.connect(self._farewell, weak=False)

    def _farewell(self, **_: Any) -> None:
        self._warden.stop()


class Warden:
    """Watches over the processes of one worker."""

    def __init__(self, worker: str, queues: Callable[[], list[str]]) -> None:
        settings = env()
        self._worker = worker
        self._queues = queues
        self._names = Names(settings.namespace)
        self._store = BlockingStore(settings.store_url, deadline=_PATIENCE, connections=2)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        #: All attempts run in threads of this process, so many at once: none can be ended alone.
        self._shared, self._slots = False, 1
        #: Attempts given up whose threads go on: (job, number of the attempt).
        self._stuck: set[tuple[str, int]] = set()

    def start(self, *, shared: bool, slots: int) -> None:
        """Begin to watch."""
        self._shared, self._slots = shared, slots
        self._watch()  # the first sign before the first message
        self._thread = threading.Thread(target=self._run, name="warden", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say farewell; may be called twice, or before `start`."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE + 1.0)
        self._watch(leaves=True)
        self._store.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                seen = self._watch()
                if seen is not None:
                    self._judge(seen)
                    self._glance(seen)
                else:
                    self._stopped.wait(_LOOK)
            except Exception:
                log.exception("the worker's processes were not watched")
                self._stopped.wait(_LOOK)

    def _glance(self, seen: Watch) -> None:
        """Wait for the next look, or until a process that holds something is gone."""
        until = time.monotonic() + _LOOK
        pids = {held.pid for held, _ in seen.held.values()}
        while time.monotonic() < until and not self._stopped.wait(_GLANCE):
            if not all(_is_child(pid) for pid in pids - {os.getpid()}):
                return

    def _watch(self, leaves: bool = False) -> Watch | None:
        roles = ["worker", *(f"worker:{queue}" for queue in self._queues())]
        keys, args = watching(self._names, self._worker, process_name(), roles, life=LIFE, leaves=leaves)
        try:
            return read_watch(self._store.script("watch", keys, args))
        except StoreUnavailable as error:
            log.warning("no sign of life, the store is away: %s", error)
            return None

    def _judge(self, seen: Watch) -> None:
        for job_id, (held, cancel) in seen.held.items():
            alive = held.pid == os.getpid() or _is_child(held.pid)
            reason = judge(held, cancel, alive=alive, now=seen.now)
            if reason == "died":
                self._report(job_id, held.pid, reason)
            elif reason is not None and (self._shared or held.pid == os.getpid()):  # which would stop itself
                self._give_up(job_id, held.fence, reason)
            elif reason is not None:
                self._end_child(job_id, held.pid, held.fence, reason)

    def _end_child(self, job_id: str, pid: int, fence: int, reason: Reason) -> None:
        """Stop the process, look once more that it is at this attempt, and end it."""
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return  # seen at the next look
        try:
            again = self._watch()
            found = again.held.get(job_id) if again is not None else None
            if found is not None and (found[0].pid, found[0].fence) == (pid, fence):
                log.warning("job %s: attempt %d in process %d is ended by force (%s)", job_id, fence, pid, reason)
                self._report(job_id, pid, reason)  # first: else it would have died, and would be made again
                os.kill(pid, signal.SIGKILL)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _give_up(self, job_id: str, fence: int, reason: Reason) -> None:
        """A thread cannot be ended: its attempt is over all the same, and a worker that can run no other is too."""
        self._stuck &= under_way  # some have come to an end
        if (job_id, fence) in self._stuck:
            return
        self._report(job_id, os.getpid(), reason, str(fence))  # before it counts as given up: the store may be away
        self._stuck.add((job_id, fence))
        log.warning("job %s: attempt %d is given up, its thread goes on (%s)", job_id, fence, reason)
        if len(self._stuck) >= self._slots or pulse.blocked:
            what = "the event loop is blocked" if pulse.blocked else f"all {self._slots} threads are stuck"
            log.error("%s: this worker ends, so that another can begin", what)
            os._exit(os.EX_SOFTWARE)

    def _report(self, job_id: str, pid: int, reason: Reason, fence: str = "") -> None:
        """Name a loss, if that process still holds it (at that attempt): a reaper sees after it.

        One may have done so already, and another process of this worker may be at the next attempt.
        """
        keys = [self._names.held(self._worker), self._names.losses()]
        self._store.script("lost", keys, [job_id, pid, self._worker, reason, fence])


def _is_child(pid: int) -> bool:
    """Whether this is a process we have started and that lives."""
    try:
        process = psutil.Process(pid)
        return process.ppid() == os.getpid() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
