"""A log as this process knows it: the newest publications in order, and how far each subscription has been told.

Pure state: no event loop, no store.  Live publications and reads feed it, and may overtake each other.  Invariants:
within an epoch publications enter it in the order of their offsets, without a hole and none twice; what a subscription
has not been told is found by reference, so that a slow holder costs a number and no queue; who was overrun, or stands
in another epoch, is told that it is lost and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from cache_layer.position import Position
from cache_layer.publication import Appended, Logged
from consumers.channel import LOST, News
from consumers.effects import HeldLog

if TYPE_CHECKING:
    from cache_layer.history import LogPage
    from consumers.channel import Subscription

#: Events held at least, where the log keeps fewer: for holders that are a little behind.
_LEAST = 128
#: Bytes of the events of one log that this process holds; older ones are in the store.
_BYTES = 4 * 2**20
#: Publications that came before those that belong in front of them, held until these were read; at most `_BYTES` too.
_EARLY = 1024
#: News handed out at once.
_PORTION = 16


class Ring:
    """What is known of one log topic."""

    def __init__(self, kept: int, ttl: float) -> None:
        """`kept`: publications the log keeps (0: positions mean nothing), and for how many seconds after the last."""
        self.subscriptions: dict[Subscription, None] = {}
        self.kept, self.ttl = kept, ttl
        #: Of the newest publication; None before the first read.
        self.position: Position | None = None
        #: Events so far.
        self.count = 0
        #: Until when who comes back is given what it has missed: the log forgets it then.
        self.kept_until = 0.0
        self._news: deque[News] = deque()
        self._size = 0
        self._most = max(kept, _LEAST)
        self._early: dict[Position, Logged] = {}
        self._early_size = 0
        #: Offset from which on every publication is here.
        self._first = 1

    # What comes live

    def appended(self, publication: Appended, now: float) -> tuple[bool, bool]:
        """A publication was made.  (there is something to tell, something before it has to be read)."""
        top, position = self.position, publication.position
        if top is not None and position.epoch == top.epoch:
            if position.offset <= top.offset:
                return False, False
            if position.offset == top.offset + 1:
                self._append(publication.logged, position)
                self.kept_until = now + self.ttl
                return True, not self._catch_up_early()
        size = len(publication.logged.data)
        if position not in self._early and len(self._early) < _EARLY and self._early_size + size <= _BYTES:
            self._early[position] = publication.logged
            self._early_size += size
        return False, True

    def ephemeral(self, kind: str, logged: Logged) -> None:
        """Something that is kept nowhere; there is something to tell."""
        self._push(News(kind, logged.data, None, self.count + 1, info=logged.info, tags=logged.tags))

    # What was read

    def read(self, page: LogPage, *, now: float) -> tuple[bool, bool]:
        """What the store has after our own position.  (there is something to tell, it has to be read again)."""
        before, count = self.position, self.count
        new = [logged for logged in page.publications if before is None or logged.offset > before.offset]
        first = new[0].offset if new else page.top + 1
        if before is None or before.epoch != page.epoch or first > before.offset + 1:
            self._begin(page)  # what lies between is gone: nobody who stands before it can go on
        else:
            self._take(new, page.epoch)
        # Of another epoch: it may be the next one, which has to be read then.
        strange = any(position.epoch != page.epoch for position in self._early)
        self._hold_early(at for at in self._early if at.epoch == page.epoch)
        followed = self._catch_up_early()
        self.kept_until = now + (self.ttl if page.life is None else page.life)
        behind = self.position is None or self.position.offset < page.top
        return self.count != count, strange or behind or not followed

    def _begin(self, page: LogPage) -> None:
        """Begin with what was read; who was told of anything before is lost."""
        self._news.clear()
        self._size = 0
        self.count += 1
        first = page.publications[0].offset if page.publications else page.top + 1
        self.position = Position(page.epoch, first - 1)
        self._first = first
        self._take(page.publications, page.epoch)
        for subscription in self.subscriptions:
            subscription.heard = -1

    def _take(self, publications: Sequence[Logged], epoch: str) -> None:
        for logged in publications:
            self._append(logged, Position(epoch, logged.offset))

    def _catch_up_early(self) -> bool:
        """Take what had come too early and fits now; False: there is still something missing before the rest."""
        top = self.position
        if not self._early or top is None:
            return True
        while (logged := self._early.pop(Position(top.epoch, top.offset + 1), None)) is not None:
            top = Position(top.epoch, top.offset + 1)
            self._append(logged, top)
        self._hold_early(at for at in self._early if at.epoch != top.epoch or at.offset > top.offset)
        return not self._early

    def _hold_early(self, positions: Iterable[Position]) -> None:
        self._early = {at: self._early[at] for at in positions}
        self._early_size = sum(len(logged.data) for logged in self._early.values())

    # Holding

    def _append(self, logged: Logged, position: Position) -> None:
        self.position = position
        news = News("publication", logged.data, position, self.count + 1, info=logged.info, tags=logged.tags)
        self._push(news)

    def _push(self, news: News) -> None:
        self.count += 1
        self._news.append(news)
        self._size += len(news.payload)
        while len(self._news) > self._most or (self._size > _BYTES and len(self._news) > 1):
            gone = self._news.popleft()
            self._size -= len(gone.payload)
            if gone.position is not None:
                self._first = gone.position.offset + 1

    # What a subscription is told

    def news_for(self, subscription: Subscription) -> list[News]:
        """What it has not been told yet, a portion of it; told hereby."""
        missed = self.count - subscription.heard
        if missed <= 0:
            return []
        held = len(self._news)
        if missed > held or subscription.heard < 0:
            subscription.heard = self.count
            return [LOST]
        if missed == 1:
            told = [self._news[-1]]
        else:
            start = held - missed
            told = list(islice(self._news, start, min(held, start + _PORTION)))
        subscription.heard += len(told)
        for news in told:
            if news.position is not None:
                subscription.sent = news.position
        return told

    def after(self, heard: int) -> Sequence[News] | None:
        """All that is new for who has heard so many events; None: it is too much at once, or not the same for all."""
        missed, held = self.count - heard, len(self._news)
        if missed > min(held, _PORTION):  # who is lost has missed more than there is
            return None
        news = (self._news[-1],) if missed == 1 else tuple(islice(self._news, held - missed, held))
        return news if all(one.position is not None for one in news) else None

    def lacks(self, since: Position) -> bool:
        """Whether the store may have what this process does not, of what was missed since a position."""
        top = self.position
        if top is None or since.epoch not in ("", top.epoch) or since.offset > top.offset:
            return False
        return top.offset - self.kept <= since.offset < self._first - 1

    def begin(self, subscription: Subscription, since: Position | None, older: list[News], now: float) -> HeldLog:
        """What a new subscription is told before anything that comes later; `older`: what was read for it besides."""
        subscription.heard, subscription.sent = self.count, self.position
        top = self.position or Position("", 0)
        if since is None or not self.kept:
            return HeldLog(position=top, missed=None, recoverable=bool(self.kept))
        return HeldLog(position=top, missed=self._missed(since, top, older, now), recoverable=True)

    def _missed(self, since: Position, top: Position, older: list[News], now: float) -> list[News] | None:
        """The publications after a position, oldest first; None when not all of them are here."""
        if since.epoch not in ("", top.epoch) or since.offset > top.offset:
            return None
        if since.offset == top.offset:
            return []
        # The same answer from every process, whatever it still holds for those who are a little behind.
        if now >= self.kept_until or top.offset - since.offset > self.kept:
            return None
        here = [news for news in self._news if news.position is not None and news.position.offset > since.offset]
        offsets = {news.position.offset for news in here if news.position is not None}
        # What the store told and the feed has not yet is announced afterwards: here it would be out of its place.
        before = [one for one in older if one.position is not None and since.offset < one.position.offset <= top.offset]
        missed = [one for one in before if one.position is not None and one.position.offset not in offsets] + here
        whole = len(missed) == top.offset - since.offset
        return missed if whole and all(one.position and one.position.epoch == top.epoch for one in missed) else None


def as_news(page: LogPage) -> list[News]:
    """Publications that were read for one subscription only."""
    return [
        News("publication", logged.data, Position(page.epoch, logged.offset), 0, info=logged.info, tags=logged.tags)
        for logged in page.publications
    ]
