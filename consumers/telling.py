"""One pass over those who follow a topic: what is new goes to each of them by the shortest way there is.

Invariant: past its holder a subscription is told only what the holder would write at once and as it is: the one event
it has not been told, with nothing waiting before it, neither here nor in the socket.  Whatever is not as usual is the
holder's.
"""

from __future__ import annotations

from collections.abc import Iterable

from consumers.channel import Subscription
from consumers.line import Line
from consumers.rendering import framed


def tell(line: Line, some: Iterable[Subscription]) -> None:
    """Tell some who follow it, or did a moment ago, what they have not been told; never waits, raises nothing.

    A delivery touches the subscription, its port and the transport, and nothing else of the connection: with thousands
    of them it is the caches' misses that cost.
    """
    news = line.newest()
    position = news.position if news is not None else None
    if news is None or position is None:
        for subscription in some:
            _by_holder(line, subscription)
        return
    count, before, epoch, offset = line.count, line.count - 1, position.epoch, position.offset
    name, frame = "", b""
    for subscription in some:
        port, sent = subscription.port, subscription.sent
        if (
            port is None
            or not port.idle
            or subscription.heard != before
            or subscription.epoch != epoch
            or subscription.delta
            or (sent is not None and sent.offset == offset)
            or port.transport.get_write_buffer_size()
        ):
            _by_holder(line, subscription)
            continue
        if subscription.name is not name:
            name = subscription.name
            frame = news.form(framed, name)
        subscription.heard, subscription.sent = count, position
        try:
            port.transport.write(frame)
        except Exception:  # the holder comes upon it in its turn, and ends the connection
            subscription.heard, subscription.sent = before, sent
            _by_holder(line, subscription)


def _by_holder(line: Line, subscription: Subscription) -> None:
    if subscription in line.subscriptions:
        subscription.holder.touch(subscription)
