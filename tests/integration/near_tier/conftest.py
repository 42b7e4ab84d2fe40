"""What the tests of near copies share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.store import StoreServer


@pytest.fixture(scope="module")
def server() -> Iterator[StoreServer]:
    """A store that may be flushed and filled, and whose users may be made."""
    with tempfile.TemporaryDirectory() as home:
        made = StoreServer(Path(home, "near.sock"))
        made.start()
        yield made
        made.stop()
