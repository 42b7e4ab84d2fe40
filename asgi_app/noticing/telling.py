"""Telling whoever follows an inbox what was committed to it.

Invariant: nothing is told before its transaction was committed.  What is lost on the way, or with a process that dies
right after the commit, is found by every subscriber that compares positions: the database is the record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import transaction

from asgi_app.errors import Unavailable
from asgi_app.noticing import entries
from asgi_app.noticing.tables import Notification
from cache_layer.errors import StoreUnavailable
from cache_layer.publication import Logged

if TYPE_CHECKING:
    from asgi_app.wiring import Node

log = logging.getLogger(__name__)

#: Seconds a commit waits for the store, so that a process that ends right after it has told what it wrote.
_PATIENCE = 1.0


def tell_after_commit(user_id: str, epoch: str, row: Notification) -> None:
    """Tell a notification once the current transaction is committed; at once where there is none."""
    message = entries.logged(row).message(epoch)
    _after_commit(lambda: _tell(user_id, message))


def tell_read_after_commit(user_id: str, data: bytes) -> None:
    """Tell all connections of a user what was read elsewhere (JSON)."""
    message = Logged(0, data, b"", b'{"kind":"read"}').message()
    _after_commit(lambda: _tell(user_id, message))


def _after_commit(work: Callable[[], None]) -> None:
    transaction.on_commit(work, using=entries.database(), robust=True)


def _tell(user_id: str, message: bytes) -> None:
    from asgi_app import wiring  # which holds what writes to the ledger, which tells of it here

    async def announce(node: Node) -> None:
        with suppress(StoreUnavailable):
            await node.history.announce(node.store.names.inbox_channel(user_id), message)

    with suppress(FutureTimeout, Unavailable):
        future = wiring.submit(announce)
        if not wiring.on_loop():
            future.result(_PATIENCE)
