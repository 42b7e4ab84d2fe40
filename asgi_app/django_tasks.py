"""A back end of `django.tasks` (Django 6): tasks of any Django code are jobs, on the queues and workers of actions.

    TASKS = {"default": {"BACKEND": "asgi_app.django_tasks.MillpondBackend"}}

Invariant: a task that was enqueued in a transaction runs when and only when that was committed; and `aenqueue` blocks
no thread that other code waits for.  This module exists for Django 6 only; nothing else imports it without looking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.tasks import TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import TaskResult
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
from django.tasks.signals import task_enqueued
from django.utils.module_loading import import_string

from asgi_app.declaring import options
from asgi_app.env import env
from asgi_app.errors import MillpondError, Misdeclared
from asgi_app.registry import Principal, registry

if TYPE_CHECKING:
    from asgi_app.django_task_jobs import AnyResult, AnyTask, Call, DjangoTask
    from asgi_app.models import Job

_OPTIONS = ("retries", "time_limit")


class MillpondBackend(BaseTaskBackend):
    """`QUEUES`: what tasks may name, and workers attend; `OPTIONS`: `retries` (0) and `time_limit` (600 s)."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def validate_task(self, task: AnyTask) -> None:
        """Raises InvalidTask."""
        super().validate_task(task)
        for reason in options.queue_reasons(task.queue_name):
            raise InvalidTask(reason)

    def enqueue(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Write the task down in the caller's transaction; it waits for its turn after the commit.

        Raises InvalidTask, TypeError for arguments that are not JSON, and Unavailable when the queue is full.
        """
        from asgi_app import wiring

        action, call = self._order(task, args, kwargs)
        job_id = wiring.here(
            lambda node, loop: node.submitter.action_here(action, call, Principal.public(), loop, due=task.run_after)
        )
        return _enqueued(self._new(task, call, job_id))

    async def aenqueue(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """As `enqueue`, at once: a coroutine is in no transaction.  Also raises Unavailable when the database is."""
        from asgi_app import wiring
        from asgi_app.rows import in_database

        action, call = self._order(task, args, kwargs)
        job_id = await wiring.acall(
            lambda node: node.submitter.action(action, call, Principal.public(), trusted=True, due=task.run_after)
        )
        result = self._new(task, call, job_id)
        with suppress(MillpondError):  # it is written down, whatever comes now
            await in_database(_enqueued, result)
        return result

    def get_result(self, result_id: str) -> AnyResult:
        """Raises TaskResultDoesNotExist; TaskResultMismatch when its task is no longer declared."""
        from asgi_app import ledger

        return self._result(ledger.get(_job_id(result_id)), result_id)

    async def aget_result(self, result_id: str) -> AnyResult:
        """As `get_result`.  Also raises Unavailable when the database is."""
        from asgi_app import ledger
        from asgi_app.rows import in_database

        return self._result(await in_database(ledger.get, _job_id(result_id)), result_id)

    def check(self, **kwargs: Any) -> list[Any]:
        """What is wrong with this entry of TASKS."""
        reasons = [f"{name} is no option of OPTIONS" for name in self.options if name not in _OPTIONS]
        reasons += options.number_reasons(**{name: self.options[name] for name in _OPTIONS if name in self.options})
        reasons += [reason for queue in sorted(map(str, self.queues)) for reason in options.queue_reasons(queue)]
        if not apps.is_installed("asgi_app"):
            reasons.append("its jobs need the tables of asgi_app: add 'asgi_app' to INSTALLED_APPS")
        found: list[Any] = [checks.Error(f"TASKS['{self.alias}']: {each}", id="millpond.E001") for each in reasons]
        if not self.queues:
            hint = "Name them, or start workers with --queues."
            found.append(checks.Warning(f"TASKS['{self.alias}'] allows any queue", hint=hint, id="millpond.W001"))
        return found

    def _order(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[DjangoTask, Call]:
        """What is written down.  Checked here, where whoever enqueues can see it, and not in the worker."""
        from asgi_app.django_task_jobs import Call, DjangoTask, as_json, task_at

        self.validate_task(task)
        try:
            if task_at(task.module_path).func is not task.func:
                raise InvalidTask(f"{task.module_path} is another task")
        except Misdeclared as error:
            raise InvalidTask(error.detail) from error
        call = Call.of(
            task,
            [as_json(f"argument {number} of {task.name}", value) for number, value in enumerate(args, 1)],
            {name: as_json(f"argument '{name}' of {task.name}", value) for name, value in kwargs.items()},
        )
        action = DjangoTask.of(task)
        if len(action.name) > options.MAX_NAME:
            raise InvalidTask(f"the path of {task.name} is too long: {len(action.name)} characters")
        if (size := len(str(call))) > env().max_body:
            raise ValueError(f"the arguments of {task.name} have {size:,} characters; see MILLPOND_MAX_BODY")
        return action, call

    def _new(self, task: AnyTask, call: Call, job_id: str) -> AnyResult:
        return TaskResult(
            task=task,
            id=job_id,
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=call.args,
            kwargs=call.kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )

    def _result(self, row: Job | None, result_id: str) -> AnyResult:
        from asgi_app.django_task_jobs import PREFIX, result_of

        if row is None or not row.name.startswith(f"{PREFIX}:"):
            raise TaskResultDoesNotExist(result_id)
        try:
            found = result_of(row)
        except Misdeclared as error:
            raise TaskResultMismatch(error.detail) from error
        if found.backend != self.alias:
            raise TaskResultDoesNotExist(result_id)
        return found


def declare() -> None:
    """Let this process run the tasks of every entry of TASKS that is ours, and its workers attend their queues."""
    from asgi_app.django_task_jobs import PREFIX, read_job

    for entry in settings.TASKS.values():
        try:
            cls = import_string(entry["BACKEND"])
        except (ImportError, KeyError):  # Django's to complain about
            continue
        if issubclass(cls, MillpondBackend):
            registry.inner[PREFIX] = read_job
            registry.inner_queues |= set(entry.get("QUEUES", ("default",)))


def _enqueued(result: AnyResult) -> AnyResult:
    """Tell Django's signal, in a thread with a database connection; by whose clock it has been enqueued."""
    from asgi_app import ledger
    from asgi_app.django_task_jobs import tell

    row = ledger.get(result.id)
    if row is not None:
        object.__setattr__(result, "enqueued_at", row.created_at)  # as Django's own back ends do
    tell(task_enqueued, result)
    return result


def _job_id(result_id: Any) -> str:
    from asgi_app.jobs import is_job_id

    if not isinstance(result_id, str) or not is_job_id(result_id):
        raise TaskResultDoesNotExist(result_id)
    return result_id
