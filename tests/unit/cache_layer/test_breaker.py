"""The breaker: refuses at once while the store is away, and lets one through to look."""

from __future__ import annotations

from cache_layer.breaker import Breaker


def broken(at: float) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker()
    for _ in range(3):
        assert not breaker.open(at)
        breaker.failed(at)
    return breaker


def test_a_few_failures_do_not_open_it() -> None:
    """One or two failures in a row refuse nobody."""
    breaker = Breaker()
    breaker.failed(1.0)
    breaker.failed(1.0)
    assert not breaker.open(1.0)
    assert not breaker.open(1.0)


def test_three_failures_in_a_row_open_it() -> None:
    """From the third failure on callers are refused until the pause is over."""
    breaker = broken(100.0)
    assert breaker.open(100.0)
    assert breaker.open(100.49)


def test_after_the_pause_one_caller_probes() -> None:
    """One is let through, the others are refused for another pause, then the next one is let through."""
    breaker = broken(100.0)
    assert [breaker.open(100.5) for _ in range(3)] == [False, True, True]
    assert breaker.open(100.99)
    assert [breaker.open(101.0) for _ in range(3)] == [False, True, True]


def test_a_probe_that_fails_starts_the_pause_again() -> None:
    """The pause runs from the failure, however long the probe took."""
    breaker = broken(100.0)
    assert not breaker.open(100.5)
    breaker.failed(101.3)
    assert breaker.open(101.79)
    assert not breaker.open(101.8)


def test_a_success_closes_it() -> None:
    """After an answer nobody is refused, and it takes as many failures as before to open it again."""
    breaker = broken(100.0)
    assert not breaker.open(100.5)
    breaker.succeeded()
    assert not any(breaker.open(100.5) for _ in range(3))
    breaker.failed(100.6)
    breaker.failed(100.6)
    assert not breaker.open(100.6)
    breaker.failed(100.6)
    assert breaker.open(100.6)


def test_failures_with_an_answer_between_do_not_add_up() -> None:
    """Only failures in a row count."""
    breaker = Breaker()
    for _ in range(10):
        breaker.failed(1.0)
        breaker.failed(1.0)
        breaker.succeeded()
    assert not breaker.open(1.0)
