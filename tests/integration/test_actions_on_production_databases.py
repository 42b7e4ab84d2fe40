"""PostgreSQL and MariaDB: their clocks, their locks, their isolation; what is promised of actions is the same."""

from __future__ import annotations

import pymysql
import pytest

from asgi_app.environment.addresses import for_django
from tests.support.databases import KINDS, beside, run_there

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


@pytest.mark.parametrize("kind", KINDS)
def test_actions_in_the_database(kind: str) -> None:
    """The suite of SQLite."""
    with beside(kind, "actions") as url:
        run_there(url, "tests/integration/test_actions_in_the_database.py")


def test_the_clock_of_mariadb_says_utc() -> None:
    """Wherever its server is: moments that it wrote down are compared with moments that were computed here."""
    command = for_django("mysql://root@127.0.0.1:3306/mysql")["OPTIONS"]["init_command"]
    with pymysql.connect(host="127.0.0.1", user="root", password="") as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+05:00'")
        cursor.execute(command)
        cursor.execute("SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), CURRENT_TIMESTAMP())")
        assert cursor.fetchone() == (0,)
