"""What every unit test leaves behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.told import end_portal


@pytest.fixture(autouse=True)
def _no_loop_goes_on() -> Iterator[None]:
    """Synchronous code makes a loop for itself, which would go on looking for a store that is not there."""
    yield
    end_portal()
