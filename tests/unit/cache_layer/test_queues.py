"""What scripts of the queues are told, and what they say, as Python sees it."""

from __future__ import annotations

import msgspec
import pytest

from cache_layer.keys import Names
from cache_layer.queues import HELD_TTL, LEASE, Held, Limits, Lost, Ticket, Watch, read_watch, seconds, watching
from cache_layer.records import held, job_epoch

HELD = Held(kind="action", fence=3, pid=7, queue="default", priority=5, lane="ann", deadline=1_700_000_000_000)


@pytest.mark.parametrize(("lane", "limit"), [("ann", 4), ("", 0), ("*", 0)])
def test_only_users_have_a_limit(lane: str, limit: int) -> None:
    """The public is many, and the service bounds itself."""
    assert Limits(queue=10, waiting=4).of_lane(lane) == limit
    assert Limits(queue=10).of_lane(lane) == 0


@pytest.mark.parametrize(("ms", "wait"), [(0, None), (1500, 1.5)])
def test_a_wait_of_nothing_is_not_known(ms: int, wait: float | None) -> None:
    """Scripts say 0 for what nobody knows."""
    assert seconds(ms) == wait


def test_what_a_worker_watches() -> None:
    """A lease and a sign of life in each role; none when it leaves."""
    names = Names("ns")
    keys, args = watching(names, "w", "host:1", ["worker", "worker:a"], life=7.0, leaves=False)
    assert keys == [names.lives(), names.held("w"), names.cancels(), names.role("worker"), names.role("worker:a")]
    assert args == ["w", LEASE * 1000, "host:1", 7000, HELD_TTL]
    _, args = watching(names, "w", "host:1", [], life=7.0, leaves=True)
    assert args[1] == 0


def test_what_a_worker_sees() -> None:
    """The clock of the store, what is held, and since when its end has been asked for."""
    raw = [17, b"a", msgspec.json.encode(HELD), b"", b"b", msgspec.json.encode(HELD), b"12"]
    assert read_watch(raw) == Watch(now=17, held={"a": (HELD, None), "b": (HELD, 12)})
    assert read_watch([17]) == Watch(now=17, held={})


def test_a_loss_is_what_was_held_and_why() -> None:
    """As Lua writes it: the fields in any order."""
    told = {**msgspec.to_builtins(HELD), "worker": "w", "reason": "died"}
    lost = msgspec.json.decode(msgspec.json.encode(dict(reversed(told.items()))), type=Lost)
    assert (lost.reason, lost.worker, lost.fence, lost.lane) == ("died", "w", 3, "ann")


def test_what_is_taken_is_not_claimed_yet() -> None:
    """Number 0, and no deadline."""
    taken = held(Ticket(job_id="j", kind="computation", queue="q", priority=9, lane=""), pid=7)
    assert (taken.kind, taken.fence, taken.deadline, taken.queue, taken.priority) == ("computation", 0, 0, "q", 9)


def test_the_epoch_of_a_job_follows_from_its_id() -> None:
    """Every process says the same, with or without the record."""
    assert job_epoch("019a0000-0000-7000-8000-0000deadbeef") == "deadbeef"
