"""The relay of what was committed and not carried out: invalidations and actions whose process died after the commit,
or found the store away.

Invariant: any number of relays may run; what was committed is forgotten only after it was carried out, and twice is
harmless.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import operator
import random
from collections.abc import Iterable, Iterator

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import Error

from asgi_app import backlog, ledger
from asgi_app.errors import MillpondError
from asgi_app.invalidating import outbox
from asgi_app.rows import in_database
from asgi_app.wiring import Node
from cache_layer.errors import StoreUnavailable
from cache_layer.outdated import Outdated

log = logging.getLogger(__name__)

#: Seconds between two rounds, jittered.
EVERY = 1.0
#: Seconds a row is left to the process that wrote it, which usually needs milliseconds.
AGE = 3.0
#: Rows that are carried out together.
BATCH = 500
#: Milliseconds a store is known to have the queues.
_REMEMBERED = 30 * 86_400_000


async def relay(node: Node, *, age: float = AGE) -> int:
    """One round over all databases; how many rows were carried out.  Raises StoreUnavailable: the rows stay."""
    done = 0
    for alias in settings.DATABASES:
        try:
            done += await _relay_from(alias, node, age)
        except Error as error:
            log.warning("the outbox of database '%s' was not read: %s", alias, error)
    return done


async def _relay_from(alias: str, node: Node, age: float) -> int:
    done = 0
    while rows := await database_sync_to_async(outbox.due)(alias, older_than=age, most=BATCH):
        for outdated in merged(row.outdated for row in rows):
            await node.cache.invalidate(outdated)
        await database_sync_to_async(outbox.remove)(alias, [row.id for row in rows])
        done += len(rows)
        if len(rows) < BATCH:
            break
    if done:
        log.warning("%d invalidations of database '%s' had been left undone", done, alias)
    return done


async def relay_actions(node: Node, *, age: float = AGE) -> int:
    """Put actions on their queues that are written down and on none; how many.

    A store that has lost its data has lost all queues: then those are put there again that were on them.  Raises
    StoreUnavailable, Unavailable.
    """
    known = node.store.names.queues("known")
    if await node.store.command("EXISTS", known) == 0:
        lost = await in_database(backlog.forget_rings)
        await node.store.command("SET", known, "1", "PX", _REMEMBERED)
        if lost:
            log.warning("the store has lost its queues: %d actions are put on them again", lost)
    found = await in_database(backlog.unrung, older_than=age, most=BATCH)
    put = [await node.submitter.put_on_queue(ledger.ticket(row), due=due) for row, due in found]
    return sum(put)


def merged(parts: Iterable[Outdated]) -> Iterator[Outdated]:
    """All hard ones as one, all soft ones as one."""
    parts = list(parts)
    for soft in (False, True):
        yield functools.reduce(operator.or_, (part for part in parts if part.soft is soft), Outdated())


async def keep_relaying(node: Node) -> None:
    """Rounds until cancelled."""
    while True:
        await asyncio.sleep(EVERY * random.uniform(0.5, 1.5))
        for work in (relay, relay_actions):
            try:
                await work(node)
            except (StoreUnavailable, MillpondError) as error:
                log.warning("the outbox waits: %s", error)
            except Exception:
                log.exception("the outbox was not relayed")
