"""A log line: one per event, whatever the event contains."""

import logging
import logging.config
import re
import sys

import pytest

from asgi_app.logs import LineFormatter, configuration, is_unexpected


def record(message: str, *arguments: object, failed: bool = False) -> logging.LogRecord:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        raised = sys.exc_info() if failed else None
    return logging.LogRecord("asgi_app.jobs", logging.WARNING, __file__, 1, message, arguments, raised)


def test_a_line_says_when_how_serious_who_and_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """In UTC, with the role of the process, so that the lines of all parts can be sorted together."""
    monkeypatch.setenv("MILLPOND_ROLE", "worker")
    line = LineFormatter().format(record("job %s failed", 7))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING worker asgi_app\.jobs job 7 failed", line)


def test_nobody_can_forge_a_line() -> None:
    """Line breaks inside a message are escaped."""
    line = LineFormatter().format(record("no user %s", "x\r\n2026-01-01T00:00:00.000Z INFO web all is well"))
    assert "\n" not in line
    assert "\r" not in line
    assert r"no user x\r\n2026-01-01" in line


def test_a_traceback_stays_on_the_line_of_its_event() -> None:
    """`grep` finds the whole of it."""
    line = LineFormatter().format(record("failed", failed=True))
    assert "\n" not in line
    assert "failed | Traceback (most recent call last): | File" in line
    assert "ValueError: two | lines" in line


def test_an_answer_given_on_purpose_is_no_event() -> None:
    """Django reports every 503; only what was raised belongs into the log."""
    assert is_unexpected(record("Internal Server Error", failed=True))
    assert not is_unexpected(record("Service Unavailable"))


@pytest.mark.parametrize(
    ("level", "message", "arguments", "said"),
    [
        (logging.INFO, '%s - "WebSocket %s" [accepted]', ("1.2.3.4:5", "/connection/websocket?x=secret"), False),
        (logging.INFO, '%s - "WebSocket %s" 403', ("1.2.3.4:5", "/elsewhere"), False),
        (logging.INFO, "connection open", (), False),
        (logging.INFO, "connection closed", (), False),
        (logging.INFO, "connection rejected (%d %s)", (403, "Forbidden"), False),
        (logging.INFO, "Started server process [%d]", (7,), True),
        (logging.ERROR, "connection handler failed", (), True),
    ],
)
def test_strangers_do_not_write_the_log_by_connecting(
    level: int, message: str, arguments: tuple[object, ...], said: bool
) -> None:
    """What uvicorn says of each websocket is left out; what it says of itself stays."""
    (name,) = configuration()["loggers"]["uvicorn.error"]["filters"]
    found = configuration()["filters"][name]
    judge = logging.config.DictConfigurator({}).configure_filter(found)
    event = logging.LogRecord("uvicorn.error", level, __file__, 1, message, arguments, None)
    assert bool(judge.filter(event)) is said
