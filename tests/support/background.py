"""Tasks of Django's that the tests enqueue (Django 6)."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Any

from django.tasks import TaskContext, task

from tests.support.app.resources import note


@task
def add(a: Any, b: Any = 1) -> Any:
    return a + b


@task
async def add_async(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


@task
def fails(message: str) -> None:
    raise ValueError(message)


@task
async def fails_async(message: str) -> None:
    raise ValueError(message)


@task
def exits() -> None:
    raise SystemExit("it thinks it may")


@task
def returns_a_date() -> Any:
    return datetime(2020, 1, 1, tzinfo=UTC)


@task
def noted(name: str) -> None:
    note(f"noted {name}")


@task(takes_context=True)
def who(context: TaskContext[Any, Any], name: str) -> dict[str, Any]:
    """What a task is told about itself."""
    result = context.task_result
    return {"id": result.id, "attempt": context.attempt, "status": result.status, "args": result.args, "name": name}


@task(takes_context=True)
async def who_async(context: TaskContext[Any, Any], name: str) -> dict[str, Any]:
    return {"id": context.task_result.id, "attempt": context.attempt, "name": name}


@task(takes_context=True)
def second_time_lucky(context: TaskContext[Any, Any]) -> str:
    if context.attempt == 1:
        raise ValueError("not yet")
    return "well"


@task(takes_context=True)
def dies_once(context: TaskContext[Any, Any]) -> int:
    """Its process is killed in the middle of the first attempt."""
    note(f"dies {os.getpid()}")
    if context.attempt == 1:
        time.sleep(60)
    return context.attempt


@task
def sleeps() -> None:
    time.sleep(60)


def plain(a: int) -> int:
    """No task."""
    note("plain")
    return a


#: A task under another name than its function's.
hidden = task(plain)
