"""What this process holds: store, feed, reader, doorbell.  The only globals of the service.

Invariant: one Node per process and event loop; a forked child never uses its parent's.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from django.conf import settings
from django.utils.module_loading import import_string

from asgi_app import stores
from asgi_app.desk import Desk
from asgi_app.doorbell import Doorbell
from asgi_app.env import Env, env
from asgi_app.reading import Reader
from asgi_app.submitting import Submitter
from cache_layer.cache import Cache
from cache_layer.feed import Feed
from cache_layer.history import History
from cache_layer.invalidating import MAX_STALENESS, Invalidator
from cache_layer.keys import Key
from cache_layer.near import Near
from cache_layer.queues import Limits, Queues
from cache_layer.records import Claim, Records
from cache_layer.redis import Store
from cache_layer.watching import Watching

T = TypeVar("T")


class Node:
    """The parts one event loop of this process works with."""

    def __init__(self, settings_: Env, *, near: bool = False) -> None:
        """`near`: hold values in this process's own memory; worth it where the same ones are read again and again.

        That is for values in the data store.  Raises SettingsError when MILLPOND_CACHE_STORE names no cache.
        """
        self.env = settings_
        self.store = Store(settings_.store_url, settings_.namespace)
        self.feed = Feed(settings_.store_url)
        self.feed.on_loss.append(self.store.distrust)
        self.history = History(self.store)
        self.watching = Watching(self.store)
        self.near: Near | None = None
        self.cache: Cache
        self.invalidator: Invalidator
        if settings_.cache_store == stores.REDIS:
            self._keep_in_the_store(settings_.near if near else 0)
        else:
            self.cache = stores.open_cache(settings_, self.store, self.feed)
            self.invalidator = self.cache.invalidator
        limits = Limits(
            queue=settings_.queue_limit,
            waiting=settings_.max_waiting_per_principal,
            running=settings_.max_running_per_principal,
        )
        self.records = Records(self.store, limits)
        self.queues = Queues(self.store, limits)
        self.doorbell: Doorbell = import_string(settings.MILLPOND_DOORBELL)(settings_)
        self.submitter = Submitter(self.records, self.queues, self.doorbell, settings_)
        self.reader = Reader(self.cache, self.feed, self.submitter, settings_)
        self.desk = Desk(self.records, self.queues, self.submitter, self.reader)
        self.loop: asyncio.AbstractEventLoop | None = None
        #: This process is leaving: it finishes what it has and wants nothing new.
        self.draining = False

    def _keep_in_the_store(self, budget: int) -> None:
        url, secret = self.env.store_url, self.env.value_secret
        if budget:
            self.near = Near(url, self.store.names.tracked(), budget=budget, max_staleness=MAX_STALENESS)
        self.invalidator = Invalidator(self.store, self.feed, self.near)
        self.cache = Cache(self.store, invalidator=self.invalidator, near=self.near, secret=secret)

    async def tag_versions(self, key: Key, claim: Claim) -> tuple[bytes, ...]:
        """What the value of a job that was claimed just now, and has read nothing yet, is stored under.

        Raises StoreUnavailable.
        """
        if isinstance(self.cache, stores.SharedCache):
            return claim.tag_versions + await self.cache.capture(key)
        return claim.tag_versions

    async def start(self) -> None:
        """Begin to work on the running loop; needs no store yet."""
        self.loop = asyncio.get_running_loop()
        self.invalidator.start()
        self.reader.start()
        if self.near is not None:
            self.near.start()
        await self.feed.start()

    async def stop(self) -> None:
        """End everything this node began; may be called twice, or before `start`."""
        await self.watching.stop()
        await self.reader.stop()
        await self.submitter.stop()
        await self.invalidator.stop()
        if self.near is not None:
            await asyncio.to_thread(self.near.stop)
        await self.feed.stop()
        await self.doorbell.close()
        if isinstance(self.cache, stores.OtherCache):
            self.cache.close()
        await self.store.close()


_node: Node | None = None
_lock = threading.Lock()


def _begin_anew() -> None:
    """A forked child has no Node; its parent's is not its to stop."""
    global _node, _lock
    _node, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)


def node() -> Node:
    """The Node of this process's event loop.  Raises RuntimeError outside of a started one."""
    if _node is None:
        raise RuntimeError("no Node in this process yet: it is made by the web process, or by wiring.call()")
    return _node


async def start_node(settings_: Env | None = None, *, near: bool = False) -> Node:
    """Make and start this process's Node on the running loop, for good: code in other threads uses it from now on.

    A Node that code made earlier for itself (at import, say) is left to its own thread.
    """
    global _node
    if _node is None or _node.loop is not asyncio.get_running_loop():
        _node = Node(settings_ or env(), near=near)
        await _node.start()
    return _node


async def stop_node() -> None:
    """Stop this process's Node; may be called twice."""
    global _node
    if _node is not None:
        stopping, _node = _node, None
        await stopping.stop()


def call(work: Callable[[Node], Coroutine[Any, Any, T]], deadline: float = 60.0) -> T:
    """Run async work on the Node's loop and wait for it: the door for synchronous code.

    In the web process that is its own loop; elsewhere one loop in a thread, made at the first call.  Raises
    RuntimeError when called on that loop itself (use the async twin), TimeoutError after `deadline` seconds.
    """
    if on_loop():
        raise RuntimeError("this is the event loop: use the async twin of the function (aread, ainvalidate, ...)")
    future = submit(work)
    try:
        return future.result(deadline)
    except BaseException:
        future.cancel()
        raise


def here(work: Callable[[Node, asyncio.AbstractEventLoop], T]) -> T:
    """`work(node, loop)` in this thread, with the Node of this process; it may hand coroutines to that loop.

    Raises RuntimeError on the event loop itself.
    """
    if on_loop():
        raise RuntimeError("this is the event loop: use the async twin of the function (aread, ainvalidate, ...)")
    current = _node
    if current is None or current.loop is None:
        current = _portal_node()
    assert current.loop is not None
    return work(current, current.loop)


async def acall(work: Callable[[Node], Coroutine[Any, Any, T]]) -> T:
    """Run async work on the Node's loop from whatever loop the caller is on."""
    if on_loop():
        return await work(node())
    return await asyncio.wrap_future(submit(work))


def submit(work: Callable[[Node], Coroutine[Any, Any, T]]) -> Future[T]:
    """Start async work on the Node's loop from any thread."""
    current = _node
    if current is None or current.loop is None:
        current = _portal_node()
    assert current.loop is not None
    return asyncio.run_coroutine_threadsafe(work(current), current.loop)


def on_loop() -> bool:
    """Whether the caller runs on the Node's own loop, where nothing may block."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        return False
    return _node is not None and here is _node.loop


def _portal_node() -> Node:
    with _lock:
        if _node is not None and _node.loop is not None:
            return _node
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="millpond portal", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(start_node(), loop).result(10)
