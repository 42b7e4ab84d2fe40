"""Declarations the tests ask for.  Each does one thing; a ledger file counts what really ran."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from asgi_app import Principal, Progress, action, invalidate, log, resource

Name = Annotated[str, Meta(max_length=40)]
Seconds = Annotated[float, Meta(ge=0, le=60)]


def _home() -> Path:
    return Path(os.environ["MILLPOND_HOME"])


def note(line: str) -> None:
    """Write a line into the ledger."""
    with (_home() / "ledger").open("a") as ledger:
        ledger.write(f"{line}\n")


@resource("test.echo", fresh=60)
def echo(text: Name = "hello", n: Annotated[int, Meta(ge=0, le=9)] = 1) -> dict[str, Any]:
    """What was asked."""
    note(f"echo {text} {n}")
    return {"text": text, "n": n}


@resource("test.slow", fresh=60)
def slow(name: Name, seconds: Seconds = 1.0, *, progress: Progress) -> dict[str, Any]:
    """Takes its time, and says so."""
    note(f"slow {name}")
    for step in range(10):
        progress(step, 10, f"step {step}")
        time.sleep(seconds / 10)
    return {"name": name, "pid": os.getpid()}


@resource("test.short", fresh=1, stale=60, retries=0)
def short(name: Name) -> float:
    """Fresh for a second; another value at each computation."""
    note(f"short {name}")
    return time.time()


@resource("test.source", fresh=60, tags=lambda params: (f"source.{params.name}",))
def source(name: Name, seconds: Seconds = 0.0) -> str:
    """What stands in a file, read at the beginning of a computation that may be slow."""
    file = _home() / f"source-{name}"
    text = file.read_text() if file.exists() else ""
    note(f"source {name} {text}")
    time.sleep(seconds)
    return text


@resource("test.watched", fresh=60, tags=lambda params: (f"source.{params.name}",), refresh="watched")
def watched(name: Name) -> str:
    """Like `test.source`, and kept fresh while somebody watches."""
    return source(name)


@resource("test.pulse", fresh=1, refresh="watched")
def pulse(name: Name) -> int:
    """Fresh for a second, and another value at each computation."""
    note(f"pulse {name}")
    return time.monotonic_ns()


@resource("test.fails", retries=0, error_ttl=2)
def fails(message: Name = "no luck") -> None:
    """Raises."""
    note("fails")
    raise ValueError(message)


@resource("test.recovers", retries=2)
def recovers(name: Name) -> str:
    """Raises at the first attempt."""
    note(f"recovers {name}")
    if (_home() / "ledger").read_text().split("\n").count(f"recovers {name}") < 2:
        raise ValueError("not yet")
    return "well"


@resource("test.not_json", retries=0)
def not_json() -> object:
    """Returns what JSON cannot say."""
    return object()


@resource("test.large", retries=0)
def large(mib: Annotated[int, Meta(ge=1, le=64)] = 50) -> str:
    """Returns a lot."""
    return "x" * (mib * 1024 * 1024)


@resource("test.late", retries=0, time_limit=1)
def late() -> None:
    """Never comes to an end by itself."""
    time.sleep(50)


@resource("test.dies", retries=0, time_limit=30)
def dies() -> None:
    """Takes its process along."""
    note("dies")
    os._exit(3)


@resource("test.momentary", fresh=0, stale=0)
def momentary(name: Name) -> int:
    """Never fresh: it only shares its computation."""
    note(f"momentary {name}")
    return time.monotonic_ns()


@resource("test.exits", retries=0, error_ttl=1)
async def exits() -> None:
    """Ends, as it thinks, its process."""
    sys.exit(3)


@resource("test.steady", retries=0)
def steady(name: Name, seconds: Seconds = 1.0) -> str:
    """Takes its time and reports nothing; raises what ends its process."""
    note(f"steady {name}")
    time.sleep(seconds)
    return name


@resource("test.here", offload=False, fresh=1)
async def here(name: Name) -> dict[str, Any]:
    """Computed in the web process."""
    note(f"here {name}")
    return {"name": name, "pid": os.getpid()}


@resource("test.coroutine")
async def coroutine(name: Name, *, progress: Progress) -> dict[str, Any]:
    """Computed on the event loop of a worker."""
    progress(1, 2)
    return {"name": name, "pid": os.getpid()}


@resource("test.mine", vary="user", access="login")
def mine(*, principal: Principal) -> dict[str, Any]:
    """Each user's own."""
    return {"user": principal.username}


@resource("test.permitted", access="auth.view_user")
def permitted() -> str:
    """Only for whom a permission was granted."""
    return "seen"


@resource("test.scopes", vary="user", access="login")
def scopes(*, principal: Principal) -> dict[str, Any]:
    """What it learns of who asks."""
    return {"user": principal.username, "scopes": sorted(principal.scopes)}


def broken_rule(principal: Principal, params: Any) -> bool:
    """An access rule with a mistake."""
    return bool(1 / 0)


@resource("test.broken_rule", access=broken_rule)
def behind_a_broken_rule() -> None:
    """Nobody gets here."""


@resource("test.guarded", access=lambda principal, params: params.name == principal.username)
def guarded(name: Name) -> str:
    """Only for whom it is about."""
    return f"about {name}"


@action("test.write", access="login")
def write(name: Name, text: Name) -> None:
    """Changes what `test.source` reads, and says so."""
    note(f"write {name} {text}")
    (_home() / f"source-{name}").write_text(text)
    invalidate(f"source.{name}")


@action("test.tick", schedule=1, access="public")
def tick() -> None:
    """Happens each second."""
    note("tick")


@action("test.once", retries=0, time_limit=2)
def once(name: Name, seconds: Seconds = 1.0) -> None:
    """Must not happen twice."""
    note(f"once {name}")
    time.sleep(seconds)
    note(f"done {name}")


@action("test.patient", retries=0, time_limit=60)
def patient(name: Name, seconds: Seconds = 1.0, *, progress: Progress) -> None:
    """Takes its time, and asks now and then whether to go on."""
    note(f"patient {name}")
    steps = max(1, round(seconds * 5))
    for step in range(steps):
        progress(step, steps, f"step {step}")
        time.sleep(seconds / steps)


@action("test.refuses", retries=0)
def refuses(name: Name) -> None:
    """Raises."""
    raise ValueError(name)


@action("test.urgent", priority=9)
def urgent() -> None:
    """Comes before others."""
    note("urgent")


@resource("test.abandoned", fresh=60, on_abandon="cancel", time_limit=60)
def abandoned(name: Name, seconds: Seconds = 1.0, *, progress: Progress) -> str:
    """Is given up when nobody wants it."""
    note(f"abandoned {name}")
    steps = max(1, round(seconds * 5))
    for step in range(steps):
        progress(step, steps)
        time.sleep(seconds / steps)
    return name


@action("test.deaf", retries=0, time_limit=60)
def deaf(name: Name, seconds: Seconds = 1.0) -> None:
    """Takes its time, and asks nobody."""
    note(f"deaf {name}")
    time.sleep(seconds)
    note(f"done {name}")


@action("test.haul", time_limit=60)
def haul(name: Name, seconds: Seconds = 1.0, *, progress: Progress) -> None:
    """Takes its time, says how far it is, and notes which process does it."""
    note(f"haul {name} {os.getpid()}")
    for step in range(20):
        progress(step, 20, f"load {step}")
        time.sleep(seconds / 20)


@action("test.fickle", retries=0)
def fickle(name: Name) -> None:
    """Raises the first time it is run for a name."""
    note(f"fickle {name}")
    if (_home() / "ledger").read_text().split("\n").count(f"fickle {name}") < 2:
        raise ValueError("not in the mood")


def _deadly_in_a_worker(params: Any) -> tuple[str, ...]:
    """Tags that can be told anywhere but where the value is computed."""
    if os.environ.get("MILLPOND_ROLE") == "worker":
        note(f"deadly {params.name}")
        os._exit(3)
    return ()


@resource("test.unclaimable", retries=0, tags=_deadly_in_a_worker, error_ttl=60)
def unclaimable(name: Name) -> str:
    """Nobody gets here: its process dies before it has the job."""
    return name


# Everybody may do everything.
log("open.*", access="public", publish=True, history=20, presence=True, join_leave=True)
# Hardly anything is kept.
log("small.*", access="public", publish=True, history=2)
# Nothing is kept.
log("brief.*", access="public", publish=True, history=0)
# Not for the public; and one may read who may not publish.
log("members.*", access="login", publish=lambda principal, topic: principal.username != "reader", presence=True)
# For whom a permission of Django lets in.
log("permitted.*", access="auth.view_group")
