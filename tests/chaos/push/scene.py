"""What all scenes share: where they play, whom they tell, and the end of each: everybody has everything."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.push.books import Kind
from tests.chaos.push.children import Child
from tests.chaos.push.deployment import Deployment

#: Clients of one process.
_CROWD = 1000


@dataclass(slots=True)
class Scene:
    """One run of one scene."""

    name: str
    home: Path
    dice: random.Random
    #: 1 for the whole of it; smaller for fewer clients and seconds.
    scale: float = 1.0
    wrong: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Tell whoever watches the run."""
        print(f"{time.monotonic() - self.began:6.1f} s  {self.name}: {what}", flush=True)

    def blame(self, what: str) -> None:
        """A promise was broken."""
        self.wrong.append(f"{self.name}: {what}")
        print(f"          {self.name}: WRONG: {what}", flush=True)

    def expect(self, kept: object, what: str) -> None:
        """Blame `what` unless so."""
        if not kept:
            self.blame(what)

    def clients(self, count: int) -> int:
        """So many, to scale."""
        return max(4, round(count * self.scale))

    def seconds(self, whole: float, least: float = 2.0) -> float:
        """So long, to scale."""
        return max(least, whole * self.scale)


Play = Callable[[Scene], Coroutine[Any, Any, None]]


class Audience:
    """The clients of a scene, in as many processes as they need."""

    def __init__(self, fleets: list[Child]) -> None:
        self._fleets = fleets
        self.count = 0

    async def add(self, count: int, topics: dict[str, Kind], within: float = 30.0, token: str = "") -> int:
        """More of them; how many of all are subscribed to everything."""
        share, rest = divmod(count, len(self._fleets))
        self.count += count
        shares = [share + (number < rest) for number in range(len(self._fleets))]
        return sum(
            [
                await fleet.ask("add", count=some, topics=topics, within=within, token=token)
                for fleet, some in zip(self._fleets, shares, strict=True)
            ]
        )

    async def whole(self, within: float) -> int:
        """How many are subscribed to everything, after that time at the latest."""
        deadline = time.monotonic() + within
        return sum([await one.ask("whole", within=max(0.0, deadline - time.monotonic())) for one in self._fleets])

    async def drop(self) -> float:
        """All lose their connections at once; when."""
        dropped = [await fleet.ask("drop") for fleet in self._fleets]
        return float(dropped[0])

    async def seen(self) -> list[dict[str, Any]]:
        """Of each process: what its clients have met since the last time."""
        return [await fleet.ask("seen") for fleet in self._fleets]

    async def arrive(self, scene: Scene, topic: str, top: Any, within: float, what: str) -> float:
        """All have come to the top of a topic; blames who has not.  When."""
        at = 0.0
        for fleet in self._fleets:
            found = await fleet.ask("arrive", topic=topic, top=top, within=within)
            at = max(at, found["at"])
            if found["there"] != found["of"]:
                stands = (await fleet.ask("record", topic=topic))[:5]
                scene.blame(f"{what}: {found['there']} of {found['of']} came to {top}; they stand at {stands}")
        return at

    async def audit(self, scene: Scene, topic: str, ledger: str, what: str, *, losses: int = 0) -> dict[str, int]:
        """The books of a topic; `losses`: how often each client may have been told that something is lost."""
        total: dict[str, int] = {}
        for fleet in self._fleets:
            found = await fleet.ask("audit", topic=topic, ledger=ledger, losses=losses > 0)
            for one in found.pop("wrong"):
                scene.blame(f"{what}: {one}")
            for name, number in found.items():
                total[name] = total.get(name, 0) + number
        scene.expect(total["losses"] <= losses * total["clients"], f"{what}: {total['losses']} losses were told")
        said = ", ".join(f"{total[name]} {name}" for name in ("clients", "told", "gaps", "duplicates", "losses"))
        scene.say(f"{what}: books: {said}")
        return total


@asynccontextmanager
async def audience(scene: Scene, deployment: Deployment, clients: int) -> AsyncIterator[Audience]:
    """Processes for so many clients."""
    async with AsyncExitStack() as stack:
        fleets = []
        for number in range(-(-clients // _CROWD)):
            fleet = deployment.fleet(f"{scene.dice.random()} {number}")
            fleets.append(await stack.enter_async_context(fleet))
        yield Audience(fleets)
