"""Who has lost what, told to all web processes at once: an end by force, a logout, rights that have changed.

Invariants: an order goes out after the commit of what it is about, so that whoever reads anew because of it reads the
new; what the store did not take is lost for a while only, because every process also looks by itself in turn
(`consumers.control`).  Only a kick cannot be found out that way: it is kept for a while, and its caller is told when
it could not be.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from django.db import transaction

from asgi_app import wiring
from asgi_app.wiring import Node
from cache_layer.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds a kick is kept for processes that could not hear it, and how many are.
KICK_KEPT = 120.0
_KICKS_MOST = 10_000
#: Seconds a thread waits for an order to be sent.
_WITHIN = 3.0


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the processes are told.  One of these."""

    #: End all connections of this user, for good.
    kick: str = ""
    #: The rights of these users have changed.
    users: tuple[str, ...] = ()
    #: Digest of a session that is over.
    session: str = ""
    #: The rights of nobody knows how many users have changed.
    everyone: bool = False


_DECODER = msgspec.json.Decoder(Order)


def decode(message: bytes) -> Order | None:
    """An order as it comes over the feed; None for what is none."""
    try:
        return _DECODER.decode(message)
    except msgspec.MsgspecError:
        return None


async def akick(user: Any) -> None:
    """End every websocket and stream of a user (or of a user's id), in all processes, within a moment.

    Clients do not come back by themselves; whoever connects anew is judged as anybody.  To keep somebody out, take the
    rights first: `is_active`.  Raises StoreUnavailable, and nobody knows whether it has happened.
    """
    user_id = str(getattr(user, "pk", user))
    await wiring.acall(lambda node: _kick(node, user_id))


def kick(user: Any) -> None:
    """See `akick`."""
    user_id = str(getattr(user, "pk", user))
    wiring.call(lambda node: _kick(node, user_id), _WITHIN)


def tell_after_commit(order: Order, using: str | None = None) -> None:
    """Tell all processes once the transaction of database `using` has committed; at once where there is none."""
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        transaction.on_commit(lambda: _tell(order), using=using, robust=True)
    else:
        _tell(order)


async def kicked_lately(node: Node) -> list[tuple[str, float]]:
    """The users that were kicked, each with the seconds since.  Raises StoreUnavailable."""
    now = await node.store.milliseconds()
    found = await node.store.command(
        "ZRANGEBYSCORE", node.store.names.kicks(), now - int(KICK_KEPT * 1000), "+inf", "WITHSCORES"
    )
    # In pairs with RESP3, flat with RESP2.
    pairs = found if found and isinstance(found[0], list) else list(zip(found[::2], found[1::2], strict=True))
    return [(user_id.decode(), (now - float(at)) / 1000) for user_id, at in pairs]


async def _kick(node: Node, user_id: str) -> None:
    names = node.store.names
    now = await node.store.milliseconds()
    await node.store.transaction(
        ("ZADD", names.kicks(), now, user_id),
        ("ZREMRANGEBYSCORE", names.kicks(), "-inf", now - int(KICK_KEPT * 1000)),
        ("ZREMRANGEBYRANK", names.kicks(), 0, -1 - _KICKS_MOST),
        ("PEXPIRE", names.kicks(), int(KICK_KEPT * 1000)),
        ("PUBLISH", names.control_channel(), msgspec.json.encode(Order(kick=user_id))),
    )


async def _publish(node: Node, order: Order) -> None:
    await node.store.command("PUBLISH", node.store.names.control_channel(), msgspec.json.encode(order))


def _tell(order: Order) -> None:
    """From a thread it waits, so that a command which ends right after has told; on the loop nothing may."""
    try:
        if wiring.on_loop():
            wiring.submit(lambda node: _logged(node, order))
        else:
            wiring.call(lambda node: _logged(node, order), _WITHIN)
    except (TimeoutError, RuntimeError) as error:
        log.warning("a change of rights takes effect later: %s", error or type(error).__name__)


async def _logged(node: Node, order: Order) -> None:
    try:
        await _publish(node, order)
    except StoreUnavailable as error:
        log.warning("a change of rights takes effect later: %s", error)
