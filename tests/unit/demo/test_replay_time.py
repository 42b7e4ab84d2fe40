"""The arithmetic of the replay: time goes on, bounded, and every part of it comes from the archive once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from asgi_app.demo.models import REPLAY_START
from asgi_app.demo.replay import CYCLE, LONGEST_STEP, advance, spans

ARCHIVE = datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)
moments = st.timedeltas(timedelta(), timedelta(days=3000)).map(lambda passed: REPLAY_START + passed)
steps = st.timedeltas(timedelta(), timedelta(days=800))


def test_time_goes_on_at_the_speed() -> None:
    """Two seconds at 600 are twenty minutes."""
    assert advance(REPLAY_START, 600, timedelta(seconds=2)) == REPLAY_START + timedelta(minutes=20)


@given(moments, st.integers(0, 36_000), st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_time_never_goes_back_and_never_jumps(now: datetime, speed: int, elapsed: timedelta) -> None:
    """Neither a real clock that was set back nor a long pause does that."""
    assert now <= advance(now, speed, elapsed) <= now + LONGEST_STEP
    assert speed or advance(now, speed, elapsed) == now


@given(moments, steps)
def test_the_spans_of_a_step_cover_it_without_gap_or_overlap(start: datetime, step: timedelta) -> None:
    """Shifted back to the replay they are the step, in order."""
    at = start
    for span in spans(start, start + step):
        assert span.start + span.shift == at
        assert span.start < span.end
        at = span.end + span.shift
    assert at == start + step


@given(moments, steps)
def test_every_span_lies_in_the_archive_and_keeps_the_weekday(start: datetime, step: timedelta) -> None:
    """Shifted by whole weeks, from the last 364 days of 2013."""
    for span in spans(start, start + step):
        assert ARCHIVE[1] - CYCLE <= span.start < span.end <= ARCHIVE[1]
        assert span.shift % timedelta(weeks=1) == timedelta()
        assert span.shift % CYCLE == timedelta()


def test_the_year_begins_anew_on_its_52nd_week() -> None:
    """1 January 2014, a Wednesday, replays 2 January 2013, a Wednesday; after 31 December comes 2 January again."""
    day = timedelta(days=1)
    (first,) = spans(REPLAY_START, REPLAY_START + day)
    assert first.start == datetime(2013, 1, 2, tzinfo=UTC)
    assert first.start.weekday() == REPLAY_START.weekday()
    last, anew = spans(REPLAY_START + CYCLE - day, REPLAY_START + CYCLE + day)
    assert (last.end, anew.start) == (ARCHIVE[1], datetime(2013, 1, 2, tzinfo=UTC))
    assert anew.shift == 2 * CYCLE
