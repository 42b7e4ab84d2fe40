"""Rows of a statement that writes, taken before its transaction ends.

SQLite refuses to commit while a statement with RETURNING still has rows to give; other drivers hold them already.

Invariant: whoever asked for the statement gets the same rows, and the cursor's next statement its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.db.backends.utils import CursorWrapper


def fetch_before_commit(cursor: CursorWrapper, done: Any) -> Any:
    """Let the transaction of the statement just run end; what `execute()` returns for it, instead of `done`."""
    if cursor.db.vendor != "sqlite" or cursor.cursor.description is None:
        return done
    cursor.cursor = _Fetched(cursor)
    return cursor.cursor


class _Fetched:
    """A cursor whose rows are here already; for anything but fetching, the cursor itself."""

    def __init__(self, wrapper: CursorWrapper) -> None:
        self._wrapper = wrapper
        self._cursor = wrapper.cursor
        self._rows: Iterator[Any] = iter(self._cursor.fetchall())

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        size = self._cursor.arraysize if size is None else size
        return list(islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def execute(self, *statement: Any) -> Any:
        """The next statement: its rows come from the cursor again."""
        self._wrapper.cursor = self._cursor
        return self._cursor.execute(*statement)

    def executemany(self, *statement: Any) -> Any:
        """As `execute`."""
        self._wrapper.cursor = self._cursor
        return self._cursor.executemany(*statement)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
