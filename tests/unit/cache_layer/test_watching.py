"""What users follow, as a process holds it."""

from __future__ import annotations

from typing import Any

import pytest

from cache_layer import watching
from cache_layer.watching import Watching


def test_who_finds_no_room_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many users come and go while as many topics are held as there may be."""
    monkeypatch.setattr(watching, "_MOST", 0)
    store: Any = None
    here = Watching(store)
    for number in range(10):
        here.add(str(number), "a topic")
        here.discard(str(number), "a topic")
    assert not here._held
