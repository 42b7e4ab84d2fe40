"""One running service for all tests that only use it; tests that break it start their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from tests.support.service import Service


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


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own, to be broken."""
    running = Service(tmp_path, "--no-demo", MILLPOND_WORKER_CONCURRENCY="2").start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A database of the test's own; its URL."""
    name = f"millpond_{os.getpid()}"
    with psycopg.connect("postgresql://127.0.0.1:5432/postgres", user="postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        yield f"postgresql://postgres@127.0.0.1:5432/{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def mariadb() -> Iterator[str]:
    """A database of the test's own; its URL."""
    name = f"millpond_{os.getpid()}"
    server = pymysql.connect(host="127.0.0.1", user="root", password="")
    with server, server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        yield f"mysql://root@127.0.0.1:3306/{name}"
        cursor.execute(f"DROP DATABASE {name}")
