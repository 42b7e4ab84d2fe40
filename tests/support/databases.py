"""Databases of a test's own on the servers of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pymysql

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
