"""What one event loop has of the channel layer: connections to the stores, and what it listens to there.

Invariant: a group is subscribed once, however many channels of this loop are in it; its messages are decoded once, and
whoever waits in `join` is told only after the store confirmed.  Nothing is left open when `close` returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from cache_layer import metrics
from cache_layer.background import Background
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed, Listener
from cache_layer.redis import Store
from consumers import layer_hosts
from consumers.layer_board import Board
from consumers.layer_losses import Losses
from consumers.layer_mailbox import Mailbox
from consumers.layer_names import LayerNames
from consumers.layer_wire import Message, Unreadable, Wire

log = logging.getLogger(__name__)

#: Milliseconds other processes believe that a channel is full, if nobody tells them that it is not.
_FULL = 10_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One store."""

    store: Store
    feed: Feed
    #: They are the service's own, and go on without the layer.
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """What all loops of a process have together."""

    board: Board
    wire: Wire
    names: LayerNames
    losses: Losses
    #: This process, in the names of its channels.
    client: str
    #: Seconds an unread message is kept.
    expiry: float
    #: What consumers are told after the store was away.
    notices: tuple[Message, ...] = ()


@dataclass(slots=True, eq=False)
class _Held:
    feed: Feed
    listener: Listener
    #: The subscribing.
    task: asyncio.Task[None]


class Post:
    """The part of one event loop."""

    def __init__(self, shop: Shop, shards: tuple[Shard, ...]) -> None:
        self.shop = shop
        self.shards = shards
        self.loop = asyncio.get_running_loop()
        self.closed = False
        #: Does work that its caller does not wait for, or may give up.
        self.background = Background()
        #: Members of each group, the longest ago joined first, and when each leaves.  The board's lock guards it.
        self.groups: dict[str, dict[Mailbox, float]] = {}
        self._held: dict[str, _Held] = {}
        self._attending: asyncio.Task[None] | None = None
        self._showing: set[Mailbox] = set()
        for shard in shards:
            shard.feed.on_gap.append(self._gap)
        #: Called after the store was away.
        self.on_gap: list[Callable[[], None]] = []

    def shard(self, name: str) -> Shard:
        """That has a group, a channel, or a process."""
        return self.shards[layer_hosts.index(name, len(self.shards))]

    async def attend(self) -> None:
        """Hear what other processes send to channels of this one.  Without a store: as soon as there is one."""
        if self._attending is None:
            self._attending = self.background.start(self._attend())
        elif self._attending.done():
            return
        await self._shielded(self._attending)

    async def join(self, group: str, box: Mailbox, until: float) -> None:
        """Into the group, confirmed by the store.  Raises StoreUnavailable, and then nothing has changed."""
        channel, listener = self.shop.names.group(group), partial(self._told, group)
        with self.shop.board.lock:
            before = box.groups.get(group)
            there = before if before is not None and not before.closed else self
            there.keep(group, box, until)
        if there is not self:
            return
        try:
            await self.hold(self.shard(group), channel, listener)
            with self.shop.board.lock:
                self.keep(group, box, until)  # another that asked for the same may have given up
        except BaseException:
            if before is not self:
                with self.shop.board.lock:
                    self.part_with(group, box)
            raise

    def keep(self, group: str, box: Mailbox, until: float) -> None:
        """A member, until the monotonic clock says so.  With the board's lock held."""
        members = self.groups.setdefault(group, {})
        members.pop(box, None)
        members[box] = until
        box.groups[group] = self

    def part_with(self, group: str, box: Mailbox) -> None:
        """No member any more.  With the board's lock held, from any thread."""
        box.groups.pop(group, None)
        members = self.groups.get(group)
        if members is not None:
            members.pop(box, None)
            if not members:
                self._abandon(group)

    async def adopt(self, box: Mailbox) -> None:
        """Take over what was heard for the channel by a loop that has ended; the time between is lost, and told."""
        with self.shop.board.lock:
            gone = [(group, post.groups[group][box]) for group, post in box.groups.items() if post.closed]
            if box.home is not None:
                self._lost(box)
            box.home = self
        await self.attend()
        for group, until in gone:
            await self.join(group, box, until)

    def show(self, box: Mailbox) -> None:
        """Tell other processes whether the channel is full."""
        if box not in self._showing:
            self._showing.add(box)
            self.background.start(self._show(box))

    async def hold(self, shard: Shard, channel: str, listener: Listener) -> None:
        """Subscribed and confirmed when it returns.  Raises StoreUnavailable, with nothing left behind."""
        held = self._held.get(channel)
        if held is None:
            task = self.background.start(self._subscribe(shard, channel, listener))
            held = self._held[channel] = _Held(shard.feed, listener, task)
        try:
            await self._shielded(held.task)
            if not shard.feed.confirmed(channel):  # the connection is being made again
                await shard.feed.subscribe(channel, _nothing)
                shard.feed.unsubscribe(channel, _nothing)
        except StoreUnavailable:
            if _failed(held.task) and self._held.get(channel) is held:
                del self._held[channel]
            raise

    async def hold_anyway(self, shard: Shard, channel: str, listener: Listener) -> None:
        """The same, without a store: as soon as there is one."""
        try:
            await self.hold(shard, channel, listener)
        except StoreUnavailable as error:
            log.warning("messages of the channel layer come when the store does: %s", error)
            if channel not in self._held and not self.closed:
                shard.feed.attach(channel, listener)
                self._held[channel] = _Held(shard.feed, listener, self.background.start(asyncio.sleep(0)))

    def let_go(self, channel: str) -> None:
        """Subscribed no longer; not subscribed is no error."""
        held = self._held.pop(channel, None)
        if held is not None:
            held.feed.unsubscribe(channel, held.listener)

    async def close(self) -> None:
        """May be called twice."""
        if self.closed:
            return
        self.closed = True
        await self.background.close()
        for shard in self.shards:
            shard.feed.on_gap.remove(self._gap)
        for channel in list(self._held):
            self.let_go(channel)
        for shard in self.shards:
            if not shard.shared:
                await shard.feed.stop()
                await shard.store.close()
        with self.shop.board.lock:
            for box in self.shop.board.boxes.values():
                box.wake(self.loop)
        self._ring()

    async def _attend(self) -> None:
        names, client = self.shop.names, self.shop.client
        await self.hold_anyway(self.shard(client), names.inbox(client), self._passed)
        await self.hold_anyway(self.shards[0], names.everyone(), self._ordered)

    async def _subscribe(self, shard: Shard, channel: str, listener: Listener) -> None:
        if not shard.shared:
            await shard.feed.start()
        await shard.feed.subscribe(channel, listener)

    async def _shielded(self, task: asyncio.Task[None]) -> None:
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self.closed:
                raise StoreUnavailable("the channel layer was closed meanwhile") from None
            raise

    def _told(self, group: str, data: bytes) -> None:
        message = self._read(data, group)
        now, board, expiry = time.monotonic(), self.shop.board, self.shop.expiry
        with board.lock:
            board.sweep()
            members = self._members(group, now)
            if message is None:
                for box in members:
                    box.lose("unreadable", 1, self.loop)
                return
            kept = sum([box.put(message, now, expiry, self.loop) for box in members])
        metrics.layer["delivered"] += kept
        self.shop.losses.note("full", len(members) - kept, f"group {group}")

    def _members(self, group: str, now: float) -> dict[Mailbox, float]:
        members = self.groups.get(group)
        if members is None:
            self._abandon(group)
            return {}
        for box, until in list(members.items()) if next(iter(members.values())) <= now else ():
            if until > now:
                break
            self.part_with(group, box)
        return members

    def _passed(self, data: bytes) -> None:
        name, group, payload = data.split(b"|", 2)
        channel = name.decode()
        message = self._read(payload, channel)
        board = self.shop.board
        with board.lock:
            board.sweep()
            box = board.boxes.get(channel)
            if box is None:
                self.shop.losses.note("nobody", 1, channel)
                return
            if box.home is not self:
                if box.home is not None and not box.home.closed:
                    return  # that one hears of it, too
                box.home = self
            if group.decode() in box.groups:
                return  # it is a member here as well, and has heard
            if message is None:
                box.lose("unreadable", 1, self.loop)
                return
            kept = box.put(message, time.monotonic(), self.shop.expiry, self.loop)
            box.marked = len(box) >= box.capacity
            if box.marked:
                self.show(box)
        metrics.layer["delivered"] += kept
        self.shop.losses.note("full", 1 - kept, channel)

    def _read(self, data: bytes, where: str) -> Message | None:
        try:
            return self.shop.wire.load(data)
        except Unreadable as error:
            log.debug("unreadable: %s", error)
            self.shop.losses.note("unreadable", 1, where)
            return None

    def _ordered(self, data: bytes) -> None:
        kind, _, client = data.decode(errors="replace").partition(":")
        if kind == "flush" and client != self.shop.client:
            with self.shop.board.lock:
                self.shop.board.clear(self.loop)

    def _gap(self) -> None:
        board = self.shop.board
        with board.lock:
            board.sweep()
            concerned = [box for box in board.boxes.values() if box.home is self or self in box.groups.values()]
            for box in concerned:
                self._lost(box)
        self.shop.losses.note("gap", len(concerned), "all of this process")
        self._ring()

    def _lost(self, box: Mailbox) -> None:
        box.lose("gap", None, self.loop)
        for notice in self.shop.notices:
            box.say(dict(notice), self.loop)

    def _ring(self) -> None:
        for told in self.on_gap:
            told()

    def _abandon(self, group: str) -> None:
        with suppress(RuntimeError):  # the loop is closed, and everything with it
            self.loop.call_soon_threadsafe(self._let_go_of, group)
        self.groups.pop(group, None)

    def _let_go_of(self, group: str) -> None:
        with self.shop.board.lock:
            if group in self.groups:
                return  # somebody has come back
        self.let_go(self.shop.names.group(group))

    async def _show(self, box: Mailbox) -> None:
        store, key = self.shard(self.shop.client).store, self.shop.names.full(box.name)
        shown: bool | None = None
        try:
            while shown != box.marked:
                shown = box.marked
                await (store.command("SET", key, 1, "PX", _FULL) if shown else store.command("DEL", key))
        finally:
            self._showing.discard(box)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _nothing(_: bytes) -> None:
    """Listens for the sake of a confirmation."""


def at_close(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work` on the loop when it is being closed."""
    close = loop.close

    def closing() -> None:
        if not loop.is_closed() and not loop.is_running():
            try:
                loop.run_until_complete(work())
            except Exception:
                log.exception("while a loop was closed")
        close()

    loop.close = closing  # type: ignore[method-assign]
