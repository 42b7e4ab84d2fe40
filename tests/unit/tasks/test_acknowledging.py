"""Which messages are acknowledged before their jobs are over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.worker import state

from tasks.acknowledging import Acknowledging
from tasks.submit import TASK


class Kept:
    """A message in a worker's hands, as Celery's table of them has it."""

    def __init__(self, job_id: str, name: str = TASK) -> None:
        self.id, self.name, self.acknowledged = job_id, name, False

    def acknowledge(self) -> None:
        self.acknowledged = True


@pytest.fixture
def hands() -> Iterator[Any]:
    """What a worker has in them; empty again afterwards."""
    assert not state.reserved_requests
    yield state.reserved_requests
    state.reserved_requests.clear()


def test_what_is_there_at_two_looks_is_acknowledged(hands: Any) -> None:
    """A message that came meanwhile waits for the next look, and one that is gone is forgotten."""
    step = Acknowledging(object())
    long, short, later = Kept("long"), Kept("short"), Kept("later")
    hands.add(long)
    hands.add(short)
    step.look()
    assert not long.acknowledged
    hands.discard(short)
    hands.add(later)
    step.look()
    assert (long.acknowledged, short.acknowledged, later.acknowledged) == (True, False, False)
    step.look()
    assert later.acknowledged


def test_plain_tasks_are_acknowledged_as_they_say(hands: Any) -> None:
    """Whoever wants a message to come again when a worker dies is not told otherwise."""
    step, theirs = Acknowledging(object()), Kept("theirs", "mydash.tasks.resize")
    hands.add(theirs)
    for _ in range(3):
        step.look()
    assert not theirs.acknowledged
