"""What is to happen when: the plans that declarations and the entries of the admin make.

Invariant: a plan can be fired: what it names is declared, and its parameters, times and zone are right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asgi_app.declaring import options
from asgi_app.declaring.bounds import Unsuitable
from asgi_app.errors import BadParameters, shortened
from asgi_app.registry import Action, Registry, Resource, registry
from asgi_app.scheduling.rules import Rule, cron, every

if TYPE_CHECKING:
    from asgi_app.models import ScheduleEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Something that happens at times."""

    #: Names it among all plans, and with a due time the job of a firing.
    key: str
    what: Action | Resource
    params: Any
    #: The times in words: of two plans with the same ones each fires when the other does.
    times: str
    rule: Rule = field(compare=False)
    catch_up: str
    #: Seconds after which a missed firing is not made up for.
    lateness: float
    #: Unix seconds before which nothing can have been missed; None: since it was first seen.
    since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How far a plan has got: everything due until `until` (unix seconds) by these times was fired or forgotten."""

    times: str
    until: float


class Unplannable(Exception):
    """An entry cannot be fired; `reasons` has one text for each field that is wrong."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons = reasons


def declared(of: Registry) -> Iterator[Plan]:
    """What the declarations of a registry say."""
    for action in of.actions.values():
        if action.schedule is not None:
            times = action.schedule, action.timezone
            yield _plan(f"action:{action.name}", action, *times, action.catch_up, action.lateness)
    for resource in of.resources.values():
        if resource.refresh not in ("lazy", "watched"):
            yield _plan(f"resource:{resource.name}", resource, resource.refresh, resource.timezone)


def plan_of(entry: ScheduleEntry) -> Plan:
    """The plan of an entry.  Raises `Unplannable`."""
    reasons: dict[str, str] = {}
    what = _found(entry, reasons)
    params = None if what is None else _parsed(what, entry.params, reasons)
    schedule = _schedule(entry, reasons)
    for name, found in (
        ("timezone", options.timezone_reasons(entry.timezone, entry.crontab != "")),
        ("catch_up", options.choice_reasons("this", entry.catch_up, options.CATCH_UPS)),
        ("lateness", options.number_reasons(lateness=entry.lateness)),
    ):
        reasons.update((name, reason) for reason in found)
    if reasons or what is None or schedule is None:
        raise Unplannable(reasons)
    return Plan(
        key=f"entry:{entry.pk}",
        what=what,
        params=params,
        times=_times(schedule, entry.timezone),
        rule=_rule(schedule, entry.timezone),
        catch_up=entry.catch_up,
        lateness=entry.lateness,
        since=None if entry.changed_at is None else entry.changed_at.timestamp(),
    )


def _plan(
    key: str,
    what: Action | Resource,
    schedule: str | float,
    timezone: str,
    catch_up: str = "last",
    lateness: float = options.LATENESS,
) -> Plan:
    return Plan(
        key=key,
        what=what,
        params=what.parse({}, text=False),
        times=_times(schedule, timezone),
        rule=_rule(schedule, timezone),
        catch_up=catch_up,
        lateness=lateness,
    )


def _times(schedule: str | float, timezone: str) -> str:
    return f"{schedule} {timezone}" if isinstance(schedule, str) else f"{schedule} s"


def _rule(schedule: str | float, timezone: str) -> Rule:
    return cron(schedule, timezone) if isinstance(schedule, str) else every(schedule)


def _found(entry: ScheduleEntry, reasons: dict[str, str]) -> Action | Resource | None:
    known: Mapping[str, Action | Resource] = registry.actions if entry.kind == "action" else registry.resources
    if entry.kind not in ("action", "resource"):
        reasons["kind"] = "this must be an action or a resource"
    elif entry.what not in known:
        close = difflib.get_close_matches(entry.what, known, 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        reasons["what"] = f"no {entry.kind} '{shortened(entry.what, 100)}' is declared{hint}"
    return known.get(entry.what)


def _parsed(what: Action | Resource, params: Any, reasons: dict[str, str]) -> Any:
    if not isinstance(params, dict):
        reasons["params"] = 'this must be a JSON object such as {"days": 7}'
        return None
    try:
        return what.parse(params, text=False)
    except BadParameters as error:
        reasons["params"] = error.detail
        return None


def _schedule(entry: ScheduleEntry, reasons: dict[str, str]) -> str | float | None:
    if (entry.crontab != "") is (entry.seconds is not None):
        reasons["crontab"] = "give either a crontab line or seconds"
        return None
    try:
        return options.schedule_of(entry.crontab or entry.seconds)
    except Unsuitable as error:
        reasons["crontab" if entry.crontab else "seconds"] = str(error)
        return None
