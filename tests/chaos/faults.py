"""What goes wrong, one kind a round: processes are killed and frozen, as the kernel or an operator would.

Invariant: a fault leaves nothing frozen, also when the run is stopped in its middle.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

from tests.chaos.books import Books
from tests.support.service import Service

#: Seconds the store is silent; the scheduler for longer than its last sign of life lasts (7 s).
_STORE_SILENCE, _SCHEDULER_SILENCE = 3.0, 9.0


class Crew:
    """The processes of a service, by role."""

    def __init__(self, service: Service) -> None:
        self._root = psutil.Process(service.pid)
        #: Every process ever seen: at the end none may be left.
        self.seen = {self._root}

    def of(self, role: str) -> list[psutil.Process]:
        """Those of a role, of which there has to be one.  Raises LookupError."""
        found = self._by_role().get(role)
        if not found:
            raise LookupError(f"there is no {role} to break")
        return found

    def census(self) -> Counter[str]:
        """How many there are of each role."""
        return Counter({role: len(those) for role, those in self._by_role().items()})

    def left(self) -> list[psutil.Process]:
        """Those ever seen that still run."""
        return [process for process in self.seen if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    def _by_role(self) -> dict[str, list[psutil.Process]]:
        found: dict[str, list[psutil.Process]] = {}
        for process in self._root.children(recursive=True):
            try:
                self.seen.add(process)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.setdefault(_role(process), []).append(process)
            except psutil.NoSuchProcess:
                continue
        return found


def _role(process: psutil.Process) -> str:
    words = process.cmdline()
    if any("valkey-server" in word or "redis-server" in word for word in words):
        return "store"
    if "web" in words and "--listener" not in words:
        return "keeper of the web"
    parent = process.parent()
    child = "worker" in words and parent is not None and "worker" in parent.cmdline()
    return "worker child" if child else words[words.index("asgi_app") + 1] if "asgi_app" in words else "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault."""

    name: str
    inject: Callable[[Crew, Books, random.Random], Awaitable[None]]
    #: Whether clients may find their connections cut.
    cuts: bool = False


async def _kill_web(crew: Crew, books: Books, dice: random.Random) -> None:
    dice.choice(crew.of("web")).kill()


async def _kill_worker_child(crew: Crew, books: Books, dice: random.Random) -> None:
    dice.choice(crew.of("worker child")).kill()


async def _kill_worker(crew: Crew, books: Books, dice: random.Random) -> None:
    for process in (*crew.of("worker"), *crew.of("worker child")):
        process.kill()


async def _kill_store(crew: Crew, books: Books, dice: random.Random) -> None:
    for process in crew.of("store"):
        process.kill()
    books.stores += 1


async def _freeze_store(crew: Crew, books: Books, dice: random.Random) -> None:
    await _freeze(crew.of("store"), _STORE_SILENCE)


async def _freeze_scheduler(crew: Crew, books: Books, dice: random.Random) -> None:
    await _freeze(crew.of("scheduler"), _SCHEDULER_SILENCE)


async def _freeze(processes: list[psutil.Process], seconds: float) -> None:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


FAULTS = (
    Fault(name="kill one web process", inject=_kill_web, cuts=True),
    Fault(name="kill a child of the worker", inject=_kill_worker_child),
    Fault(name="kill the whole worker", inject=_kill_worker),
    Fault(name="kill the store", inject=_kill_store),
    Fault(name=f"freeze the store for {_STORE_SILENCE:g} s", inject=_freeze_store),
    Fault(name=f"freeze the scheduler for {_SCHEDULER_SILENCE:g} s", inject=_freeze_scheduler),
)


def draw(dice: random.Random, rounds: int, only: str) -> list[Fault]:
    """A fault for each round: any order, but none a second time before each had its turn.

    `only`: part of the names of those that shall be drawn.
    """
    drawn: list[Fault] = []
    wanted = [fault for fault in FAULTS if only in fault.name]
    while wanted and len(drawn) < rounds:
        drawn += dice.sample(wanted, len(wanted))
    return drawn[:rounds]
