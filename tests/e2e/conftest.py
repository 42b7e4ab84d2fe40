"""One running service for all tests that only use it; tests that break it start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import databases
from tests.support.service import Service
from tests.support.shell import Shell


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two web processes, a worker with four children, a scheduler, the tests' declarations; no demo."""
    running = Service(
        tmp_path_factory.mktemp("service"),
        "--no-demo",
        MILLPOND_WEB_PROCESSES="2",
        MILLPOND_WORKER_CONCURRENCY="4",
    ).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def shell(service: Service) -> Iterator[Shell]:
    """For code beside the running service."""
    with Shell(service) as running:
        yield running


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own, to be broken."""
    running = Service(tmp_path, "--no-demo", MILLPOND_WORKER_CONCURRENCY="2").start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A database of the test's own; its URL."""
    with databases.database("postgresql", "service") as url:
        yield url


@pytest.fixture
def mariadb() -> Iterator[str]:
    """A database of the test's own; its URL."""
    with databases.database("mariadb", "service") as url:
        yield url
