"""A log topic as one principal sees it.

Invariant: it exists only for a principal who may follow the topic.
"""

from __future__ import annotations

from typing import Literal

from asgi_app import access, wiring
from asgi_app.declaring.declared import Access
from asgi_app.declaring.log_topics import MAX_TOPIC, LogRules
from asgi_app.errors import BadParameters, Denied, NotFound
from asgi_app.registry import Principal, registry
from cache_layer.history import LogPage
from cache_layer.outdated import Outdated
from cache_layer.publication import Publication, parse_log


class LogSource:
    """The topic of a log."""

    kind: Literal["log"] = "log"
    watched = False
    looks = (15.0, 25.0)

    def __init__(self, topic: str, rules: LogRules, principal: Principal, *, trusted: bool = False) -> None:
        self.topic, self.rules = topic, rules
        self.key = f"log {topic}"
        self.channel = wiring.node().store.names.log_channel(topic)
        self._principal, self._trusted = principal, trusted

    async def allowed(self) -> None:
        if not self._trusted:
            await check(self.topic, self.rules, self._principal)

    def outdated_by(self, outdated: Outdated) -> bool:
        return False

    def parse(self, message: bytes) -> Publication | None:
        return parse_log(message)

    async def read_log(self, after: int | None, limit: int, before: int | None = None) -> LogPage:
        rules = self.rules
        limit = min(limit, rules.history)
        return await wiring.node().history.read(self.topic, ttl=rules.ttl, after=after, before=before, limit=limit)


def rules_of(topic: str) -> LogRules:
    """Raises BadParameters for a text that cannot be a topic, NotFound when no log is declared for it."""
    if not 0 < len(topic) <= MAX_TOPIC or not topic.isprintable():
        raise BadParameters([{"name": "topic", "reason": f"1 to {MAX_TOPIC} printable characters"}])
    rules = registry.log(topic)
    if rules is None:
        raise NotFound("there is no such topic")
    return rules


async def open_log(topic: str, principal: Principal, *, trusted: bool = False) -> LogSource:
    """Raises NotFound, Denied, Unauthenticated, BadParameters."""
    rules = rules_of(topic)
    if not trusted:
        await check(topic, rules, principal)
    return LogSource(topic, rules, principal, trusted=trusted)


async def check(topic: str, rules: LogRules, principal: Principal) -> None:
    """Raises Unauthenticated or Denied unless the principal may follow the topic."""
    access.check_readable(principal)
    await _ask(topic, rules.access, principal)


async def check_publish(topic: str, rules: LogRules, principal: Principal, *, follows: bool = False) -> None:
    """Raises Unauthenticated or Denied unless the principal may publish on the topic from a client.

    `follows`: that it may follow the topic is known already.
    """
    if not follows:
        await check(topic, rules, principal)
    if rules.publish is False:
        raise Denied(f"nobody publishes on {topic} from a client")
    if rules.publish is not True:
        await _ask(topic, rules.publish, principal)


async def _ask(topic: str, rule: Access, principal: Principal) -> None:
    await access.check_outside(access.Guarded(name=topic, access=rule), principal, topic)
