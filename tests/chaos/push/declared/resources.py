"""What is followed while things break."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

from django.db.backends.signals import connection_created
from msgspec import Meta

from asgi_app import log, resource

Name = Annotated[str, Meta(max_length=40)]


@resource(
    "push.value",
    fresh=600,
    stale=600,
    tags=lambda params: (f"push.{params.name}",),
    refresh="watched",
    retries=5,
)
def value(name: Name) -> dict[str, Any]:
    """The number in a file, and as many bytes as it asks for."""
    number, size = (Path(os.environ["MILLPOND_HOME"]) / f"value-{name}").read_text().split()
    return {"n": int(number), "t": time.monotonic(), "pad": "x" * int(size)}


# All that a client can miss in ten seconds of a hundred publications.
log("push.long.*", access="public", history=1000, ttl=600)
log("push.short.*", access="public", history=20, ttl=600)
log("push.seen.*", access="public", history=20, ttl=600, presence=True)


def _count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    global _queries
    _queries += 1
    note = Path(os.environ["MILLPOND_HOME"]) / f"queries-{os.getpid()}"
    if not note.exists():
        note.touch()
    with note.open("r+b") as file:  # in one write: it is read meanwhile
        file.write(b"%12d" % _queries)
    return execute(sql, params, many, context)


def _watch_queries(connection: Any, **_: Any) -> None:
    if _count not in connection.execute_wrappers:  # it is the same object after it was closed
        connection.execute_wrappers.append(_count)


# How many queries each process makes of the database is read from a file.
_queries = 0
connection_created.connect(_watch_queries)
