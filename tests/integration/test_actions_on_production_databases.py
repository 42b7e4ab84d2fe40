"""PostgreSQL and MariaDB: their clocks, their locks, their isolation; what is promised of actions is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pymysql
import pytest

from asgi_app.environment.addresses import for_django
from tests.support.child import ROOT

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a database; its tests are run in one beside it, which is dropped in the end."""
    name = f"actions_{os.getpid()}"
    if request.param == "postgresql":
        yield f"postgresql://postgres@127.0.0.1:5432/{name}"
        with psycopg.connect("postgresql://127.0.0.1:5432/postgres", user="postgres", autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS test_{name} WITH (FORCE)")
        return
    yield f"mysql://root@127.0.0.1:3306/{name}"
    with pymysql.connect(host="127.0.0.1", user="root", password="") as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS test_{name}")


def test_actions_in_the_database(database: str) -> None:
    """The suite of SQLite; threads may stay connected to its database."""
    # Not that of this run: pytest-django reads the settings before the conftest of the other one can make them.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MILLPOND_", "DJANGO_"))}
    suite = "tests/integration/test_actions_in_the_database.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--reuse-db", suite],
        cwd=ROOT,
        env={**environment, "TESTS_DATABASE_URL": database},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_the_clock_of_mariadb_says_utc() -> None:
    """Wherever its server is: moments that it wrote down are compared with moments that were computed here."""
    command = for_django("mysql://root@127.0.0.1:3306/mysql")["OPTIONS"]["init_command"]
    with pymysql.connect(host="127.0.0.1", user="root", password="") as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+05:00'")
        cursor.execute(command)
        cursor.execute("SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), CURRENT_TIMESTAMP())")
        assert cursor.fetchone() == (0,)
