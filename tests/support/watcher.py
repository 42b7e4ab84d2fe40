"""A stock client (centrifuge-python) that writes down everything it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from centrifuge import (
    Client,
    ClientEventHandler,
    ConnectedContext,
    ConnectingContext,
    DisconnectedContext,
    PublicationContext,
    SubscribedContext,
    Subscription,
    SubscriptionErrorContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)


class Watcher(ClientEventHandler, SubscriptionEventHandler):  # type: ignore[misc]
    """`async with Watcher(url) as watcher: await watcher.watch("topic")`."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = Client(url, events=self, **options)
        self.connected: list[ConnectedContext] = []
        self.connecting: list[ConnectingContext] = []
        self.disconnected: list[DisconnectedContext] = []
        self.subscribed: list[SubscribedContext] = []
        self.unsubscribed: list[UnsubscribedContext] = []
        self.errors: list[SubscriptionErrorContext] = []
        #: (kind, data, offset): kind "value" or the kind of a signal.
        self.told: list[tuple[str, Any, int]] = []

    async def __aenter__(self) -> Watcher:
        await self.client.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Disconnect, and wait for the socket to be closed (the client itself does not)."""
        connection = self.client._conn
        await self.client.disconnect()
        if connection is not None:
            await connection.wait_closed()

    async def watch(self, topic: str) -> Subscription:
        """Subscribe."""
        subscription = self.client.new_subscription(topic, events=self)
        await subscription.subscribe()
        return subscription

    def values(self) -> list[Any]:
        """The values told so far."""
        return [data for kind, data, _ in self.told if kind == "value"]

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.told]

    def offsets(self) -> list[int]:
        """The offsets of the values told so far."""
        return [offset for kind, _, offset in self.told if kind == "value"]

    async def on_connecting(self, ctx: ConnectingContext) -> None:
        self.connecting.append(ctx)

    async def on_connected(self, ctx: ConnectedContext) -> None:
        self.connected.append(ctx)

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self.disconnected.append(ctx)

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.subscribed.append(ctx)

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self.unsubscribed.append(ctx)

    async def on_error(self, ctx: Any) -> None:
        self.errors.append(ctx)

    async def on_publication(self, ctx: PublicationContext) -> None:
        kind = (ctx.pub.tags or {}).get("kind", "value")
        self.told.append((kind, ctx.pub.data, ctx.pub.offset))


async def eventually(condition: Callable[[], object], message: str, within: float = 20.0) -> None:
    """Poll until true; fails with `message`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline, message
        await asyncio.sleep(0.02)
