"""How a log line looks: one line per event, whatever the event contains.

    2026-01-31T08:15:02.113Z INFO web asgi_app.jobs job 0192… finished in 1.2 s

Line breaks inside a message are escaped, so that nobody can forge a line through a name or a header; a traceback
follows on the same line, its lines joined by " | ".
"""

import logging
import os
import re
import time
from typing import Any


def role() -> str:
    """Which command this process runs: web, worker, scheduler, … (`MILLPOND_ROLE`, set by the commands themselves)."""
    return os.environ.get("MILLPOND_ROLE", "manage")


class LineFormatter(logging.Formatter):
    """Formats a record as one line that begins with time (UTC), level, role and logger."""

    converter = staticmethod(time.gmtime)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ %(levelname)s {role()} %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        lines = [line.strip() for line in super().format(record).splitlines()]
        return " | ".join(lines)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the library's name)
        record.message = record.message.strip().replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


def is_unexpected(record: logging.LogRecord) -> bool:
    """Whether something was raised.

    A 503 that was answered on purpose is no event of the log; the metrics count it.
    """
    return record.exc_info is not None


def is_no_handshake(record: logging.LogRecord) -> bool:
    """Whether a record of uvicorn is an event of the server.

    A line for each websocket that opens or closes would let strangers write the log; metrics count them.
    """
    return record.levelno > logging.INFO or not str(record.msg).startswith(_HANDSHAKES)


def without_tokens(record: logging.LogRecord) -> bool:
    """Blots out what the URL of an event stream says of its client: that is where its connection token is."""
    if isinstance(record.args, tuple):
        record.args = tuple(_CONNECT.sub(r"\1***", arg) if isinstance(arg, str) else arg for arg in record.args)
    return True


def keep_tokens_out() -> None:
    """For a server that logs each request, as uvicorn does unless told otherwise; may be called twice.

    It is no part of `configuration`, which would take the server's own handlers away.
    """
    logging.getLogger("uvicorn.access").addFilter(without_tokens)


_CONNECT = re.compile(r"(\bcf_connect=)[^&\s]*")
#: How uvicorn and the `websockets` library below it begin what they say of each connection.
_HANDSHAKES = ('%s - "WebSocket', "connection open", "connection closed", "connection rejected", "HTTP response sent")


def configuration() -> dict[str, Any]:
    """Django's LOGGING: everything from INFO on goes to stderr in that form."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "asgi_app.logs.LineFormatter"}},
        "filters": {
            "unexpected": {"()": "django.utils.log.CallbackFilter", "callback": is_unexpected},
            "no handshakes": {"()": "django.utils.log.CallbackFilter", "callback": is_no_handshake},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
        # Django's own loggers bring handlers that mail admins or print to the console; they are to go the common way.
        "loggers": {
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
            # a line for each 404 and 403 would let strangers write the log
            "django.request": {"level": "ERROR", "filters": ["unexpected"]},
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            "uvicorn.error": {"filters": ["no handshakes"]},
        },
    }
