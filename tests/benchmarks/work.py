"""What every competitor computes: one table of some 2 KB of JSON, at once or after half a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Seconds the slow function takes.
SLOW_SECONDS = 0.5


def rows() -> list[dict[str, Any]]:
    """Always the same rows."""
    return [{"carrier": f"C{n:02}", "flights": 1000 + 7 * n, "mean": 12.5 + n, "late": n / 100} for n in range(34)]


def note(directory: Path, name: str) -> None:
    """Write down that the slow function ran for `name`."""
    with (directory / "computations").open("a") as ledger:
        ledger.write(f"{name}\n")


def noted(directory: Path, name: str) -> int:
    """How often it ran for `name`."""
    ledger = directory / "computations"
    return ledger.read_text().splitlines().count(name) if ledger.exists() else 0
