"""Declarations the acceptance tests ask for; a ledger file counts what really ran."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from asgi_app import Progress, action, resource

Name = Annotated[str, Meta(max_length=40)]
Seconds = Annotated[float, Meta(ge=0, le=60)]


def _ledger() -> Path:
    return Path(os.environ["MILLPOND_HOME"]) / "ledger"


def note(line: str) -> None:
    """Write a line into the ledger."""
    with _ledger().open("a") as ledger:
        ledger.write(f"{line}\n")


def noted(line: str) -> int:
    """How often a line stands there."""
    return _ledger().read_text().splitlines().count(line) if _ledger().exists() else 0


@resource("plain.double", fresh=60)
def double(n: Annotated[int, Meta(ge=0, le=10**9)]) -> int:
    """Twice the number."""
    note(f"double {n}")
    return 2 * n


@resource("plain.delays", offload=False, fresh=0, stale=0)
async def delays(name: Name) -> str:
    """Sends a plain task from the web process; its id."""
    from tests.support.plain.tasks import write

    return str((await asyncio.to_thread(write.delay, name)).id)


@action("plain.note")
def note_(name: Name) -> str:
    """Happens."""
    note(name)
    return name


@action("plain.recovers", retries=2)
def recovers(name: Name) -> str:
    """Raises at the first attempt."""
    note(f"recovers {name}")
    if noted(f"recovers {name}") < 2:
        raise ValueError("not yet")
    return "well"


@action("plain.fails", retries=0)
def fails(name: Name) -> None:
    """Raises."""
    raise ValueError(name)


@action("plain.steps", retries=0)
def steps(name: Name, seconds: Seconds = 1.0, *, progress: Progress) -> None:
    """Takes its time, says how far it is, and hears when it shall stop."""
    note(f"steps {name} {os.getpid()}")
    for step in range(20):
        progress(step, 20, f"step {step}")
        time.sleep(seconds / 20)
    note(f"stepped {name}")


@action("plain.steady", retries=0, priority=9)
def steady(name: Name, seconds: Seconds = 1.0) -> None:
    """Takes its time and asks nobody."""
    note(f"steady {name} {os.getpid()}")
    time.sleep(seconds)
    note(f"steadied {name}")


@action("plain.least", priority=0)
def least(name: Name) -> None:
    """Comes last."""
    note(f"{name} 0")


@action("plain.middle", priority=5)
def middle(name: Name) -> None:
    """Comes in between."""
    note(f"{name} 5")


@action("plain.first", priority=9)
def first(name: Name) -> None:
    """Comes first."""
    note(f"{name} 9")


@action("plain.tick", schedule=1)
def tick() -> None:
    """Happens each second."""
    note("tick")


#: Coroutines that wait for another, by name.
_waiting: dict[str, asyncio.Event] = {}


@action("plain.meets", retries=0, time_limit=20)
async def meets(name: Name, parties: Annotated[int, Meta(ge=2, le=99)] = 2) -> dict[str, Any]:
    """Ends when so many of the same name run in the same process, on the same loop."""
    note(f"meets {name} {os.getpid()}")
    found = _waiting.setdefault(name, asyncio.Event())
    if noted(f"meets {name} {os.getpid()}") >= parties:
        found.set()
    await found.wait()
    note(f"met {name} {threading.get_ident()}")
    return {"pid": os.getpid()}


@action("plain.blocks", retries=0, time_limit=20)
async def blocks(name: Name, seconds: Seconds = 4.0) -> None:
    """Holds up the loop, as no coroutine may."""
    note(f"blocks {name}")
    time.sleep(seconds)  # noqa: ASYNC251  (that is its fault)


@action("plain.overruns", retries=0, time_limit=1)
def overruns(name: Name, seconds: Seconds = 60.0) -> None:
    """Takes longer than it may."""
    note(f"overruns {name}")
    time.sleep(seconds)
    note(f"overran {name}")
