"""What this machine and Millpond's own processes are doing, by psutil.

Invariant: nothing here holds up an event loop.  A sample costs some 50 microseconds per process shown; the search for
the processes, which reads the command line of every process there is, runs on a thread and only now and then.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, NamedTuple

import psutil

#: Seconds between two searches for processes.
SEARCH_EVERY = 10.0
_COMMAND = re.compile(r"^(?:[^\0]*\0)*?(?:-m\0asgi_app|(?:[^\0]*/)?millpond)\0(up|web|worker|scheduler)(?:\0|$)")
_STORES = frozenset({"valkey-server", "redis-server"})


class Traffic(NamedTuple):
    """Bytes through all network interfaces until `at`, in seconds of the monotonic clock."""

    at: float
    sent: int
    received: int


class Host:
    """Keeps what rates are made of: they are means over the time since the sample before, 0 in the first."""

    def __init__(self) -> None:
        self._processes: list[tuple[str, psutil.Process]] = []
        self._searched_at = -SEARCH_EVERY
        self._traffic = _traffic()
        psutil.cpu_percent(percpu=True)

    async def metrics(self) -> dict[str, Any]:
        """A sample; the shape is in `resources.metrics`."""
        if time.monotonic() - self._searched_at >= SEARCH_EVERY:
            self._searched_at = time.monotonic()
            self._processes = await asyncio.to_thread(_search)
        memory = psutil.virtual_memory()
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "cpu": psutil.cpu_percent(percpu=True),
            "load": [round(load, 2) for load in psutil.getloadavg()],
            "memory": {"total": memory.total, "available": memory.available, "percent": memory.percent},
            "net": self._rates(),
            "processes": [row for role, process in self._processes if (row := _row(role, process))],
        }

    def _rates(self) -> dict[str, float]:
        before, self._traffic = self._traffic, _traffic()
        seconds = max(self._traffic.at - before.at, 0.001)
        return {
            "sent_per_s": round((self._traffic.sent - before.sent) / seconds),
            "received_per_s": round((self._traffic.received - before.received) / seconds),
        }


def role_of(command: Sequence[str], parent: str | None) -> str | None:
    """What a process does for Millpond by its command line, and by what its parent does; None: nothing.

    A child that a web process spawned counts as one; so does a store that `millpond up` started for itself.
    """
    if not command:
        return None
    program = PurePath(command[0].partition(" ")[0]).name
    if program == "millpond" or program.startswith("python"):
        if found := _COMMAND.match("\0".join(command)):
            return found[1]
        return parent if "--multiprocessing-fork" in command else None
    return "store" if parent and program in _STORES else None


def _search() -> list[tuple[str, psutil.Process]]:
    """The processes of all Millponds on this machine, with their roles."""
    running = list(psutil.process_iter(["pid", "ppid", "cmdline"]))
    roles: dict[int, str] = {}
    for _ in range(2):  # once more for children whose number is lower than their parent's
        for process in running:
            role = role_of(process.info["cmdline"] or (), roles.get(process.info["ppid"]))
            if role:
                roles[process.info["pid"]] = role
    return [(roles[process.pid], process) for process in running if process.pid in roles]


def _row(role: str, process: psutil.Process) -> dict[str, Any] | None:
    try:
        with process.oneshot():
            return {"role": role, "pid": process.pid, "cpu": process.cpu_percent(), "rss": process.memory_info().rss}
    except psutil.Error:
        return None


def _traffic() -> Traffic:
    counted = psutil.net_io_counters()
    sent, received = (counted.bytes_sent, counted.bytes_recv) if counted else (0, 0)
    return Traffic(time.monotonic(), sent, received)
