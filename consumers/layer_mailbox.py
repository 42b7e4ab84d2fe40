"""What has come for one channel and nobody has read yet: bounded, in order, every loss counted and told.

Invariant: never more messages than `capacity`; the newest is refused, as the Channels specification has it.  A message
leaves only by `take`, so a reader that is cancelled loses none.  Not thread-safe: the board's lock guards it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from cache_layer import metrics
from consumers.layer_wire import Message

if TYPE_CHECKING:
    from consumers.layer_post import Post

#: full: there was no room; expired: nobody has read it in time; gap: the store was away, nobody knows how many;
#: unreadable: it came, and was no message of this layer.
Loss = Literal["full", "expired", "unreadable", "gap"]


class Mailbox:
    """The unread messages of one channel, and who waits for them."""

    __slots__ = ("_entries", "_size", "capacity", "groups", "home", "marked", "name", "owner", "told_as", "waiters")

    def __init__(self, name: str, capacity: int, told_as: str | None = None) -> None:
        self.name = name
        self.capacity = capacity
        #: Type of the message that tells its reader of losses; None: they are only counted.
        self.told_as = told_as
        #: The event loop's part that hears of messages for it.
        self.home: Post | None = None
        #: Group -> the part that hears of its messages for this channel.
        self.groups: dict[str, Post] = {}
        self.waiters: list[asyncio.Future[None]] = []
        #: The name that `new_channel` gave out is still held by somebody (a weak reference), or None.
        self.owner: Any = None
        #: Other processes are told that it is full.
        self.marked = False
        self._entries: deque[tuple[float, Message, bool]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def full(self, now: float) -> bool:
        """Whether there is no room, after what has expired has made some."""
        return self._size >= self.capacity and self.expire(now) == 0

    def put(self, message: Message, now: float, life: float, here: asyncio.AbstractEventLoop | None) -> bool:
        """Keep it for `life` seconds; False when there is no room.  `here`: the loop that runs in this thread."""
        if self._size >= self.capacity and self.full(now):
            self.lose("full", 1, here)
            return False
        self._entries.append((now + life, message, True))
        self._size += 1
        self.wake(here)
        return True

    def take(self, now: float) -> Message | None:
        """The oldest that has not expired, or word of a loss in its place.  The dict is shared: it is not yours."""
        self.expire(now)
        if not self._entries:
            return None
        _, message, counted = self._entries.popleft()
        self._size -= counted
        return message

    def expire(self, now: float) -> int:
        """Forget what is too old, and say how many those were."""
        entries = self._entries
        if not entries or (entries[0][0] > now and entries[0][2]):
            return 0
        words: list[Message] = []
        count = 0
        while entries and (entries[0][0] <= now or not entries[0][2]):
            _, message, counted = entries.popleft()
            count += counted
            if not counted:
                _merge(words, message)
        self._size -= count
        metrics.layer["expired"] += count
        if count and self.told_as is not None:
            _merge(words, self._word("expired", count))
        entries.extendleft((inf, word, False) for word in reversed(words))
        return count

    def lose(self, reason: Loss, count: int | None, here: asyncio.AbstractEventLoop | None) -> None:
        """Tell the reader at this place of the order, if it wants to hear; `count` None: nobody knows."""
        if self.told_as is not None:
            self.say(self._word(reason, count), here)

    def say(self, notice: Message, here: asyncio.AbstractEventLoop | None) -> None:
        """Put something of the layer's own in line; the same kind twice in a row is said once."""
        if self._entries and not self._entries[-1][2] and _add(self._entries[-1][1], notice):
            return
        self._entries.append((inf, notice, False))
        self.wake(here)

    def clear(self) -> None:
        """Forget all of it."""
        self._entries.clear()
        self._size = 0

    def wake(self, here: asyncio.AbstractEventLoop | None) -> None:
        """Have the first that waits look again."""
        while self.waiters:
            waiter = self.waiters.pop(0)
            if waiter.done():
                continue
            loop = waiter.get_loop()
            if loop is here:
                waiter.set_result(None)
                return
            try:
                loop.call_soon_threadsafe(_wake, waiter)
            except RuntimeError:  # its loop is closed, and it with it
                continue
            return

    def leave(self, waiter: asyncio.Future[None], here: asyncio.AbstractEventLoop) -> None:
        """It waits no longer; if it was just woken, the next is."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)
        elif self._entries:
            self.wake(here)

    def _word(self, reason: Loss, count: int | None) -> Message:
        return {"type": self.told_as, "reason": reason, "count": count}


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _merge(words: list[Message], word: Message) -> None:
    if not any(_add(said, word) for said in words):
        words.append(word)


def _add(said: Message, word: Message) -> bool:
    """Whether `said` says `word` as well, now that it counts its losses too."""
    if (said["type"], said.get("reason")) != (word["type"], word.get("reason")):
        return False
    if "count" in said:
        counts = said["count"], word["count"]
        said["count"] = None if None in counts else sum(counts)
    return True
