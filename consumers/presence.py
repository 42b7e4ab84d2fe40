"""Who of this process is there, on the topics that tell it: shown in the store while they are, and announced.

Invariants: whoever has entered is seen by others when `enter` returns, until it leaves; it comes before it goes, for
everyone who hears of both, and each is announced once (again only where the store did not say that it heard).  One task
says it all, so that nothing overtakes anything.  Of a process that is killed nobody announces that its clients have
gone; they are not shown any more after a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Literal
from weakref import WeakKeyDictionary

from asgi_app.topics import Log
from asgi_app.wiring import Node, node
from cache_layer.errors import StoreUnavailable
from cache_layer.presence import LIFE, Change, Presence, Present

log = logging.getLogger(__name__)

#: Seconds between two times that everybody here is shown again.
SHOWN_EVERY = 20.0
#: What is said in one step.
_BATCH = 200
#: Seconds between tries while the store is away, and after which it is of no interest any more who came or went.
_TRY_AGAIN, _WORTH = 0.5, LIFE
#: Seconds for what is to be said when the process ends.
_LAST_WORDS = 2.0


class Stay:
    """One client on one topic, from `Roll.enter` to `leave`."""

    __slots__ = ("_roll", "announced", "channel", "left", "shown", "topic", "who")

    def __init__(self, roll: Roll, source: Log, who: Present) -> None:
        self._roll = roll
        self.topic, self.channel, self.who = source.topic, source.channel, who
        self.shown = source.rules.presence
        self.announced = False
        self.left = False

    def announce(self) -> None:
        """Tell all who follow the topic that it has come; `leave` will tell that it has gone."""
        self.announced = True
        self._roll.say("came", self)

    def leave(self) -> None:
        """It is not there any more; may be called twice."""
        if not self.left:
            self.left = True
            self._roll.left(self)


@dataclass(frozen=True, slots=True)
class _Said:
    kind: Literal["enters", "came", "gone"]
    stay: Stay
    at: float
    #: Done when it is there.
    there: asyncio.Future[None] | None = None

    def change(self) -> Change:
        stay = self.stay
        mark = b"J" if self.kind == "came" else b"G"
        return Change(
            topic=stay.topic,
            gone=stay.who.client if self.kind == "gone" and stay.shown else "",
            channel=stay.channel,
            message=mark + stay.who.info if stay.announced else b"",
        )


class Roll:
    """All stays of one event loop.  Works as soon as it is made; `stop` ends what it began."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._here: dict[str, dict[str, Stay]] = {}
        self._to_say: deque[_Said] = deque()
        self._wake = asyncio.Event()
        self._silent = asyncio.Event()
        self._silent.set()
        self._working: asyncio.Task[None] | None = None

    async def enter(self, source: Log, who: Present) -> Stay:
        """Be there: others see it when this returns.  Raises StoreUnavailable."""
        stay = Stay(self, source, who)
        if stay.shown:
            self._here.setdefault(stay.topic, {})[who.client] = stay
            there = asyncio.get_running_loop().create_future()
            self.say("enters", stay, there)
            try:
                await there
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
        if stay.shown or stay.announced:
            self.say("gone", stay)

    async def everybody(self, topic: str) -> dict[str, bytes]:
        """The info of each client that is on a topic, in any process.  Raises StoreUnavailable."""
        return await self._presence.everybody(topic)

    async def count(self, topic: str) -> tuple[int, int]:
        """How many clients, and how many different users.  Raises StoreUnavailable."""
        return await self._presence.count(topic)

    def say(
        self, kind: Literal["enters", "came", "gone"], stay: Stay, there: asyncio.Future[None] | None = None
    ) -> None:
        """Tell it, behind what is to be told already."""
        self._to_say.append(_Said(kind, stay, time.monotonic(), there))
        self._silent.clear()
        self._wake.set()
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work(), name="presence")

    async def stop(self) -> None:
        """Say what is left to say, and end; may be called twice."""
        if self._working is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._silent.wait()
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
            self._working = None

    async def _work(self) -> None:
        show_at = time.monotonic() + SHOWN_EVERY
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, show_at - time.monotonic())):
                    await self._wake.wait()
            try:
                await self._say_all()
                if time.monotonic() >= show_at:
                    await self._show_again()
                    show_at = time.monotonic() + SHOWN_EVERY
            except Exception as error:
                if not isinstance(error, StoreUnavailable):
                    log.exception("who is there could not be told")
                self._refuse(error)
                await asyncio.sleep(_TRY_AGAIN)

    async def _say_all(self) -> None:
        while self._to_say:
            entering = list(islice(takewhile(lambda said: said.kind == "enters", self._to_say), _BATCH))
            some = entering or list(islice(takewhile(lambda said: said.kind != "enters", self._to_say), _BATCH))
            if entering:
                await self._show(some)
            else:
                await self._presence.tell([said.change() for said in some])
            for _ in some:
                self._to_say.popleft()
        self._wake.clear()
        self._silent.set()

    async def _show(self, entering: Sequence[_Said]) -> None:
        of_topic: dict[str, list[_Said]] = {}
        for said in entering:
            of_topic.setdefault(said.stay.topic, []).append(said)
        shown = (self._presence.show(topic, [said.stay.who for said in some]) for topic, some in of_topic.items())
        found = await asyncio.gather(*shown, return_exceptions=True)
        for some, error in zip(of_topic.values(), found, strict=True):
            for said in some:
                _answer(said, error)

    def _refuse(self, error: Exception) -> None:
        """Whoever wants to enter cannot wait; what is to be told of others can, for a while."""
        for said in self._to_say:
            _answer(said, error)
        worth = time.monotonic() - _WORTH
        self._to_say = deque(said for said in self._to_say if said.there is None and said.at > worth)
        self._wake.set()

    async def _show_again(self) -> None:
        for topic in tuple(self._here):
            there = [stay.who for stay in self._here.get(topic, {}).values()]
            if there:
                await self._presence.show(topic, there, again=True)


def _answer(said: _Said, error: BaseException | None) -> None:
    if said.there is None or said.there.done():
        return
    if error is None:
        said.there.set_result(None)
    else:
        said.there.set_exception(error)


_rolls: WeakKeyDictionary[Node, Roll] = WeakKeyDictionary()


def roll() -> Roll:
    """The roll of this process's Node, made at its first use.  Raises RuntimeError outside of a started Node."""
    here = node()
    if here not in _rolls:
        _rolls[here] = Roll(Presence(here.store))
    return _rolls[here]
