"""What a comparison hands to the runner: a table, and the sentences that belong to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Figures, ready to be read."""

    title: str
    #: What was done, in a sentence or two.
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """As a section of a document."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join([f"## {self.title}", "", self.about, "", *(f"| {' | '.join(line)} |" for line in lines)])
