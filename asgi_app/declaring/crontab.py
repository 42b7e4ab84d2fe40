"""Five-field crontab lines, checked when they are declared and not when they should first fire.

Pure, and stricter than any scheduler: what passes here, Celery's `crontab.from_string` understands the same way.
"""

from __future__ import annotations

import re
from itertools import chain

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: month for month, name in enumerate(_MONTH_NAMES, start=1)}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ITEM = re.compile(r"(?:\*|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?", re.ASCII)


class BadCrontab(ValueError):
    """The line is not a crontab line; the text is the reason."""


def normal_crontab(line: str) -> str:
    """The line in lower case with single spaces between its fields.  Raises `BadCrontab`."""
    fields = line.lower().split()
    if len(fields) != len(_FIELDS):
        raise BadCrontab(f"a crontab line has five fields (minute hour day month weekday), {line!r} has {len(fields)}")
    values = [_values(text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
    if not any(day <= _DAYS_IN_MONTH[month - 1] for day in values[2] for month in values[3]):
        raise BadCrontab(f"{line!r} never fires: no such month has such a day")
    return " ".join(fields)


def _values(text: str, what: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    return set(chain.from_iterable(_item(item, what, low, high, names) for item in text.split(",")))


def _item(item: str, what: str, low: int, high: int, names: dict[str, int]) -> range | list[int]:
    found = _ITEM.fullmatch(item)
    if found is None:
        raise BadCrontab(f"{item!r} is no {what}: write *, 5, 1-5, */10, 0-30/10 or a list of those with commas")
    first, last, step = found.groups()
    if step is not None and (int(step) == 0 or (first is not None and last is None)):
        raise BadCrontab(f"{item!r} is no {what}: a step stands after * or a range and is at least 1")
    start = low if first is None else _number(first, what, low, high, names)
    end = high if first is None else start if last is None else _number(last, what, low, high, names)
    days = range(start, end + 1) if start <= end else [*range(start, high + 1), *range(low, end + 1)]
    return days[:: int(step or 1)]


def _number(text: str, what: str, low: int, high: int, names: dict[str, int]) -> int:
    number = int(text) if text.isdigit() else names.get(text, -1)
    if not low <= number <= high:
        allowed = f"{low} to {high}" + (f" or {', '.join(names)}" if names else "")
        raise BadCrontab(f"{text!r} is no {what}: {allowed}")
    return number
