"""Plain Celery tasks, as an application has them that used Celery before."""

from __future__ import annotations

from celery import shared_task

from tests.support.plain.resources import note


@shared_task
def add(x: int, y: int) -> int:
    """The sum."""
    return x + y


@shared_task
def total(numbers: list[int]) -> int:
    """The sum of many."""
    return sum(numbers)


@shared_task
def write(line: str) -> None:
    """Leaves a trace."""
    note(line)


@shared_task(queue="letters")
def posted(line: str) -> None:
    """Has a queue of its own, which nobody has declared."""
    note(line)
