"""A task of Django's (`django.tasks`, Django 6) as a job: what its row says, what a worker runs, what became of it.

Such a job is named `django:` and the path of its task.  No user can ask for it: a declared name has no colon.
Invariant: a row can only name a function that was declared with `@task`; anything else it names is refused, so that
whoever can write a row cannot choose what is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from traceback import format_exception
from typing import Any, TypeAlias

import msgspec
from django.conf import settings
from django.db import Error as DatabaseFailure
from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus, task_backends
from django.tasks.base import TaskError
from django.tasks.exceptions import InvalidTask, InvalidTaskBackend
from django.tasks.signals import task_finished, task_started
from django.utils.json import normalize_json
from django.utils.module_loading import import_string

from asgi_app import ledger
from asgi_app.declaring.declared import Action
from asgi_app.declaring.parameters import Parameters
from asgi_app.declaring.signature import Principal, Progress, Signature
from asgi_app.errors import MillpondError, Misdeclared, from_problem
from asgi_app.models import Job
from asgi_app.rows import in_database
from cache_layer.cache import HISTORY

PREFIX = "django"
#: What TASKS says in OPTIONS otherwise.  A task of Django's expects no other attempt because it has raised.
TIME_LIMIT, RETRIES = 600.0, 0
#: Characters of a traceback that are kept, the last ones.
_TRACEBACK = 16_000

AnyTask: TypeAlias = "Task[..., Any]"
AnyResult: TypeAlias = "TaskResult[..., Any]"

_STATUS = {
    "queued": TaskResultStatus.READY,
    "retrying": TaskResultStatus.READY,
    "running": TaskResultStatus.RUNNING,
    "succeeded": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
    "dead": TaskResultStatus.FAILED,
    "expired": TaskResultStatus.FAILED,
}


class TaskCancelled(Exception):
    """Somebody ended the job of the task."""


class TaskExpired(Exception):
    """The job of the task waited longer than it might."""


class WorkerDied(Exception):
    """The worker died at each attempt at the task."""


_ENDS: dict[str, type[Exception]] = {"cancelled": TaskCancelled, "dead": WorkerDied, "expired": TaskExpired}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the job."""

    args: list[Any]
    kwargs: dict[str, Any]
    #: Alias in TASKS.
    backend: str
    queue: str
    #: Django's, -100 to 100.
    priority: int
    #: ISO 8601.
    run_after: str | None

    @classmethod
    def of(cls, task: AnyTask, args: list[Any], kwargs: dict[str, Any]) -> Call:
        after = None if task.run_after is None else task.run_after.isoformat()
        return cls(
            args=args,
            kwargs=kwargs,
            backend=task.backend,
            queue=task.queue_name,
            priority=task.priority,
            run_after=after,
        )


@dataclass(slots=True)
class Run:
    """The attempt that is being made."""

    row: Job | None = None
    #: What this and earlier attempts have raised: attempt, class, traceback.
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class DjangoTask(Action):
    """The action of one job.  Its `result` in the database is `{"value", "errors"}`."""

    task: AnyTask
    run: Run = field(default_factory=Run)

    @classmethod
    def of(cls, task: AnyTask) -> DjangoTask:
        """Raises InvalidTaskBackend."""
        options = task_backends[task.backend].options
        return cls(
            name=f"{PREFIX}:{task.module_path}",
            function=task.func,
            signature=Signature(Parameters(()), None, None),
            queue=task.queue_name,
            priority=band(task.priority),
            time_limit=options.get("time_limit", TIME_LIMIT),
            retries=options.get("retries", RETRIES),
            access=lambda principal, params: False,
            schedule=None,
            task=task,
        )

    def dump(self, params: Any) -> dict[str, Any]:
        return msgspec.structs.asdict(params)

    def begins(self, row: Job) -> None:
        self.run.row, self.run.errors = row, _told(row).get("errors", [])

    def call(self, params: Any, progress: Progress, principal: Principal) -> Any:
        return self._call_async(params) if self.is_async else self._call(params)

    def remains(self) -> bytes:
        return json.dumps({"errors": self.run.errors[-HISTORY:]}).encode()

    def ended(self) -> None:
        """Tell Django's signal; of what ends without a worker (cancelled while it waits, dead) it does not hear."""
        with suppress(DatabaseFailure, MillpondError):
            row = ledger.get(str(self._row.id))
            if row is not None and row.status in ledger.TERMINAL:
                tell(task_finished, result_of(row))

    def _call(self, call: Call) -> Any:
        result = result_of(self._row)
        tell(task_started, result)
        with self._noting():
            return self._answer(self.function(*self._context(result), *call.args, **call.kwargs))

    async def _call_async(self, call: Call) -> Any:
        result = result_of(self._row)
        with suppress(MillpondError):  # a receiver that takes too long
            await in_database(tell, task_started, result)
        with self._noting():
            return self._answer(await self.function(*self._context(result), *call.args, **call.kwargs))

    @property
    def _row(self) -> Job:
        assert self.run.row is not None
        return self.run.row

    def _context(self, result: AnyResult) -> tuple[Any, ...]:
        return (TaskContext(task_result=result),) if self.task.takes_context else ()

    def _answer(self, value: Any) -> dict[str, Any]:
        return {"value": as_json("what it returned", value), "errors": self.run.errors[-HISTORY:]}

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as raised:
            self.run.errors.append(
                {"attempt": self._row.fence, "class": _path(type(raised)), "traceback": _traceback(raised)}
            )
            raise


def band(priority: int) -> int:
    """Django's -100 to 100 as 0 to 9, in equal steps; its default 0 is our default 5."""
    return min(9, (priority + 100) // 20)


def as_json(what: str, value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, bytes as text.  Raises TypeError that says what it is not."""
    try:
        plain = normalize_json(value)
        if json.loads(json.dumps(plain, allow_nan=False)) != plain:
            raise TypeError("a key of an object is no text")
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{what} is not JSON: {error}") from error
    return plain


def task_at(path: str) -> AnyTask:
    """The task declared at that path.  Raises Misdeclared when there is none, whatever else there is."""
    try:
        found = import_string(path)
    except Exception as error:  # code of the user's
        raise Misdeclared(f"there is no task {path}: {type(error).__name__}") from error
    if not isinstance(found, Task) or found.module_path != path:
        raise Misdeclared(f"{path} is no task: it was not declared with @task")
    return found


def read_job(fields: Mapping[str, str]) -> tuple[DjangoTask, Call]:
    """What `Registry.of_job` asks for: from the fields of a record, the task as it was enqueued, and with what.

    Raises Misdeclared when the task is not here, or not as it was.
    """
    task = task_at(fields["name"].partition(":")[2])
    try:
        call = msgspec.convert(json.loads(fields["params"]), Call)
        after = None if call.run_after is None else datetime.fromisoformat(call.run_after)
        enqueued = replace(task, priority=call.priority, queue_name=call.queue, run_after=after, backend=call.backend)
        return DjangoTask.of(enqueued), call
    except (ValueError, InvalidTask, InvalidTaskBackend) as error:
        raise Misdeclared(f"{task.module_path} cannot be run as it was enqueued: {error}") from error


def result_of(row: Job) -> AnyResult:
    """How far the task is, as Django tells it.  Raises Misdeclared as `read_job`."""
    action, call = read_job(row.fields())
    told, history = _told(row), json.loads(row.history)
    result = TaskResult(
        task=action.task,
        id=str(row.id),
        status=_STATUS[row.status],
        enqueued_at=row.created_at,
        started_at=_moment(history[0]["started_at"]) if history and row.fence > 1 else row.started_at,
        last_attempted_at=row.started_at,
        finished_at=row.finished_at,
        args=call.args,
        kwargs=call.kwargs,
        backend=call.backend,
        errors=_errors(row, told),
        worker_ids=_workers(row, history),
    )
    if result.status == TaskResultStatus.SUCCESSFUL:
        object.__setattr__(result, "_return_value", told["value"])  # as Django's own back ends do
    return result


def tell(signal: Any, result: AnyResult) -> None:
    """Send a signal of Django's; what a receiver raises is logged."""
    signal.send_robust(type(task_backends[result.backend]), task_result=result)


def _told(row: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row.result or "{}")
    return found


def _errors(row: Job, told: dict[str, Any]) -> list[TaskError]:
    """What its attempts have raised; and if it did not end by that, what it did end by."""
    noted = told.get("errors", [])
    errors = [TaskError(exception_class_path=each["class"], traceback=each["traceback"]) for each in noted]
    if _STATUS[row.status] == TaskResultStatus.FAILED and not any(each["attempt"] == row.fence for each in noted):
        problem = from_problem(json.loads(row.error)) if row.error else MillpondError()
        ended_by = _ENDS.get(row.status, type(problem))
        detail = problem.detail if row.status == "failed" else ended_by.__doc__
        path = _path(ended_by)
        errors.append(TaskError(exception_class_path=path, traceback=f"{path}: {detail}\n"))
    return errors


def _workers(row: Job, history: list[dict[str, Any]]) -> list[str]:
    """One for each attempt; of the first ones of very many it is forgotten."""
    known = [str(attempt["worker"]) for attempt in history] + ([row.worker] if row.status == "running" else [])
    return [""] * (row.fence - len(known)) + known


def _path(cls: type[BaseException]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _traceback(raised: BaseException) -> str:
    """Without the frames of this module."""
    inner = raised.__traceback__
    while inner is not None and inner.tb_frame.f_code.co_filename == __file__:
        inner = inner.tb_next
    return "".join(format_exception(type(raised), raised, inner))[-_TRACEBACK:]


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC if settings.USE_TZ else None)
