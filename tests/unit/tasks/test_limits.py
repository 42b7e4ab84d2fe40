"""The time limit strikes the function, and nothing after it."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tasks.limits import TimeLimitReached, time_limit


def test_a_function_that_runs_too_long_is_interrupted() -> None:
    """The exception comes up inside the function, also out of a sleep."""
    with pytest.raises(TimeLimitReached), time_limit(0.01):
        time.sleep(30)


def test_nothing_is_raised_after_the_function() -> None:
    """An alarm that is delivered late hits nobody, and the process's own handler is back."""
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60):
        strike = signal.getsignal(signal.SIGALRM)
    assert callable(strike)
    strike(signal.SIGALRM, None)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_in_another_thread_there_is_no_limit() -> None:
    """Signals reach the main thread only, so a thread's function simply runs."""
    done: list[bool] = []

    def work() -> None:
        with time_limit(0.001):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert done == [True]
