"""A log as it stands in the registry: which topics it is about, who may follow and publish, what is kept.

Invariant: a pattern says nothing about topics that have a meaning of their own: jobs and inboxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from asgi_app.declaring import options
from asgi_app.declaring.declared import Access
from asgi_app.declaring.signature import Principal

#: Characters of a topic.
MAX_TOPIC = 255
#: What no pattern may claim, by how it begins.
RESERVED = ("job:", "inbox#")


@dataclass(frozen=True, kw_only=True)
class LogRules:
    """The rules of all topics that a pattern matches."""

    #: `*` stands for any characters, all others for themselves.
    pattern: str
    access: Access
    #: Who may publish from a client: nobody, everybody who may follow, or whom a rule allows.
    publish: Literal[False, True] | Access
    #: Publications kept; 0: none, and positions have no meaning.
    history: int
    #: Seconds they are kept after the last of them.
    ttl: float
    #: Clients may ask who is there.
    presence: bool
    #: Clients are told who comes and goes, without having asked.
    join_leave: bool

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile(".*".join(map(re.escape, self.pattern.split("*"))), re.DOTALL)

    def matches(self, topic: str) -> bool:
        return self._expression.fullmatch(topic) is not None


def _may_publish(principal: Principal, topic: Any) -> bool:
    return "publish" in principal.scopes


#: The log topics that are there without any declaration.
BUILT_IN = LogRules(
    pattern="log:*", access="public", publish=_may_publish, history=100, ttl=3600, presence=False, join_leave=False
)


def reasons(rules: LogRules) -> Iterator[str]:
    """What is wrong with a declaration."""
    pattern: Any = rules.pattern
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_TOPIC or not pattern.isprintable():
        yield f"the pattern must be 1 to {MAX_TOPIC} printable characters such as 'chat.*', not {pattern!r}"
    elif pattern.startswith(RESERVED):
        yield f"a topic that begins with {' or '.join(map(repr, RESERVED))} is no log"
    yield from options.access_reasons(rules.access)
    if not isinstance(rules.publish, bool):
        yield from (f"publish is False, True or a rule: {why}" for why in options.access_reasons(rules.publish))
    yield from options.number_reasons(history=rules.history, ttl=rules.ttl)
    yield from options.flag_reasons("presence", rules.presence)
    yield from options.flag_reasons("join_leave", rules.join_leave)
