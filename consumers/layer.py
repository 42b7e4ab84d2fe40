"""A channel layer for Django Channels in the place of channels_redis, both its layers; LAYER.md says how it differs.

    CHANNEL_LAYERS = {"default": {"BACKEND": "consumers.layer.MillpondChannelLayer"}}

Invariant: a message comes to a channel once, in the order in which one sender sent, or its loss is counted and told;
and every queue has a bound of its own, so that who does not read takes nothing from others.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from channels.exceptions import ChannelFull, MessageTooLarge
from channels.layers import BaseChannelLayer
from django.core.exceptions import ImproperlyConfigured

from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.redis import Arg, Store
from consumers import layer_hosts, layer_names
from consumers.layer_board import Board
from consumers.layer_line import Lines
from consumers.layer_losses import Losses
from consumers.layer_mailbox import Mailbox
from consumers.layer_names import LayerNames
from consumers.layer_post import Post, Shard, Shop, at_close
from consumers.layer_wire import Codec, Message, Unreadable, Wire, apart

#: Seconds the store may take for one call.
_DEADLINE = 2.0
#: Channels of a group that are erased, or sent to, at a time.
_BATCH = 500


class MillpondChannelLayer(BaseChannelLayer):
    """For any number of event loops and threads of this process; a forked child has channels of its own."""

    extensions = ["groups", "flush"]
    ChannelFull = ChannelFull
    MessageTooLarge = MessageTooLarge

    def __init__(
        self,
        hosts: Sequence[layer_hosts.Host] | None = None,
        prefix: str | None = None,
        expiry: int = 60,
        group_expiry: int = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[Any, int] | None = None,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        serializer_format: str | Codec = "msgpack",
        on_lost: str | None = None,
        on_disconnect: str | None = None,
        on_reconnect: str | None = None,
        isolate: bool = False,
        max_size: int = 16 * 1024 * 1024,
        random_prefix_length: int = 0,
    ) -> None:
        """LAYER.md describes them.  Raises ValueError for what cannot be done."""
        super().__init__(expiry=expiry, capacity=capacity)
        self.group_expiry = group_expiry
        self.channel_capacity = self.compile_capacities(dict(channel_capacity or {}))  # type: ignore[assignment]
        self._urls = layer_hosts.urls(hosts) if hosts else None
        self.prefix = prefix or ("asgi" if self._urls else _prefix_of_the_service())
        self._wire = Wire(serializer_format, symmetric_encryption_keys)
        self._on_lost, self._isolate, self._max_size = on_lost, isolate, max_size
        self._notices = tuple({"type": kind} for kind in (on_disconnect, on_reconnect) if kind)
        self._begin()
        _layers.add(self)

    async def new_channel(self, prefix: str = "specific") -> str:
        """A name for a channel that this process alone reads.

        The channel lives as long as the object that is returned: when nobody holds it any more, it leaves its groups.
        """
        post = self._post()
        name = self._board.give_out(f"{prefix.removesuffix('.')}.{self.client_prefix}!{uuid.uuid4().hex}", post)
        await post.attend()
        return name

    async def send(self, channel: str, message: Message) -> None:
        """To one channel.  Raises ChannelFull, MessageTooLarge, StoreUnavailable; TypeError for what is no message."""
        self.require_valid_channel_name(channel)
        data = self._dumped(message)
        if "!" not in channel:
            if not await self._lines().put(channel, data, self.get_capacity(channel)):
                raise ChannelFull(channel)
        elif not self._own(channel):
            await self._pass(channel, data)
        elif not self._put(channel, data) and not await self._pass(channel, data):
            self._put(channel, data, whatever=True)  # nobody hears it for this process yet

    async def receive(self, channel: str) -> Message:
        """The next message; waits for it.  Who is cancelled loses none.

        What is nested in it is shared with other channels of the process, unless the layer isolates.  Raises
        AssertionError for a channel of another process.
        """
        if self._mark not in channel:
            self.require_valid_channel_name(channel)
            if "!" in channel:
                raise AssertionError(f"{channel} is a channel of another process")
            return await self._next_in_line(channel)
        board = self._board
        while True:
            with board.lock:
                board.sweep()
                box = board.boxes.get(channel)
                if box is None:
                    box = self._open(channel)
                settled = _settled(box)
                message = box.take(time.monotonic()) if settled else None
                if message is None and settled:
                    waiter = asyncio.get_running_loop().create_future()
                    box.waiters.append(waiter)
                elif box.marked and len(box) < box.capacity:
                    box.marked = False
                    self._post().show(box)
            if message is not None:
                return apart(message) if self._isolate else message.copy()
            if settled:
                await self._woken(box, waiter)
            else:
                await self._post().adopt(box)

    async def group_add(self, group: str, channel: str) -> None:
        """Messages to the group come to the channel from now on, the store has confirmed.  Raises StoreUnavailable."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        post = self._post()
        if not self._own(channel):
            shard = post.shard(group)
            await shard.store.script("layer_join", [self._names.members(group)], [channel, self.group_expiry])
            return
        with self._board.lock:
            self._board.sweep()
            box = self._board.box(channel)
        await post.join(group, box, time.monotonic() + self.group_expiry)

    async def group_discard(self, group: str, channel: str) -> None:
        """Out of the group; not in it is no error.  Raises StoreUnavailable."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        with self._board.lock:
            self._board.sweep()
            box = self._board.boxes.get(channel)
            post = box.groups.get(group) if box is not None else None
            if box is not None and post is not None:
                post.part_with(group, box)
        try:  # another process may have added it
            await self._post().shard(group).store.command("ZREM", self._names.members(group), channel)
        except StoreUnavailable:
            if post is None:
                raise

    async def group_send(self, group: str, message: Message) -> None:
        """To all channels of the group; those that are full lose it.  Raises MessageTooLarge, StoreUnavailable."""
        self.require_valid_group_name(group)
        data, names = self._dumped(message), self._names
        shard = self._post().shard(group)
        args: list[Arg] = [names.group(group), data, self.group_expiry]
        for member in await shard.store.script("layer_tell", [names.members(group)], args):
            await self._send_to_member(group, member.decode(), data)

    async def flush(self) -> None:
        """No messages and no groups, in all processes.  Ends what this event loop has of the layer; it is made anew."""
        post = self._post()
        with self._board.lock:
            self._board.clear(post.loop)
        for shard in post.shards:
            await self._erase(shard.store)
        await post.shards[0].store.command("PUBLISH", self._names.everyone(), f"flush:{self.client_prefix}")
        await self.close_pools()

    async def close_pools(self) -> None:
        """End what this event loop has of the layer, which is made anew when needed.  Channels and groups stay."""
        await self._end(asyncio.get_running_loop())

    def tell_losses(self, channel: str, kind: str | None) -> None:
        """Tell its reader what was lost, by messages of type `kind` with `reason` and `count`; None: do not."""
        with self._board.lock:
            self._board.box(channel).told_as = kind

    def serialize(self, message: Message) -> bytes:
        """As it travels."""
        return self._wire.dump(message)

    def deserialize(self, data: bytes) -> Message:
        """Raises Unreadable."""
        return self._wire.load(data)

    def __str__(self) -> str:
        return f"{type(self).__name__}(prefix={self.prefix!r})"

    def _begin(self) -> None:
        """What belongs to one process."""
        #: In the names of this process's channels.
        self.client_prefix = uuid.uuid4().hex
        self._mark = f".{self.client_prefix}!"
        self._names = LayerNames(self.prefix)
        self._board = Board(self.get_capacity, self._on_lost, self.expiry)
        self._losses = Losses()
        self._shop = Shop(
            board=self._board,
            wire=self._wire,
            names=self._names,
            losses=self._losses,
            client=self.client_prefix,
            expiry=self.expiry,
            notices=self._notices,
        )
        self._lines_of: dict[asyncio.AbstractEventLoop, Lines] = {}
        self._hooked: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    def _open(self, channel: str) -> Mailbox:
        self.require_valid_channel_name(channel)
        return self._board.box(channel)

    def _own(self, channel: str) -> bool:
        return self._mark in channel

    def _dumped(self, message: Message) -> bytes:
        if not isinstance(message, dict):
            raise TypeError(f"a message is a dict, not {type(message).__name__}")
        data = self._wire.dump(message)
        if len(data) > self._max_size:
            raise MessageTooLarge(f"{len(data)} bytes; the layer takes {self._max_size}")
        return data

    def _put(self, channel: str, data: bytes, *, whatever: bool = False) -> bool:
        """Give it to a channel of this process without the store; False when messages of a group might be overtaken."""
        message, now = self._wire.load(data), time.monotonic()
        here = asyncio.get_running_loop()
        with self._board.lock:
            self._board.sweep()
            box = self._board.box(channel)
            if box.full(now):
                raise ChannelFull(channel)
            if box.groups and not whatever:
                return False
            return box.put(message, now, self.expiry, here)

    async def _pass(self, channel: str, data: bytes, group: str = "") -> int:
        """Give it to the process that reads the channel, and say how many hear of it; `group`: it was sent to that."""
        client = layer_names.client_of(channel)
        args: list[Arg] = [self._names.inbox(client), b"%b|%b|%b" % (channel.encode(), group.encode(), data)]
        store = self._post().shard(client).store
        heard = int(await store.script("layer_pass", [self._names.full(channel)], args))
        if heard < 0:
            raise ChannelFull(channel)
        if not heard and not self._own(channel):
            self._losses.note("nobody", 1, channel)
        return heard

    async def _send_to_member(self, group: str, channel: str, data: bytes) -> None:
        try:
            if "!" in channel:
                await self._pass(channel, data, group)
            elif not await self._lines().put(channel, data, self.get_capacity(channel)):
                raise ChannelFull(channel)
        except ChannelFull:
            self._losses.note("full", 1, f"group {group}")

    async def _next_in_line(self, channel: str) -> Message:
        while True:
            data = await self._lines().take(channel)
            if data is not None:  # else the layer was flushed
                try:
                    return self._wire.load(data)
                except Unreadable:
                    self._losses.note("unreadable", 1, channel)

    async def _woken(self, box: Mailbox, waiter: asyncio.Future[None]) -> None:
        try:
            await waiter
        except BaseException:
            with self._board.lock:
                box.leave(waiter, asyncio.get_running_loop())
            raise

    async def _erase(self, store: Store) -> None:
        cursor = b"0"
        while True:
            cursor, keys = await store.command("SCAN", cursor, "MATCH", self._names.everything(), "COUNT", _BATCH)
            if keys:
                await store.command("UNLINK", *keys)
            if cursor == b"0":
                return

    def _post(self) -> Post:
        return self._lines().post

    def _lines(self) -> Lines:
        """What the running loop has, made if need be."""
        loop = asyncio.get_running_loop()
        lines = self._lines_of.get(loop)
        if lines is None or (self._urls is None and _outlived(lines.post)):
            lines = self._lines_of[loop] = Lines(Post(self._shop, self._open_shards()))
            if loop not in self._hooked:
                self._hooked.add(loop)
                at_close(loop, partial(_end, weakref.ref(self), loop))
        return lines

    async def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        lines = self._lines_of.pop(loop, None)
        if lines is not None:
            await lines.post.close()

    def _open_shards(self) -> tuple[Shard, ...]:
        if self._urls is None:
            return (_shard_of_the_service(),)
        return tuple(Shard(Store(url, deadline=_DEADLINE), Feed(url)) for url in self._urls)


async def _end(layer: weakref.ref[MillpondChannelLayer], loop: asyncio.AbstractEventLoop) -> None:
    found = layer()
    if found is not None:
        await found._end(loop)


def _settled(box: Mailbox) -> bool:
    """Whether a living loop hears what comes for it."""
    if box.home is None or box.home.closed:
        return False
    for post in box.groups.values():  # noqa: SIM110  (twice as fast, for every message)
        if post.closed:
            return False
    return True


def _prefix_of_the_service() -> str:
    from asgi_app.env import env

    _needs_the_service()
    return f"a:{{{env().namespace}}}"


def _shard_of_the_service() -> Shard:
    from asgi_app import wiring
    from asgi_app.env import env

    if wiring.on_loop():
        return Shard(wiring.node().store, wiring.node().feed, shared=True)
    url = env().store_url
    return Shard(Store(url, deadline=_DEADLINE), Feed(url))


def _outlived(post: Post) -> bool:
    """Whether the loop has other connections of the service by now."""
    from asgi_app import wiring

    if wiring.on_loop():
        return post.shards[0].feed is not wiring.node().feed
    return post.shards[0].shared


def _needs_the_service() -> None:
    from django.apps import apps

    if not apps.is_installed("asgi_app"):
        raise ImproperlyConfigured('CHANNEL_LAYERS: CONFIG needs "hosts", such as ["redis://127.0.0.1:6379/0"]')


_layers: weakref.WeakSet[MillpondChannelLayer] = weakref.WeakSet()


def _forked() -> None:
    """A child must not take its parent's channels for its own."""
    for layer in _layers:
        layer._begin()


os.register_at_fork(after_in_child=_forked)
