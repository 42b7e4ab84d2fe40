"""The options of a declaration, checked when it is declared: each check gives a reason, or nothing."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from asgi_app.declaring.bounds import Unsuitable
from asgi_app.declaring.crontab import BadCrontab, normal_crontab
from cache_layer.history import LONGEST

#: A month in seconds: the longest freshness, and the longest time between two runs.
MONTH = 30 * 86400.0
DAY = 86400.0
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
PERMISSION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z0-9_.-]{1,100}")
#: Characters of a name of a resource or action, and of a tag.
MAX_NAME, MAX_TAG = 200, 255
#: Name of a number -> least and greatest allowed value, unit.
RANGES: dict[str, tuple[float, float, str]] = {
    "fresh": (0, MONTH, "seconds"),
    "stale": (0, MONTH, "seconds"),
    "stale_if_error": (0, MONTH, "seconds"),
    "error_ttl": (0, 3600, "seconds"),
    "negative_ttl": (0, MONTH, "seconds"),
    "soft_timeout": (0, DAY, "seconds"),
    "time_limit": (0.1, DAY, "seconds"),
    "priority": (0, 9, "whole number, 9 the most urgent"),
    "retries": (0, 100, "whole number"),
    "schedule": (0.5, MONTH, "seconds"),
    "expires": (1, MONTH, "seconds"),
    "lateness": (0, MONTH, "seconds"),
    "history": (0, LONGEST, "whole number"),
    "ttl": (1, MONTH, "seconds"),
}
_WHOLE = frozenset({"priority", "retries", "history"})
#: What becomes of firings that were missed: nothing, the newest is made up for, or all are.
CATCH_UPS = ("skip", "last", "all")
#: Seconds after which a missed firing is not made up for any more.
LATENESS = 3600.0


def valid_tag(tag: Any) -> bool:
    """Whether `tag` can name a tag: 1 to 255 printable characters without a space at either end."""
    return isinstance(tag, str) and 0 < len(tag) <= MAX_TAG and tag.isprintable() and tag.strip() == tag


def name_reasons(name: Any) -> Iterator[str]:
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > MAX_NAME:
        yield (
            "the name must be words of a-z, 0-9 and _ that begin with a letter, joined by dots, "
            f"e.g. 'sales.daily', at most {MAX_NAME} characters"
        )


def number_reasons(**numbers: Any) -> Iterator[str]:
    for name, value in numbers.items():
        low, high, unit = RANGES[name]
        kinds = int if name in _WHOLE else int | float
        if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:
            yield f"{name} must be {_plain(low)} to {_plain(high)} ({unit}), not {value!r}"


def _plain(number: float) -> str:
    """A bound as a person writes it: no exponent, no needless fraction."""
    return str(int(number)) if number == int(number) else str(number)


def choice_reasons(option: str, value: Any, allowed: tuple[str, ...]) -> Iterator[str]:
    if value not in allowed:
        yield f"{option} must be {' or '.join(map(repr, allowed))}, not {value!r}"


def flag_reasons(option: str, value: Any) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{option} must be True or False, not {value!r}"


def exceptions_reasons(**lists: Any) -> Iterator[str]:
    for option, classes in lists.items():
        if not isinstance(classes, tuple | list | set | frozenset) or not all(
            isinstance(found, type) and issubclass(found, Exception) for found in classes
        ):
            yield f"{option} must be a tuple of exception classes such as (ConnectionError,), not {classes!r}"


def queue_reasons(queue: Any) -> Iterator[str]:
    if not isinstance(queue, str) or not QUEUE.fullmatch(queue):
        yield f"queue must be letters, digits, '_', '.' and '-', at most 100, not {queue!r}"


def access_reasons(access: Any) -> Iterator[str]:
    if callable(access):
        yield from _call_reasons("access", access, "principal, params")
    elif not isinstance(access, str) or (access not in ("public", "login") and not PERMISSION.fullmatch(access)):
        yield (
            "access must be 'public', 'login', a Django permission such as 'sales.view_sale', "
            f"or a function (principal, params) -> bool, not {access!r}"
        )


def tags_reasons(tags: Any) -> Iterator[str]:
    if callable(tags):
        yield from _plain_reasons("tags", tags, "params")
    elif not isinstance(tags, tuple | list | set | frozenset):
        yield f"tags must be a tuple such as ('sales',), or a function (params) -> names, not {tags!r}"
    else:
        for tag in tags:
            if not valid_tag(tag):
                yield f"{tag!r} is no tag: 1 to {MAX_TAG} printable characters without a space at either end"


def vary_reasons(vary: Any) -> Iterator[str]:
    if callable(vary):
        yield from _plain_reasons("vary", vary, "principal")
    elif vary is not None and vary != "user":
        yield f"vary must be None, 'user' or a function (principal) -> str, not {vary!r}"


def alert_reasons(rule: Any, to: Any) -> Iterator[str]:
    if rule is not None and not callable(rule):
        yield f"alert_when must be a function (value) -> bool, a text or None, not {rule!r}"
    elif rule is not None:
        yield from _plain_reasons("alert_when", rule, "value")
    if rule is None and not (isinstance(to, str) and to == "staff"):
        yield "alert_to says who is told what alert_when finds, and there is none"
    elif callable(to):
        yield from _plain_reasons("alert_to", to, "params")
    elif isinstance(to, tuple):
        if not to or not all(isinstance(name, str) and name for name in to):
            yield f"alert_to must name users, such as ('ann', 'bob'), not {to!r}"
    elif to != "staff" and not (isinstance(to, str) and PERMISSION.fullmatch(to)):
        yield (
            "alert_to must be 'staff', a Django permission such as 'sales.view_sale', a tuple of usernames, "
            f"or a function (params) -> users, not {to!r}"
        )


def refresh_of(refresh: Any) -> str:
    """`refresh` as it is kept: a crontab line in its normal form.  Raises `Unsuitable`."""
    if refresh in ("lazy", "watched"):
        return str(refresh)
    if isinstance(refresh, str) and len(refresh.split()) > 1:
        return _crontab("refresh", refresh)
    raise Unsuitable(f"refresh must be 'lazy', 'watched' or a five-field crontab line, not {refresh!r}")


def schedule_of(schedule: Any) -> str | float | None:
    """`schedule` as it is kept: a crontab line in its normal form, seconds, or None.  Raises `Unsuitable`."""
    if schedule is None:
        return None
    if isinstance(schedule, str):
        return _crontab("schedule", schedule)
    for reason in number_reasons(schedule=schedule):
        raise Unsuitable(f"{reason}; or a five-field crontab line")
    return float(schedule)


def timezone_reasons(timezone: Any, by_crontab: bool) -> Iterator[str]:
    """`by_crontab`: there is a crontab line, which alone is read by a clock on the wall."""
    if not isinstance(timezone, str) or timezone not in _zones():
        close = difflib.get_close_matches(str(timezone), _zones(), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        yield f"timezone must be an IANA name such as 'Europe/Berlin', not {timezone!r}{hint}"
    elif timezone != "UTC" and not by_crontab:
        yield "timezone says where a crontab line is read, and there is none"


@cache
def _zones() -> frozenset[str]:
    # "localtime" is another zone on each machine
    return frozenset(available_timezones() - {"localtime"})


def _crontab(option: str, line: str) -> str:
    try:
        return normal_crontab(line)
    except BadCrontab as error:
        raise Unsuitable(f"{option}: {error}") from error


def _plain_reasons(option: str, function: Callable[..., Any], arguments: str) -> Iterator[str]:
    """Keys and tags are made on the hot path, where nothing awaits them."""
    if inspect.iscoroutinefunction(function):
        yield f"{option} must be a plain function ({arguments}), not an async def"
    yield from _call_reasons(option, function, arguments)


def _call_reasons(option: str, function: Callable[..., Any], arguments: str) -> Iterator[str]:
    try:
        inspect.signature(function).bind(*arguments.split(", "))
    except TypeError:
        yield f"{option} must be a function that takes ({arguments})"
    except ValueError:  # written in C, with a signature nobody can read
        return
