"""One pass over those who follow a topic: what is new goes to each of them by the shortest way there is.

Invariant: past its holder a subscription is told only what the holder would write at once and what is the same for
all: everything it has not been told yet, with nothing waiting before it, neither here nor in the socket.  Whatever is
not as usual is the holder's.
"""

from __future__ import annotations

from collections.abc import Iterable

from cache_layer.position import Position
from consumers.channel import Subscription
from consumers.line import Line
from consumers.rendering import framed


def tell(line: Line, some: Iterable[Subscription]) -> None:
    """Tell some who follow it, or did a moment ago, what they have not been told; never waits, raises nothing.

    A delivery touches the subscription, its port and the transport, and nothing else of the connection: with thousands
    of them it is the caches' misses that cost.
    """
    heard, name = None, ""
    told: tuple[bytes, Position] | None = None
    count = line.count
    for subscription in some:
        port = subscription.port
        if port is None or not port.idle or subscription.delta or port.transport.get_write_buffer_size():
            _by_holder(line, subscription)
            continue
        before, sent = subscription.heard, subscription.sent
        if before == count:
            continue
        if before != heard or subscription.name is not name:
            heard, name = before, subscription.name
            told = _told(line, heard, name)
        if told is None or subscription.epoch != told[1].epoch or (sent is not None and sent.offset == told[1].offset):
            _by_holder(line, subscription)
            continue
        subscription.heard, subscription.sent = count, told[1]
        try:
            port.transport.write(told[0])
        except Exception:  # the holder comes upon it in its turn, and ends the connection
            subscription.heard, subscription.sent = before, sent
            _by_holder(line, subscription)


def _told(line: Line, heard: int, name: str) -> tuple[bytes, Position] | None:
    """What is written to all who have heard so far, and where they stand then; None: only their holders know."""
    news = line.after(heard)
    position = news[-1].position if news else None
    if not news or position is None:
        return None
    if len(news) == 1:
        return news[0].form(framed, name), position
    return b"".join([one.form(framed, name) for one in news]), position


def _by_holder(line: Line, subscription: Subscription) -> None:
    if subscription in line.subscriptions:
        subscription.holder.touch(subscription)
