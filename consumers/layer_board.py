"""The channels of this process and who belongs to which group: shared by all its event loops and threads.

Invariant: a channel is kept exactly as long as the name that was given out for it is held by somebody, or somebody
waits for its messages, or unread ones have not expired: consumers that end, in whichever way, leave nothing behind.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from consumers.layer_mailbox import Mailbox

if TYPE_CHECKING:
    from consumers.layer_post import Post


class Name(str):
    """A channel's name as it is given out: a str of which can be known that nobody has it any more."""


class Board:
    """All mailboxes.  Every attribute and every Mailbox is touched with `lock` held only."""

    def __init__(self, capacity: Callable[[str], int], told_as: str | None, expiry: float) -> None:
        """`told_as`: type of the message that tells consumers of losses, or None."""
        self.lock = threading.Lock()
        self.boxes: dict[str, Mailbox] = {}
        self._capacity = capacity
        self._told_as = told_as
        self._expiry = expiry
        self._strays: set[str] = set()
        self._strays_seen = 0.0
        #: Names that nobody holds any more.  Their owners die anywhere, also while the lock is held.
        self._departed: deque[str] = deque()

    def give_out(self, text: str, home: Post) -> Name:
        """The name of a new channel."""
        name, departed = Name(text), self._departed
        with self.lock:
            self.sweep()
            box = self.box(text)
            self._strays.discard(text)
            box.home = home
            box.owner = weakref.ref(name, lambda _: departed.append(text))
        return name

    def box(self, name: str) -> Mailbox:
        """That of a channel of this process, made if need be."""
        found = self.boxes.get(name)
        if found is None:
            name = str(name)  # a plain one: as a key here it must not be held
            found = self.boxes[name] = Mailbox(name, self._capacity(name), self._told_as)
            self._strays.add(name)
        return found

    def sweep(self) -> None:
        """Forget channels whose consumers are gone."""
        if not self._departed and not self._strays:
            return
        while self._departed:
            box = self.boxes.get(self._departed.popleft())
            if box is not None:
                box.owner = None
                if box.waiters:
                    self._strays.add(box.name)  # somebody has a copy of the name
                else:
                    self.forget(box)
        now = time.monotonic()
        if self._strays and now - self._strays_seen > self._expiry:
            self._strays_seen = now
            for box in [self.boxes[name] for name in self._strays]:
                self._look_at(box, now)

    def _look_at(self, box: Mailbox, now: float) -> None:
        """A channel whose name was never given out, or only a copy of it is left: does anybody read it?"""
        expired = box.expire(now)
        for group, post in list(box.groups.items()):
            if post.groups[group][box] <= now:
                post.part_with(group, box)
        if not box.waiters and not len(box) and (expired or not box.groups):
            self.forget(box)

    def forget(self, box: Mailbox) -> None:
        """It is in no group any more, and its messages are gone."""
        for group, post in list(box.groups.items()):
            post.part_with(group, box)
        del self.boxes[box.name]
        self._strays.discard(box.name)

    def clear(self, here: asyncio.AbstractEventLoop | None) -> None:
        """No messages, no groups; who waits looks again."""
        for box in list(self.boxes.values()):
            for group, post in list(box.groups.items()):
                post.part_with(group, box)
            box.clear()
            box.wake(here)
