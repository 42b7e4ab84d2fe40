"""Scenes of the push harness in small: some dozen clients, some seconds.  At their size all are `tests.chaos.push`."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from tests.chaos.push.__main__ import SCENES
from tests.chaos.push.scene import Scene


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["kills"])  # the others take long, mean little in small, or are tested elsewhere
async def test_in_small(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No promise is broken."""
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)  # what a proxy cuts is meant to be cut
    scene = Scene(name, tmp_path / "home", random.Random(name), scale=0.04)
    await SCENES[name](scene)
    assert not scene.wrong
