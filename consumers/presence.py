"""Who of this process is there, on the topics that tell it: shown in the store while they are, and announced.

Invariants: whoever has entered is seen by others when `enter` returns, until it leaves; it comes before it goes, for
everyone who hears of both, and each is announced once (again only where the store did not say that it heard).  Of a
process that is killed nobody announces that its clients have gone; they are not shown any more after a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from weakref import WeakKeyDictionary

from asgi_app.topics import Log
from asgi_app.wiring import Node, node
from cache_layer.errors import StoreUnavailable
from cache_layer.presence import LIFE, Change, Presence, Present

log = logging.getLogger(__name__)

#: Seconds between two times that everybody here is shown again.
SHOWN_EVERY = 20.0
#: Changes in one step.
_BATCH = 200
#: Seconds between tries while the store is away, and after which a change is of no interest any more.
_TRY_AGAIN, _WORTH = 0.5, LIFE
#: Seconds for what is to be said when the process ends.
_LAST_WORDS = 2.0


class Stay:
    """One client on one topic, from `Roll.enter` to `leave`."""

    __slots__ = ("_roll", "channel", "entering", "left", "shown", "since", "topic", "who")

    def __init__(self, roll: Roll, source: Log, who: Present) -> None:
        self._roll = roll
        self.topic, self.channel, self.who = source.topic, source.channel, who
        self.shown = source.rules.presence
        #: Others have been told that it has come, or soon will be.
        self.since: float | None = None
        self.left = False
        self.entering: asyncio.Task[None] | None = None

    def announce(self) -> None:
        """Tell all who follow the topic that it has come; `leave` will tell that it has gone."""
        self.since = time.monotonic()
        self._roll.say(self, b"J")

    def leave(self) -> None:
        """It is not there any more; may be called twice."""
        if not self.left:
            self.left = True
            self._roll.left(self)


class Roll:
    """All stays of one event loop.  Works as soon as it is made; `stop` ends what it began."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._here: dict[str, dict[str, Stay]] = {}
        self._news: deque[tuple[Stay, bytes, float]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._working: asyncio.Task[None] | None = None

    async def enter(self, source: Log, who: Present) -> Stay:
        """Be there: others see it when this returns.  Raises StoreUnavailable."""
        stay = Stay(self, source, who)
        if not stay.shown:
            return stay
        self._start()
        self._here.setdefault(stay.topic, {})[who.client] = stay
        stay.entering = asyncio.get_running_loop().create_task(self._presence.show(stay.topic, [who]))
        try:
            await asyncio.shield(stay.entering)
        except BaseException:
            stay.leave()
            raise
        return stay

    def left(self, stay: Stay) -> None:
        """It is not here any more."""
        here = self._here.get(stay.topic, {})
        if here.get(stay.who.client) is stay:
            del here[stay.who.client]
            if not here:
                del self._here[stay.topic]
        if stay.shown or stay.since is not None:
            self.say(stay, b"G")

    async def everybody(self, topic: str) -> dict[str, bytes]:
        """The info of each client that is on a topic, in any process.  Raises StoreUnavailable."""
        return await self._presence.everybody(topic)

    async def count(self, topic: str) -> tuple[int, int]:
        """How many clients, and how many different users.  Raises StoreUnavailable."""
        return await self._presence.count(topic)

    def say(self, stay: Stay, kind: bytes) -> None:
        """Tell that it has come, or has gone, behind what is to be told already."""
        self._start()
        self._news.append((stay, kind, time.monotonic()))
        self._idle.clear()
        self._wake.set()

    async def stop(self) -> None:
        """Say what is left to say, and end; may be called twice."""
        if self._working is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._idle.wait()
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
            self._working = None

    # The one task that does it all, so that nothing overtakes anything

    def _start(self) -> None:
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        show_at = time.monotonic() + SHOWN_EVERY
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, show_at - time.monotonic())):
                    await self._wake.wait()
            try:
                await self._tell()
                if time.monotonic() >= show_at:
                    await self._show_again()
                    show_at = time.monotonic() + SHOWN_EVERY
            except StoreUnavailable:
                await asyncio.sleep(_TRY_AGAIN)
            except Exception:
                log.exception("who is there could not be told")
                await asyncio.sleep(_TRY_AGAIN)

    async def _tell(self) -> None:
        self._wake.clear()
        while self._news:
            some = [self._news[number] for number in range(min(_BATCH, len(self._news)))]
            entering = [stay.entering for stay, _, _ in some if stay.entering is not None and not stay.entering.done()]
            if entering:  # what comes too late would stay there
                await asyncio.wait(entering)
            worth = time.monotonic() - _WORTH
            try:
                await self._presence.tell([_change(stay, kind) for stay, kind, at in some if at > worth])
            except StoreUnavailable:
                self._wake.set()
                raise
            for _ in some:
                self._news.popleft()
        self._idle.set()

    async def _show_again(self) -> None:
        for topic in tuple(self._here):
            there = [stay.who for stay in self._here.get(topic, {}).values()]
            if there:
                await self._presence.show(topic, there, again=True)


def _change(stay: Stay, kind: bytes) -> Change:
    message = kind + stay.who.info if stay.since is not None else b""
    gone = stay.who.client if kind == b"G" and stay.shown else ""
    return Change(topic=stay.topic, gone=gone, channel=stay.channel, message=message)


_rolls: WeakKeyDictionary[Node, Roll] = WeakKeyDictionary()


def roll() -> Roll:
    """The roll of this process's Node, made at its first use.  Raises RuntimeError outside of a started Node."""
    here = node()
    if here not in _rolls:
        _rolls[here] = Roll(Presence(here.store))
    return _rolls[here]
