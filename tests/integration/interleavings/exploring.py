"""Every order in which actors can take their steps, each order played from the beginning.

Invariant: two orders that are counted differ in what happened: an actor that has come to its end takes no more steps,
twins are not told apart before they begin, and an order in which a step did nothing (`Void`) is not counted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

Doing = AsyncGenerator[None, None]


class Void(Exception):
    """The step found nothing to do here, so this order is that of the other actors alone."""


@dataclass(slots=True)
class Actor:
    """Somebody who does one thing after the other; actors of one name are twins."""

    name: str
    #: What it does: each `yield` ends a step, and so does the end.
    doing: Doing
    steps: int = 0
    over: bool = False

    async def step(self) -> None:
        """Take the next step.  Raises Void."""
        self.steps += 1
        try:
            await anext(self.doing)
        except StopAsyncIteration:
            self.over = True


async def explore(cast: Callable[[], Sequence[Actor]], ended: Callable[[], Awaitable[None]]) -> int:
    """Play all orders of a cast, which is called anew for each; `ended` judges it.  How many orders there were."""
    orders = 0
    untried: list[tuple[int, ...]] = [()]
    while untried:
        actors = cast()
        try:
            await _play(actors, untried)
        except Void:
            continue
        finally:
            for actor in actors:
                await actor.doing.aclose()
        await ended()
        orders += 1
    return orders


async def _play(actors: Sequence[Actor], untried: list[tuple[int, ...]]) -> None:
    """Play an order with the last of the untried beginnings; other beginnings that it passes are yet to be tried."""
    begin = untried.pop()
    order: tuple[int, ...] = ()
    while able := _able(actors):
        if len(order) < len(begin):
            taken = begin[len(order)]
        else:
            taken = able[0]
            untried += [(*order, other) for other in able[1:]]
        order = (*order, taken)
        await actors[taken].step()


def _able(actors: Sequence[Actor]) -> list[int]:
    """Who can take a step; of twins that have not begun, the first."""
    able: list[int] = []
    names: set[str] = set()
    for number, actor in enumerate(actors):
        if not actor.over and (actor.steps or actor.name not in names):
            able.append(number)
        if not actor.steps:
            names.add(actor.name)
    return able
