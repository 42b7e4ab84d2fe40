"""The tests that the authors of centrifuge-python have written for their own server pass with ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients.suite import runner
from tests.support.service import Service


@pytest.fixture
def as_theirs(tmp_path: Path) -> Iterator[Service]:
    """A service with the topics and the secret of their tests."""
    settings = {"MILLPOND_APPS": "tests.support.clients.suite", "MILLPOND_TOKEN_SECRET": "secret"}
    running = Service(tmp_path / "home", "--no-demo", MILLPOND_WEB_PROCESSES="2", **settings).start()
    yield running
    assert running.stop() == 0


@pytest.mark.timeout(200)
def test_their_own_suite(as_theirs: Service, tmp_path: Path) -> None:
    """All of it but for Protobuf."""
    count, said = runner.outcome(as_theirs.port, tmp_path)
    assert count > 60, said
