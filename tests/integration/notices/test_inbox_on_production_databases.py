"""PostgreSQL and MariaDB: their locks, clocks, what they take for equal; what is promised of inboxes is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from tests.support.child import ROOT

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a database; its tests are run in one beside it, which is dropped in the end."""
    name = f"notices_{os.getpid()}"
    if request.param == "postgresql":
        yield f"postgresql://postgres@127.0.0.1:5432/{name}"
        with psycopg.connect("postgresql://127.0.0.1:5432/postgres", user="postgres", autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS test_{name} WITH (FORCE)")
        return
    yield f"mysql://root@127.0.0.1:3306/{name}"
    with pymysql.connect(host="127.0.0.1", user="root", password="") as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS test_{name}")


def test_inboxes(database: str) -> None:
    """The suites of SQLite that lean on the database; threads may stay connected to their database."""
    # Not that of this run: pytest-django reads the settings before the conftest of the other one can make them.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MILLPOND_", "DJANGO_"))}
    suites = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("inbox", "alerts", "completion")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--reuse-db", *suites],
        cwd=ROOT,
        env={**environment, "TESTS_DATABASE_URL": database},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
