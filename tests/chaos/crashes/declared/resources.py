"""Jobs that write down when they begin and end, and jobs that harm whoever runs them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from asgi_app import Progress, action, resource
from tests.chaos.crashes import injection
from tests.chaos.crashes.declared.models import Effect

Name = Annotated[str, Meta(max_length=60)]
Seconds = Annotated[float, Meta(ge=0, le=60)]

injection.arm()


def note(what: Literal["began", "done"], name: str) -> None:
    """Write a line into the ledger."""
    from tasks.identity import worker_name

    line = {"what": what, "name": name, "pid": os.getpid(), "worker": worker_name(), "at": time.time()}
    injection.write_line(Path(os.environ["MILLPOND_HOME"]) / "ledger", line)


def work(name: str, seconds: float) -> None:
    """Take some time, in the middle of which the process may die."""
    time.sleep(seconds / 2)
    injection.orders().obey("begun", name=name)
    time.sleep(seconds / 2)


@resource("crash.value", fresh=86400, retries=0, time_limit=30)
def value(name: Name, seconds: Seconds = 0.1) -> dict[str, Any]:
    """A computation."""
    note("began", name)
    work(name, seconds)
    note("done", name)
    return {"name": name}


@resource("crash.coroutine", fresh=86400, retries=0, time_limit=30)
async def coroutine(name: Name, seconds: Seconds = 0.1) -> dict[str, Any]:
    """A computation on the event loop of its process."""
    note("began", name)
    await asyncio.sleep(seconds / 2)
    injection.orders().obey("begun", name=name)
    await asyncio.sleep(seconds / 2)
    note("done", name)
    return {"name": name}


@action("crash.line", access="public", retries=0, time_limit=30)
def line(name: Name, seconds: Seconds = 0.1) -> None:
    """An action whose effect is a line in a file: at least once."""
    note("began", name)
    work(name, seconds)
    note("done", name)


@action("crash.row", access="public", retries=0, time_limit=30, atomic=True)
def row(name: Name, seconds: Seconds = 0.1) -> None:
    """An action whose effect is a row in the database: exactly once."""
    note("began", name)
    Effect.objects.create(name=name)
    work(name, seconds)
    note("done", name)


class Unpicklable(Exception):
    """An exception no other process can be told."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} {number}")
        self.held = lambda: name


Harm = Literal["exit", "kill", "memory", "hang", "grip", "unpicklable", "sys.exit"]


def harm(how: Harm) -> None:
    """Do it."""
    if how == "exit":
        os._exit(3)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "memory":
        raise MemoryError
    elif how == "hang":
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2_000_000_000)  # in C: no signal handler of Python runs meanwhile
    elif how == "grip":
        _ = 3 ** int("1000000000")  # in C, and no other thread of the process gets a turn
    elif how == "unpicklable":
        raise Unpicklable("a", 1)
    else:
        sys.exit(3)


@resource("poison.value", retries=0, time_limit=1, error_ttl=1)
def poison_value(name: Name, how: Harm) -> None:
    """Poison, as a computation."""
    note("began", name)
    harm(how)


@action("poison.act", access="public", retries=0, time_limit=1)
def poison_act(name: Name, how: Harm) -> None:
    """Poison, as an action."""
    note("began", name)
    harm(how)


@action("crash.deaf", access="public", retries=0, time_limit=50)
def deaf(name: Name, seconds: Seconds = 40.0) -> None:
    """Never asks whether it shall go on."""
    note("began", name)
    time.sleep(seconds)
    note("done", name)


@resource("crash.deaf_value", retries=0, time_limit=50)
def deaf_value(name: Name, seconds: Seconds = 40.0) -> None:
    """Never asks whether it shall go on."""
    deaf(name, seconds)


@action("crash.steps", access="public", retries=0, time_limit=50)
def steps(name: Name, *, progress: Progress) -> None:
    """Asks all the time."""
    note("began", name)
    for step in range(400):
        progress(step, 400)
        time.sleep(0.1)
    note("done", name)
