"""Which SQL statements change a table somebody watches?  Pure text: no database, no Django.

Invariant: a statement that begins with a word for writing and names a watched table is seen, however it is quoted or
spelt.  One that only mentions the table beside the one it changes is seen as well: that costs a computation, the
opposite would keep an old value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What changes rows, wherever in a statement it stands: after `WITH`, after another statement.
_WRITES = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE|MERGE|TRUNCATE)\b", re.IGNORECASE)
#: The first word of a statement, behind blanks, comments and parentheses.
_FIRST_WORD = re.compile(r"(?:[\s(]+|--[^\n]*|/\*.*?\*/)*(\w*)", re.DOTALL)
#: `db_table` may name a schema too, as in `app"."orders`.
_QUOTES = re.compile(r'["`\[\].]+')


class Tables:
    """The tables that are watched, and the tags their changes outdate.  Filled while modules are imported."""

    def __init__(self) -> None:
        self._watched: dict[str, tuple[re.Pattern[str], frozenset[str]]] = {}

    def watch(self, tables: Iterable[str], tags: Iterable[str]) -> None:
        """Let changes of the tables outdate the tags; what was asked for before stays."""
        for table in tables:
            name = _QUOTES.split(table.strip('"`[]'))[-1].lower()
            _, before = self._watched.get(name, (None, frozenset()))
            pattern = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])")
            # A new dict: other threads may be reading this one.
            self._watched = {**self._watched, name: (pattern, before | frozenset(tags))}

    def outdated_by(self, sql: str) -> frozenset[str]:
        """The tags of the watched tables the statement may change; empty for one that reads."""
        watched = self._watched
        if not watched or not _may_write(sql):
            return frozenset()
        text, found = sql.lower(), frozenset[str]()
        for name, (pattern, tags) in watched.items():
            if name in text and pattern.search(text):  # `in` is the quick answer for a statement of a megabyte
                found |= tags
        return found


def _may_write(sql: str) -> bool:
    """Whether the statement is anything but one that reads: a glance for what Django's own queries look like."""
    if ";" not in sql:  # a second statement may follow the first
        if sql.startswith("SELECT "):
            return False
        first = _FIRST_WORD.match(sql)
        if first is not None and first[1].upper() == "SELECT":
            return False
    return _WRITES.search(sql) is not None
