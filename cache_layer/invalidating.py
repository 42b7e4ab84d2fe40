"""Invalidations on their way: into the store, past every process's own values, and kept while the store is away.

Invariant (promise 2): when `invalidate` returns, no reader anywhere is served what it outdated.  In the store that is
one atomic step.  Processes that hold values of their own say that they have dropped them; one that does not say so
within the time for which it may serve without proof (its gate, `Near`) has stopped serving by then, and one that does
not hear serves none.  What could not be sent is sent before this process trusts the store again (`settle`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress

from cache_layer import metrics
from cache_layer.background import Background
from cache_layer.codec import TAG_VERSION, TIMES
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.near import Near
from cache_layer.outdated import Outdated
from cache_layer.redis import TAG_TTL, Arg, Store
from cache_layer.single_flight import SingleFlight

log = logging.getLogger(__name__)

#: Seconds a process may serve its own values without proof that it hears of their invalidation.
MAX_STALENESS = 1.0
#: Seconds between two tries to send what is kept.
_AGAIN = 0.5


class Invalidator:
    """The invalidations that one process sends, and those it hears for its own values."""

    def __init__(self, store: Store, feed: Feed | None = None, near: Near | None = None) -> None:
        self._store = store
        self._names = store.names
        self._feed = feed
        self._near = near
        self._me = secrets.token_hex(8)
        self._near_channel = store.names.near()
        self._kept = Outdated()
        self._sending: asyncio.Task[None] | None = None
        #: What waits to hear from others: number of the invalidation -> (still to answer, told when none is).
        self._unheard: dict[str, tuple[int, asyncio.Event]] = {}
        #: Answers to others, invalidations whose callers may have gone, and the sending of what is kept.
        self._background = Background()
        self._settling: SingleFlight[None] = SingleFlight()

    def start(self) -> None:
        """Begin to hear; on the running loop."""
        if self._feed is not None:
            self._feed.attach(self._names.heard(self._me), self._others_heard)
            if self._near is not None:
                self._feed.attach(self._names.near(), self._must_forget)
                self._feed.on_gap.append(self._near.clear)

    async def stop(self) -> None:
        """End what runs behind; may be called twice."""
        await self._background.close()
        await self._settling.close()
        if self._kept:
            log.error("invalidations were never sent, the store was away: %s", self._kept.to_json().decode())

    @property
    def kept(self) -> Outdated:
        """What could not be sent yet."""
        return self._kept

    async def invalidate(self, outdated: Outdated) -> None:
        """Outdate values, in O(tags and keys); when this returns, no reader anywhere is served one of them.

        Safe to repeat.  Raises StoreUnavailable; then it is kept, and sent before this process reads the store again.
        """
        if outdated:
            await asyncio.shield(self._background.start(self._send_or_keep(outdated)))

    @property
    def hears(self) -> bool:
        """Whether others' invalidations wait for this process: else it must not serve values of its own."""
        return self._feed is None or self._feed.confirmed(self._near_channel)

    async def _send_or_keep(self, outdated: Outdated) -> None:
        self._forget_here(outdated)
        try:
            await self._send(outdated)
        except (StoreUnavailable, asyncio.CancelledError):
            metrics.events["queued"] += 1
            self._kept |= outdated
            if self._sending is None:
                self._sending = self._background.start(self._keep_sending())
            raise
        finally:
            self._forget_here(outdated)  # what was read while it was on its way

    async def settle(self) -> None:
        """Send what is kept.  Raises StoreUnavailable when that is not possible: what is read now could be outdated."""
        while self._kept:  # a flight that has just landed may have been joined
            await self._settling.do("kept", self._send_kept)

    async def _send_kept(self) -> None:
        while self._kept:
            sending = self._kept
            await self._send(sending)
            if self._kept == sending:
                self._kept = Outdated()

    async def _keep_sending(self) -> None:
        try:
            while self._kept:
                await asyncio.sleep(_AGAIN)
                with suppress(StoreUnavailable):
                    await self.settle()
        finally:
            self._sending = None

    async def _send(self, outdated: Outdated) -> None:
        names, number = self._names, secrets.token_hex(8)
        tags = [names.tag(tag) for tag in sorted(outdated.tags)]
        if outdated.everything:
            tags.append(names.everything())
        keys = [name for single in sorted(outdated.keys) for name in names.single(*single)]
        told = outdated.to_json()
        args: list[Arg] = [
            len(tags),
            int(outdated.soft),
            TAG_TTL,
            names.job(""),
            TIMES,
            names.invalidations(),
            told,
            names.near(),
            f"{self._me} {number} ".encode() + told,
            *(secrets.token_bytes(TAG_VERSION) for _ in tags),
        ]
        heard = asyncio.Event()
        self._unheard[number] = (0, heard)
        try:
            holders = await self._store.script("outdate", [*tags, *keys], args)
            metrics.events["invalidations"] += 1
            await self._until_heard(number, holders)
        finally:
            del self._unheard[number]

    # --- other processes' own values

    async def _until_heard(self, number: str, holders: int) -> None:
        answered, heard = self._unheard[number]
        left = holders + answered
        if left <= 0:
            return
        self._unheard[number] = (left, heard)
        try:
            async with asyncio.timeout(MAX_STALENESS):
                await heard.wait()
        except TimeoutError:
            metrics.events["unheard"] += 1

    def _others_heard(self, message: bytes) -> None:
        number = message.decode(errors="replace")
        if number in self._unheard:
            left, heard = self._unheard[number]
            self._unheard[number] = (left - 1, heard)  # below zero while the store's own answer is still on its way
            if left == 1:
                heard.set()

    def _must_forget(self, message: bytes) -> None:
        who, _, rest = message.partition(b" ")
        number, _, told = rest.partition(b" ")
        outdated = Outdated.from_json(told)
        if outdated is None:
            log.warning("foreign bytes on the channel of invalidations")
            return
        self._forget_here(outdated)
        self._background.start(self._answer(who.decode(errors="replace"), number))

    async def _answer(self, who: str, number: bytes) -> None:
        with suppress(StoreUnavailable):
            await self._store.command("PUBLISH", self._names.heard(who), number)

    def _forget_here(self, outdated: Outdated) -> None:
        if self._near is None:
            return
        names = self._names
        if outdated.everything:
            self._near.clear()
        self._near.forget(*(names.tag(tag) for tag in outdated.tags))
        self._near.forget(*(name for single in outdated.keys for name in names.single(*single)[:2]))
