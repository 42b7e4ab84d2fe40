"""What a subscriber is told first, given what its topic holds and the position it asks to recover from.

Pure.  Invariant: a client is told `recovered` only when everything it has missed is in the reply, of a value topic the
newest value; and the offset of a recovered reply is the one it asked from: it moves on by the publications themselves,
and told the top, it would lose them if it stopped in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache_layer.position import Position
from consumers.channel import News
from consumers.effects import Held, HeldLog
from consumers.frames import Subscribed


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a subscribe, and the publications that go along, in their order."""

    result: Subscribed
    publications: Sequence[News] = ()


def answer(since: Position | None, held: Held | HeldLog) -> Answer:
    """To a subscribe of a client."""
    return of_log(since, held) if isinstance(held, HeldLog) else of_value(since, held)


def of_log(since: Position | None, held: HeldLog) -> Answer:
    """All that was missed, or the top and nothing else."""
    if not held.recoverable:
        return Answer(Subscribed(position=None))
    if since is None or held.missed is None:
        return Answer(Subscribed(position=held.position, was_recovering=since is not None))
    position = Position(held.position.epoch, since.offset)
    return Answer(Subscribed(position=position, was_recovering=True, recovered=True), held.missed)


def of_value(since: Position | None, held: Held) -> Answer:
    """Latest wins: recovered as soon as the newest value is in the reply, or is the one the client holds already."""
    epoch, newest = held.position.epoch, held.position.offset
    holds_it = since is not None and since.offset > 0 and since == held.position
    give = held.value is not None and not holds_it
    # Without a value in the reply there is nothing to stand on: a position told here would count as held next time.
    start = newest if give or holds_it else 0
    if since is not None and give:
        start = min(since.offset, start - 1) if since.epoch in ("", epoch) else 0
    result = Subscribed(
        position=Position(epoch, max(0, start)),
        was_recovering=since is not None,
        recovered=since is not None and (holds_it or held.value is not None),
        data=_state(held),
    )
    return Answer(result, (held.value,) if give and held.value is not None else ())


def in_greeting(since: Position | None, held: Held | HeldLog) -> Answer:
    """To a subscribe of the server itself, in the reply to `connect`, whose publications clients read only when they
    are recovered: else a value follows as a push."""
    if since is not None or isinstance(held, HeldLog):
        return answer(since, held)
    return Answer(Subscribed(position=Position(held.position.epoch, 0), data=_state(held)))


def _state(held: Held) -> dict[str, object]:
    return {"state": held.state, "age": round(held.age, 3), "job": held.job}
