"""The topic of an inbox, `inbox#<user id>`: everything its owner is notified of, in order, from the database.

Invariant: it exists for its owner only.  What all inboxes of a process ask for is asked of the database together.
"""

from __future__ import annotations

import asyncio
from typing import Literal
from weakref import WeakKeyDictionary

from asgi_app import wiring
from asgi_app.declaring.log_topics import LogRules
from asgi_app.errors import Denied, Unauthenticated, Unavailable
from asgi_app.notices import reader
from asgi_app.noticing import entries
from asgi_app.noticing.entries import Standing
from asgi_app.noticing.keeping import KEPT, KEPT_SECONDS
from asgi_app.registry import Principal
from asgi_app.rows import in_database
from asgi_app.together import Together
from cache_layer.errors import StoreUnavailable
from cache_layer.history import LONGEST, LogPage
from cache_layer.outdated import Outdated
from cache_layer.publication import Publication, parse_log

PREFIX = "inbox#"
#: Positions read in one query.
_TOGETHER = 500
#: Seconds a read may take.
_WITHIN = 2.0

_RULES = LogRules(
    pattern=PREFIX + "*",
    access="login",
    publish=False,
    history=KEPT,
    ttl=KEPT_SECONDS,
    presence=False,
    join_leave=False,
)


async def open_inbox(text: str, principal: Principal, *, trusted: bool = False) -> InboxSource:
    """Raises Denied unless `text` names the inbox of `principal`, whoever else has allowed it."""
    user_id = text.removeprefix(PREFIX)
    _check(user_id, principal)
    return InboxSource(user_id, principal)


def _check(user_id: str, principal: Principal) -> None:
    try:
        mine = reader(principal) == user_id
    except Unauthenticated as error:
        raise Denied(error.detail) from None
    if not mine:
        raise Denied("this is somebody else's inbox")


class InboxSource:
    """See `topics.Log`."""

    kind: Literal["log"] = "log"
    watched = False
    rules = _RULES
    #: Whoever writes a notification may die before it is told; and many are looked at in one query.
    looks = (6.0, 10.0)

    def __init__(self, user_id: str, principal: Principal) -> None:
        self._user_id, self._principal = user_id, principal
        self.key = self.topic = PREFIX + user_id
        self.channel = wiring.node().store.names.inbox_channel(user_id)

    async def allowed(self) -> None:
        _check(self._user_id, self._principal)

    def outdated_by(self, outdated: Outdated) -> bool:
        return False

    def parse(self, message: bytes) -> Publication | None:
        return parse_log(message)

    async def read_log(self, after: int | None, limit: int, before: int | None = None) -> LogPage:
        try:
            async with asyncio.timeout(_WITHIN):
                where = await _asked_together().of(self._user_id)
                if limit <= 0 or where.top <= (after or 0):
                    return LogPage(epoch=where.epoch, top=where.top, publications=())
                limit = min(limit, LONGEST)
                return await in_database(entries.page, where, after=after, before=before, limit=limit)
        except (Unavailable, TimeoutError) as error:
            raise StoreUnavailable("the database does not answer") from error


async def _standings(user_ids: list[str]) -> list[Standing]:
    found = await in_database(entries.standing, list(set(user_ids)), within=_WITHIN)
    return [found[user_id] for user_id in user_ids]


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Together[str, Standing]] = WeakKeyDictionary()


def _asked_together() -> Together[str, Standing]:
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = Together(_standings, _TOGETHER)
    return _of_loop[loop]
