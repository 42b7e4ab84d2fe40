"""Databases of a test's own on the servers of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pymysql

from tests.support.child import ROOT

#: What `database` knows.
KINDS = ("postgresql", "mariadb")


@contextmanager
def database(kind: str, purpose: str) -> Iterator[str]:
    """The URL of a new, empty database, which is dropped in the end.  `kind`: one of `KINDS`; `purpose`: a word."""
    name = f"millpond_{purpose}_{os.getpid()}"
    if kind == "postgresql":
        with psycopg.connect("postgresql://127.0.0.1:5432/postgres", user="postgres", autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name}")
            yield f"postgresql://postgres@127.0.0.1:5432/{name}"
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        return
    connection = pymysql.connect(host="127.0.0.1", user="root", password="")
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        yield f"mysql://root@127.0.0.1:3306/{name}"
        cursor.execute(f"DROP DATABASE {name}")


@contextmanager
def beside(kind: str, purpose: str) -> Iterator[str]:
    """The URL of a database that is not there: tests are run in one beside it, which is dropped in the end."""
    name = f"{purpose}_{os.getpid()}"
    if kind == "postgresql":
        yield f"postgresql://postgres@127.0.0.1:5432/{name}"
        with psycopg.connect("postgresql://127.0.0.1:5432/postgres", user="postgres", autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS test_{name} WITH (FORCE)")
        return
    yield f"mysql://root@127.0.0.1:3306/{name}"
    with pymysql.connect(host="127.0.0.1", user="root", password="") as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS test_{name}")


def run_there(url: str, *suites: str) -> None:
    """Run files of tests in a process of their own, on the database at `url`; threads may stay connected to it."""
    # Not that of this run: pytest-django reads the settings before the conftest of the other one can make them.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MILLPOND_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--reuse-db", *suites],
        cwd=ROOT,
        env={**environment, "TESTS_DATABASE_URL": url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
