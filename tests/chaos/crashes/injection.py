"""Where workers die: the product's own steps, wrapped from outside, in the worker processes alone.

`arm` is called by the declarations of this package, which every process loads; in a worker's it wraps the steps of a
job's life.  An order to die is a file; whoever comes to its step first takes it by renaming it, writes down who dies
at what, and dies by SIGKILL as the kernel would have it: nothing of Python runs any more.
Invariant: an order is obeyed at most once, and what is killed is written down before.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

Step = Literal["popped", "taken", "claimed", "begun", "ending", "ended", "leaving"]
Victim = Literal["child", "worker", "group"]
#: What each step is, in the order of a job's life.
STEPS: dict[Step, str] = {
    "popped": "after the pop of the broker's message",
    "taken": "after the take",
    "claimed": "after the claim",
    "begun": "in the function",
    "ending": "before the commit",
    "ended": "after the commit (atomic: in the transaction)",
    "leaving": "after the commit of an action, still held",
}
VICTIMS = get_args(Victim)
#: All that can be ordered: messages are popped by the parent, whose death is the worker's.
PAIRS: tuple[tuple[Step, Victim], ...] = tuple(
    (step, victim) for step in STEPS for victim in VICTIMS if (step, victim) != ("popped", "child")
)


class Orders:
    """Orders to die, in a directory that the workers see."""

    def __init__(self, home: Path) -> None:
        self._open, self._obeyed, self._kills = home / "orders", home / "obeyed", home / "kills"
        self._given = 0

    def give(self, step: Step, victim: Victim) -> str:
        """Somebody shall die; the name of the order."""
        self._open.mkdir(exist_ok=True)
        self._obeyed.mkdir(exist_ok=True)
        self._given += 1
        name = f"{self._given:04}.{step}.{victim}"
        (self._open / name).touch()
        return name

    def open(self) -> int:
        """How many have not been obeyed."""
        return len(list(self._open.iterdir())) if self._open.exists() else 0

    def kills(self) -> list[dict[str, Any]]:
        """Who died, in the order of the deaths."""
        return read_lines(self._kills)

    def obey(self, step: Step, *, job: str = "", name: str = "") -> None:
        """Die, if that is ordered at this step."""
        if not self._open.exists():
            return
        for order in sorted(self._open.glob(f"*.{step}.*")):
            try:
                order.rename(self._obeyed / order.name)
            except OSError:
                continue  # somebody else's
            self._die(order.name, job, name)

    def _die(self, order: str, job: str, name: str) -> None:
        from tasks.identity import worker_name

        _, step, victim = order.split(".")
        parent = os.getpid() if step == "popped" else os.getppid()
        written = {"order": order, "step": step, "victim": victim, "job": job, "name": name}
        write_line(self._kills, {**written, "pid": os.getpid(), "worker": worker_name(), "at": time.time()})
        if victim == "child":
            os.kill(os.getpid(), signal.SIGKILL)
        elif victim == "worker":
            os.kill(parent, signal.SIGKILL)  # its children are tied to it
        elif os.getpgid(parent) == parent:  # as `millpond up` and the load start them
            os.killpg(parent, signal.SIGKILL)
        time.sleep(60)


def orders() -> Orders:
    """Those of the service this process belongs to."""
    return Orders(Path(os.environ["MILLPOND_HOME"]))


def write_line(file: Path, line: dict[str, Any]) -> None:
    """Append in one write: of lines by several processes none is torn."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """What was written."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def arm() -> None:
    """Wrap the steps of a job's life in this process, if it is a worker's."""
    if os.environ.get("MILLPOND_ROLE") != "worker":
        return
    from kombu.transport.redis import Transport

    from asgi_app import ledger
    from cache_layer.cache import Cache
    from cache_layer.queues import Queues
    from cache_layer.records import Records

    _wrap_pop(Transport)
    _wrap_coroutine(Queues, "take", after="taken", job=lambda args, named, ticket: ticket and ticket.job_id)
    _wrap_coroutine(
        Records, "claim", after="claimed", job=lambda args, named, claim: claim.what == "claimed" and args[0].job_id
    )
    _wrap_coroutine(
        Cache,
        "commit",
        before=("ending", lambda args, named: named["job_id"]),
        after="ended",
        job=lambda args, named, committed: named["job_id"],
    )
    _wrap_coroutine(Queues, "release", before=("leaving", lambda args, named: named["over"] and args[0].job_id))
    _wrap_ledger(ledger)


def _wrap_pop(transport: Any) -> None:
    """Between the pop and the note that the message is not acknowledged yet."""
    deliver = transport._deliver

    @functools.wraps(deliver)
    def wrapped(self: Any, message: Any, queue: str) -> Any:
        headers = message.get("headers") or {}
        if headers.get("task") == "millpond.run":
            orders().obey("popped", job=headers["id"])
        return deliver(self, message, queue)

    transport._deliver = wrapped


def _wrap_coroutine(
    owner: Any,
    method: str,
    *,
    before: tuple[Step, Callable[[Any, Any], Any]] | None = None,
    after: Step | None = None,
    job: Callable[[Any, Any, Any], Any] = lambda args, named, result: "",
) -> None:
    original = getattr(owner, method)

    @functools.wraps(original)
    async def wrapped(self: Any, *args: Any, **named: Any) -> Any:
        if before is not None and (job_id := before[1](args, named)):
            orders().obey(before[0], job=job_id)
        result = await original(self, *args, **named)
        if after is not None and (job_id := job(args, named, result)):
            orders().obey(after, job=job_id)
        return result

    setattr(owner, method, wrapped)


def _wrap_ledger(ledger: Any) -> None:
    claim, end = ledger.claim, ledger.end

    @functools.wraps(claim)
    def claimed(job_id: str, worker: str) -> Any:
        row = claim(job_id, worker)
        if row is not None:
            orders().obey("claimed", job=job_id)
        return row

    @functools.wraps(end)
    def ended(row: Any, *args: Any, **named: Any) -> Any:
        orders().obey("ending", job=str(row.id))
        ours = end(row, *args, **named)
        if ours:
            orders().obey("ended", job=str(row.id))
        return ours

    ledger.claim, ledger.end = claimed, ended
