"""The books notice every kind of broken promise; otherwise a good run would mean nothing."""

from tests.chaos.books import Books


def books() -> Books:
    made = Books(["ash"])
    made.written["ash"] = 9
    return made


def test_what_is_right_is_not_blamed() -> None:
    """Newest or not older than the invalidation that had returned; watchers may skip and repeat."""
    kept = books()
    kept.read("ash", "9", 9, "reader")
    kept.read("ash", "8", 7, "reader")
    kept.watched("ash", ["1", "3", "3", "9"], "watcher")
    assert not kept.wrong


def test_an_old_answer_is_blamed() -> None:
    """Older than an invalidation that had returned before it was asked for."""
    kept = books()
    kept.read("ash", "7", 8, "reader")
    assert list(kept.wrong) == ["reader: ash was answered 7, after the invalidation of 8 had returned"]


def test_a_step_back_is_blamed() -> None:
    """A watcher that was told an older value after a newer one."""
    kept = books()
    kept.watched("ash", ["3", "2"], "watcher")
    assert list(kept.wrong) == ["watcher: ash went back from 3 to 2"]


def test_what_nobody_wrote_is_blamed() -> None:
    """Half a file, another type, a number from the future."""
    kept = books()
    kept.read("ash", "", 1, "reader")
    kept.read("ash", None, 1, "reader")
    kept.watched("ash", ["1", "10"], "watcher")
    assert len(kept.wrong) == 3


def test_a_lost_job_is_blamed_unless_its_store_is_gone() -> None:
    """404 for a job that was answered 202 is right only after the store was lost."""
    kept = books()
    kept.accepted("one")
    kept.stores += 1
    kept.accepted("two")
    kept.job("one", None)
    assert not kept.wrong
    kept.job("two", None)
    assert list(kept.wrong) == ["job two was answered 202 and is gone, though its store is there"]


def test_a_job_stays_open_until_it_is_over() -> None:
    """Only a terminal status closes it."""
    kept = books()
    kept.accepted("one")
    kept.job("one", "running")
    assert list(kept.open_jobs) == ["one"]
    kept.job("one", "succeeded")
    assert not kept.open_jobs
