"""PostgreSQL and MariaDB: their locks, clocks, what they take for equal; what is promised of inboxes is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.databases import KINDS, beside, run_there

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


@pytest.mark.parametrize("kind", KINDS)
def test_inboxes(kind: str) -> None:
    """The suites of SQLite that lean on the database."""
    suites = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("inbox", "alerts", "completion")]
    with beside(kind, "notices") as url:
        run_there(url, *suites)
