"""A channel that is kept running: may it be shown as it is, and when has it to be looked at again?

Pure decisions beside the hub's book-keeping; the hub alone changes what is kept here.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from consumers.channel import Channel, Subscription

if TYPE_CHECKING:
    from asgi_app.topics import Source

#: Seconds between looks at a value that is on its way: its computation may have been lost.
LOOK_AGAIN = (3.0, 5.0)
#: Seconds for which a look at an unfinished value serves everyone who subscribes meanwhile.
_LOOK_SERVES = 1.0


class Line(Channel):
    """A channel with what the hub needs to keep it running."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        #: Equal for all holders: what to subscribe, what outdates it, whether to keep it fresh.
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
        #: Its subscribers are being judged anew.
        self.judging: asyncio.Task[None] | None = None
        self.judged_at = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.end: asyncio.TimerHandle | None = None
        self.sweeping = False
        self.sweep_again = False

    @property
    def idle(self) -> bool:
        return not self.seats

    def shows(self, now: float) -> bool:
        """Whether what is held may be given to a new subscriber without a read."""
        if not self.open or self.suspect or self.position is None:
            return False
        return now < self.fresh_until if self.state == "fresh" else now < self.read_at + _LOOK_SERVES

    def outdate(self) -> None:
        """The value was invalidated: whoever comes next has it read; until then nobody asks for it."""
        self.fresh_until = 0.0
        self.read_at = -math.inf

    def next_look(self, now: float, luck: float) -> float | None:
        """Seconds until the value should be read again, None for not by the clock.  `luck` in [0, 1) spreads looks."""
        watched = self.source.watched
        if self.suspect:
            return (1.0 - luck / 2) * self.look_again
        if self.state == "failed":
            return self.retry_after + luck / 2 if watched else None
        if self.waiting:
            soonest, latest = LOOK_AGAIN
            return soonest + luck * (latest - soonest) if watched or self.job is not None else None
        if not watched:
            return None
        # A little late rather than early, or the value would still be found fresh.  The loop's clock takes no infinity.
        left = min(86_400.0, max(0.2, self.fresh_until - now))
        return left + 0.05 + luck * min(0.45, 0.1 * left)
