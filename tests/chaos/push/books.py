"""What clients were told, held against what was published.

Pure.  A client's record of a topic is a list of stretches: each begins with a position the server has told it, at the
first subscribe or together with the news that what lies between is lost.  Invariant: `wrong` is empty only if nobody
was told anything twice, out of order, or past a hole it was not told of.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["log", "value"]
#: (epoch, offset) -> number of what was published there.
Published = Mapping[tuple[str, int], int]


@dataclass(slots=True)
class Stretch:
    """Publications after one another, of one epoch."""

    epoch: str
    #: The offset the client was told to go on from.
    start: int
    offsets: array[int] = field(default_factory=lambda: array("q"))
    #: What they contain.
    numbers: array[int] = field(default_factory=lambda: array("q"))

    @property
    def top(self) -> int:
        return self.offsets[-1] if self.offsets else self.start


@dataclass(slots=True)
class Record:
    """All that one client was told of one topic."""

    kind: Kind = "log"
    stretches: list[Stretch] = field(default_factory=list)
    #: What a client must not see, as it happened.
    wrong: list[str] = field(default_factory=list)
    duplicates: int = 0
    gaps: int = 0

    @property
    def position(self) -> tuple[str, int] | None:
        """Where the client stands."""
        return (self.stretches[-1].epoch, self.stretches[-1].top) if self.stretches else None

    @property
    def losses(self) -> int:
        """How often it was told to begin anew."""
        return max(0, len(self.stretches) - 1)

    def begins(self, epoch: str, offset: int) -> None:
        """The server has told a position, and that what was before it is lost (or it is the first)."""
        self.stretches.append(Stretch(epoch, offset))

    def recovered(self, epoch: str, offset: int) -> None:
        """The server says that all that was missed follows."""
        if self.position is None or self.position[0] != epoch:
            self.wrong.append(f"recovered in epoch {epoch} from {self.position}")
            self.begins(epoch, offset)
        elif self.kind == "log" and offset != self.position[1]:
            self.wrong.append(f"recovered from {offset} instead of {self.position[1]}")

    def told(self, offset: int, number: int) -> None:
        """A publication with an offset."""
        if not self.stretches:
            self.wrong.append(f"told {offset} before any position")
            self.begins("", offset - 1)
        stretch = self.stretches[-1]
        top = stretch.top
        if offset <= top:
            self.duplicates += 1
            self.wrong.append(f"{offset} after {top}")
            return
        if offset != top + 1 and self.kind == "log":
            self.gaps += 1
            self.wrong.append(f"{offset} after {top}: an untold hole")
        stretch.offsets.append(offset)
        stretch.numbers.append(number)


def audit(records: Mapping[str, Record], published: Published, *, losses: bool) -> list[str]:
    """What is wrong with the records of one topic; `losses`: its history may have come to an end, once or more."""
    wrong, seen = [], dict(published)
    for who, record in records.items():
        wrong += [f"{who}: {what}" for what in record.wrong]
        if record.losses and not losses:
            wrong.append(f"{who}: was told {record.losses} times that something is lost, and nothing was")
        for stretch in record.stretches:
            wrong += [f"{who}: {what}" for what in _contents(stretch, seen)]
            if record.kind == "value" and any(
                a > b for a, b in zip(stretch.numbers, stretch.numbers[1:], strict=False)
            ):
                wrong.append(f"{who}: went back to an older value")
    return wrong


def _contents(stretch: Stretch, seen: dict[tuple[str, int], int]) -> Iterable[str]:
    """Everybody is told the same at the same position: what was published there, if its publisher knows."""
    for offset, number in zip(stretch.offsets, stretch.numbers, strict=True):
        if seen.setdefault((stretch.epoch, offset), number) != number:
            yield f"at {stretch.epoch}:{offset} there was {seen[stretch.epoch, offset]}, and it was told {number}"


def behind(records: Mapping[str, Record], top: tuple[str, int]) -> list[str]:
    """Who does not stand where the topic stands."""
    return [f"{who} stands at {one.position}, not at {top}" for who, one in records.items() if one.position != top]


def quantile(values: Sequence[float], share: float) -> float:
    """Of unsorted values; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def codes(counted: Mapping[str, int]) -> str:
    """Close codes for people."""
    return ", ".join(f"{count} x {code}" for code, count in sorted(counted.items())) or "none"
