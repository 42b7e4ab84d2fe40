"""The Prefer header: what is understood, and that the rest is ignored."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.preferences import LONGEST_WAIT, Preferences, preferences, prefers_stream

quick = settings(max_examples=80, deadline=None)


@pytest.mark.parametrize(
    ("header", "wait", "respond_async"),
    [
        ("", None, False),
        ("wait=5", 5, False),
        ("respond-async", None, True),
        ("respond-async, wait=10", 10, True),
        ("WAIT=3,Respond-Async", 3, True),
        ('wait="7"', 7, False),
        (" wait = 4 ; now=1 ", 4, False),
        ("wait=2, wait=9", 2, False),
        ("wait=0", 0, False),
        ("wait=0000005", 5, False),
        ("wait=3600", LONGEST_WAIT, False),
        ("wait=" + "9" * 5000, LONGEST_WAIT, False),
        ("respond-async=maybe", None, True),
    ],
)
def test_a_preference_is_understood(header: str, wait: float | None, respond_async: bool) -> None:
    """In any case, quoted or not, with parameters; the first of two counts, and a wait is capped."""
    assert preferences({"Prefer": header}) == Preferences(wait, respond_async)


@pytest.mark.parametrize(
    "header",
    ["wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", "wait=١", "wait=1e3", "handling=lenient", ",;=,", "="],
)
def test_what_is_not_understood_is_ignored(header: str) -> None:
    """A bad or unknown preference is as if it were not there, and hides none behind it."""
    assert preferences({"Prefer": header}) == Preferences()
    assert preferences({"Prefer": f"{header}, wait=6"}) == Preferences(wait=6)


def test_without_the_header_nothing_is_preferred() -> None:
    """Most requests say nothing."""
    assert preferences({}) == Preferences()


@quick
@given(st.text())
def test_no_header_raises(header: str) -> None:
    """Whatever a client writes, the wait stays in its bounds."""
    found = preferences({"Prefer": header})
    assert found.wait is None or 0 <= found.wait <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("asked", "seconds", "applied"),
    [
        (Preferences(), 2.5, ""),
        (Preferences(wait=7), 7, "wait=7"),
        (Preferences(respond_async=True), 0, "respond-async"),
        (Preferences(wait=7, respond_async=True), 7, "respond-async, wait=7"),
        (Preferences(wait=0), 0, "wait=0"),
    ],
)
def test_a_request_is_held_as_it_prefers(asked: Preferences, seconds: float, applied: str) -> None:
    """As long as it asked for, not at all if it asked for that, else for the service's own time; and it is told so."""
    assert asked.seconds(2.5) == seconds
    assert asked.applied == applied


@pytest.mark.parametrize(
    ("accept", "stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; q=0.5", True),
        ("application/json, text/event-stream", True),
        ("application/json;q=0.9, text/event-stream", True),
        ("application/json, text/event-stream;q=0.5", False),
        ("text/event-stream;q=0, application/json", False),
        ("text/event-stream;q=many", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_a_stream_is_sent_to_who_prefers_one(accept: str, stream: bool) -> None:
    """The weights of the Accept header decide between the value and its stream."""
    assert prefers_stream(accept) is stream
