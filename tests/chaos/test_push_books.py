"""The push harness's books notice every kind of broken promise; otherwise a good run would mean nothing."""

from __future__ import annotations

from tests.chaos.push.books import Record, audit, behind
from tests.chaos.push.sockets import frame_at, masked

PUBLISHED = {("e", offset): 10 * offset for offset in range(1, 10)}


def log(*offsets: int, start: int = 0) -> Record:
    """A client that was told these."""
    record = Record("log")
    record.begins("e", start)
    for offset in offsets:
        record.told(offset, 10 * offset)
    return record


def wrong(record: Record, *, losses: bool = False) -> list[str]:
    return audit({"ann": record}, PUBLISHED, losses=losses)


def test_what_is_right_is_not_blamed() -> None:
    """Everything in order, also over a recovery."""
    record = log(1, 2)
    record.recovered("e", 2)
    record.told(3, 30)
    assert not wrong(record)
    assert not behind({"ann": record}, ("e", 3))


def test_holes_and_repetitions_are_blamed() -> None:
    """Untold holes, the same twice, and a step back."""
    assert wrong(log(1, 3)) == ["ann: 3 after 1: an untold hole"]
    assert wrong(log(1, 2, 2)) == ["ann: 2 after 2"]
    assert wrong(log(2, 1, start=1)) == ["ann: 1 after 2"]
    assert (log(1, 3).gaps, log(1, 2, 2).duplicates) == (1, 1)


def test_a_recovery_that_is_none_is_blamed() -> None:
    """From somewhere else than the client stands, or in another epoch."""
    record = log(1, 2)
    record.recovered("e", 4)
    assert wrong(record) == ["ann: recovered from 4 instead of 2"]
    record = log(1)
    record.recovered("f", 1)
    assert "ann: recovered in epoch f from ('e', 1)" in wrong(record, losses=True)


def test_a_told_loss_counts_only_where_something_was_lost() -> None:
    """A client that is told to begin anew for nothing has to load everything again."""
    record = log(1)
    record.begins("f", 0)
    record.told(1, 99)
    assert wrong(record) == ["ann: was told 1 times that something is lost, and nothing was"]
    assert not wrong(record, losses=True)


def test_what_nobody_published_there_is_blamed() -> None:
    """By what the publisher knows, and by what others were told."""
    record = log()
    record.told(1, 7)
    assert wrong(record) == ["ann: at e:1 there was 10, and it was told 7"]
    others = {"ann": log(), "bob": log()}
    others["ann"].told(1, 7)
    others["bob"].told(1, 8)
    assert audit(others, {}, losses=False) == ["bob: at e:1 there was 7, and it was told 8"]


def test_who_stands_behind_is_named() -> None:
    """At the end everybody has everything."""
    assert behind({"ann": log(1, 2), "bob": log(1)}, ("e", 2)) == ["bob stands at ('e', 1), not at ('e', 2)"]


def test_values_may_skip_and_not_go_back() -> None:
    """The newest wins; an older content under a newer position is none."""
    record = Record("value")
    record.begins("e", 0)
    for offset, number in ((1, 1), (4, 5)):
        record.told(offset, number)
    assert not audit({"ann": record}, {}, losses=False)
    record.told(5, 3)
    assert audit({"ann": record}, {}, losses=False) == ["ann: went back to an older value"]


def test_frames() -> None:
    """Of every length, whole or not yet."""
    for size in (0, 125, 126, 65_535):
        sent = masked(1, b"x" * size)
        bare = bytes([sent[0], sent[1] & 0x7F]) + sent[2 : len(sent) - size - 4] + sent[len(sent) - size :]
        assert frame_at(bare, 0, len(bare)) == (1, len(bare) - size, len(bare))
        assert frame_at(bare[:-1], 0, len(bare) - 1) is None
    long = b"\x81\x7f" + (70_000).to_bytes(8, "big") + b"x" * 70_000
    assert frame_at(long, 0, len(long)) == (1, 10, len(long))
