"""A topic that is followed here: may it be shown as it is, and when has it to be looked at again?

Pure decisions beside the hub's book-keeping; the hub alone changes what is kept here.  A line is of one of two kinds,
and all that differs between them stands in this file.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from asgi_app.topics import Log, Snapshot, Source, Values
from cache_layer.history import LogPage
from cache_layer.position import Position
from cache_layer.publication import Appended, Changed, Ephemeral, Logged, Presence, Publication, Signal, Value
from consumers.channel import Channel, News, Subscription
from consumers.effects import Held, HeldLog
from consumers.ring import Ring

#: Seconds between looks at a value that is on its way: its computation may have been lost.
LOOK_AGAIN = (3.0, 5.0)
#: Seconds for which a look at an unfinished value serves everyone who subscribes meanwhile.
_LOOK_SERVES = 1.0
#: Computations whose time is remembered.
_COSTS = 31
#: Publications of a log that are read when it begins to be followed here.
_BEGIN_WITH = 256

#: (there is something to tell, something has to be read)
Heard = tuple[bool, bool]


class Line(ABC):
    """What the hub keeps of a topic beside its state."""

    #: The state's.
    subscriptions: dict[Subscription, None]
    count: int
    position: Position | None

    def __init__(self, source: Source, now: float) -> None:
        #: Equal for all holders: what to subscribe, what outdates it.
        self.source = source
        #: Those who follow it or are about to; the source of any of them serves to read.
        self.seats: dict[Subscription, None] = {}
        self.open = False
        self.closed = False
        #: Something may have been missed: it has to be read again, and is not given to new subscribers before.
        self.suspect = False
        #: A read in the background is waiting for its turn.
        self.queued = False
        self.read_at = 0.0
        #: Seconds until a read that was lost is tried again.
        self.look_again = LOOK_AGAIN[1]
        self.reading: asyncio.Task[None] | None = None
        #: Reads for subscribers who were away longer than what is held reaches back, by their offset.
        self.reading_older: dict[int, asyncio.Task[LogPage]] = {}
        #: Its subscribers are being judged anew; whoever comes was judged just before.
        self.judging: asyncio.Task[None] | None = None
        self.judged_at = now
        self.timer: asyncio.TimerHandle | None = None
        self.end: asyncio.TimerHandle | None = None
        self.sweeping = False
        self.sweep_again = False

    @property
    def idle(self) -> bool:
        return not self.seats

    @abstractmethod
    def shows(self, now: float) -> bool:
        """Whether what is held may be given to a new subscriber without a read."""

    def overtaken_by(self, since: Position, now: float) -> bool:
        """Whether the holder of a position may have been told more, by another process, than is known here."""
        top = self.position
        if top is None or since.epoch == "":
            return False
        if since.epoch != top.epoch:
            return now >= self.read_at + _LOOK_SERVES
        return since.offset > top.offset

    @abstractmethod
    def next_look(self, now: float, luck: float) -> float | None:
        """Seconds until it should be read again, None for not by the clock.  `luck` in [0, 1) spreads looks."""

    @abstractmethod
    def mark(self) -> int:
        """To be taken before a read begins, and given to `found` with its result."""

    @abstractmethod
    def question(self, source: Source) -> Coroutine[Any, Any, Any]:
        """The read itself, through the source of one of its holders."""

    @abstractmethod
    def found(self, answer: Any, mark: int, now: float) -> Heard:
        """The result of a read."""

    @abstractmethod
    def heard(self, publication: Publication | None, now: float) -> Heard:
        """A message of its channel."""

    @property
    @abstractmethod
    def watched(self) -> bool:
        """Whether it is kept fresh now: somebody follows it and looks."""

    @abstractmethod
    def outdate(self) -> bool:
        """Its value was invalidated, and nobody computes it anew by itself.  True: there is something to tell."""

    @abstractmethod
    def begin(
        self, subscription: Subscription, since: Position | None, older: list[News], now: float
    ) -> Held | HeldLog:
        """What a new subscription is told first."""

    @abstractmethod
    def news_for(self, subscription: Subscription) -> list[News]:
        """What a subscription has not been told yet."""

    @abstractmethod
    def after(self, heard: int) -> Sequence[News] | None:
        """All that is new for who has heard so many events; None: it is too much at once, or not the same for all."""


class ValueLine(Channel, Line):
    """A topic of which the latest value wins."""

    def __init__(self, source: Values, now: float) -> None:
        Channel.__init__(self)
        Line.__init__(self, source, now)
        self._watched = source.watched
        #: Seconds its latest computations took.
        self.costs: deque[float] = deque(maxlen=_COSTS)

    @property
    def watched(self) -> bool:
        # In the time of grace after the last has left it is kept fresh: reloads come back.
        return self._watched and (not self.seats or not all(seat.hidden for seat in self.seats))

    def shows(self, now: float) -> bool:
        if not self.open or self.suspect or self.position is None:
            return False
        return now < self.fresh_until if self.state == "fresh" else now < self.read_at + _LOOK_SERVES

    def question(self, source: Source) -> Coroutine[Any, Any, Snapshot]:
        assert source.kind == "value"
        return source.read()

    def found(self, answer: Snapshot, mark: int, now: float) -> Heard:
        if answer.cost and not self.costs:
            self.costs.append(answer.cost)
        return self.read(answer, mark, now=now)

    def heard(self, publication: Publication | None, now: float) -> Heard:
        if isinstance(publication, Value):
            entry = publication.entry
            self.costs.append(entry.compute_seconds)
            return self.published(entry.position, entry.payload, fresh=entry.fresh, now=now), False
        if isinstance(publication, Signal):
            self.signalled(publication.kind, publication.data)
            return True, False
        return False, isinstance(publication, Changed)

    def outdate(self) -> bool:
        """Whoever comes next has it read; until then nobody asks for it."""
        tell = self.state == "fresh" and self.value is not None
        self.fresh_until = 0.0
        self.read_at = -math.inf
        if tell:
            self.signalled("stale", b"{}")
        return tell

    def next_look(self, now: float, luck: float) -> float | None:
        if self.suspect:
            return (1.0 - luck / 2) * self.look_again
        if self.state == "failed":
            return self.retry_after + luck / 2 if self.watched else None
        if self.waiting:
            soonest, latest = LOOK_AGAIN
            return soonest + luck * (latest - soonest) if self.watched or self.job is not None else None
        if not self.watched:
            return None
        # A little late rather than early, or the value would still be found fresh.  The loop's clock takes no infinity.
        left = min(86_400.0, max(0.2, self.fresh_until - now))
        return left + 0.05 + luck * min(0.45, 0.1 * left)


class LogLine(Ring, Line):
    """A topic of which everything is told, in order."""

    watched = False

    def __init__(self, source: Log, now: float) -> None:
        Ring.__init__(self, source.rules.history, source.rules.ttl)
        self._looks = source.looks
        Line.__init__(self, source, now)

    def shows(self, now: float) -> bool:
        return self.open and not self.suspect and self.position is not None

    def mark(self) -> int:
        return 0

    def question(self, source: Source) -> Coroutine[Any, Any, LogPage]:
        assert source.kind == "log"
        here = self.position
        return source.read_log(None, _BEGIN_WITH) if here is None else source.read_log(here.offset, max(1, self.kept))

    def found(self, answer: LogPage, mark: int, now: float) -> Heard:
        return self.read(answer, now=now)

    def heard(self, publication: Publication | None, now: float) -> Heard:
        match publication:
            case Appended():
                return self.appended(publication, now)
            case Ephemeral(logged):
                self.ephemeral("publication", logged)
            case Presence(kind, info):
                self.ephemeral(kind, Logged(0, info))
            case _:
                return False, isinstance(publication, Changed)
        return True, False

    def outdate(self) -> bool:
        return False

    def next_look(self, now: float, luck: float) -> float | None:
        soonest, latest = self._looks
        return (1.0 - luck / 2) * self.look_again if self.suspect else soonest + luck * (latest - soonest)


def line_of(source: Source, now: float) -> ValueLine | LogLine:
    """A new line for a topic."""
    return ValueLine(source, now) if source.kind == "value" else LogLine(source, now)
