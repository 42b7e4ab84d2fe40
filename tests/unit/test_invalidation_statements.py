"""Which statements change a watched table: all that write and name it, in any spelling, and none that read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_app.invalidating.statements import Tables


def tables(*names: str) -> Tables:
    watched = Tables()
    for name in names:
        watched.watch([name], [f"of {name}"])
    return watched


ORDERS = tables("shop_order")

WRITING = [
    'INSERT INTO "shop_order" ("a") VALUES (%s) RETURNING "shop_order"."id"',
    "INSERT INTO `shop_order` (`a`) VALUES (%s)",
    "insert into shop_order(a) values (1)",
    "INSERT OR IGNORE INTO shop_order VALUES (1)",
    "REPLACE INTO `shop_order` VALUES (1)",
    'UPDATE "shop_order" SET "a" = %s',
    "UPDATE ONLY public.shop_order SET a = 1",
    "UPDATE other JOIN shop_order USING (id) SET shop_order.a = 1",
    'DELETE FROM "public"."shop_order" WHERE id IN (SELECT 1)',
    "delete\nfrom\n\tshop_order",
    "DELETE shop_order FROM shop_order JOIN other USING (id)",
    "MERGE INTO [shop_order] USING other ON (1=1) WHEN MATCHED THEN DO NOTHING",
    "TRUNCATE shop_order",
    'TRUNCATE TABLE "other", "shop_order" CASCADE',
    "WITH gone AS (DELETE FROM shop_order RETURNING *) SELECT * FROM gone",
    "SELECT 1; DELETE FROM shop_order",
    "SET LOCAL statement_timeout = 0; UPDATE shop_order SET a = 1;",
    "  -- why\n/* by whom */ UPDATE shop_order SET a = 1",
    "EXPLAIN ANALYZE DELETE FROM shop_order",
    "UPDATE SHOP_ORDER SET a = 1",
]

NOT_WRITING = [
    'SELECT "shop_order"."id" FROM "shop_order" FOR UPDATE',
    "\n  SELECT * FROM shop_order WHERE a = 'delete'",
    "(SELECT a FROM shop_order) UNION (SELECT a FROM shop_order)",
    "-- delete from shop_order\nSELECT * FROM shop_order",
    "/* UPDATE shop_order */ (SELECT * FROM shop_order)",
    "WITH all_of_it AS (SELECT * FROM shop_order) SELECT * FROM all_of_it",
    'SAVEPOINT "s1"',
    "BEGIN",
    "CREATE INDEX i ON shop_order (a)",
    "",
    "   ",
]

OTHER_TABLES = [
    'UPDATE "shop_order_line" SET "a" = 1',
    "UPDATE shop_orders SET a = 1",
    "INSERT INTO old_shop_order VALUES (1)",
    "DELETE FROM shop_order$old",
    "DELETE FROM workshop_order",
]


@pytest.mark.parametrize("sql", WRITING)
def test_a_statement_that_writes_is_seen(sql: str) -> None:
    """Whatever its quotes, letters, comments, and wherever in it the change stands."""
    assert ORDERS.outdated_by(sql) == {"of shop_order"}


@pytest.mark.parametrize("sql", NOT_WRITING)
def test_a_statement_that_reads_is_let_pass(sql: str) -> None:
    """Also where it talks of writing."""
    assert ORDERS.outdated_by(sql) == frozenset()


@pytest.mark.parametrize("sql", OTHER_TABLES)
def test_a_table_whose_name_is_part_of_another_is_not_mistaken_for_it(sql: str) -> None:
    """Names end where names end."""
    assert ORDERS.outdated_by(sql) == frozenset()


def test_each_table_has_its_own_tags_and_may_have_many() -> None:
    """What was asked for twice adds up; a statement that names several tables outdates what hangs on any."""
    watched = tables("a", "b", "a_b")
    watched.watch(['"app"."A"'], ["more"])
    assert watched.outdated_by("DELETE FROM a") == {"of a", "more"}
    assert watched.outdated_by("DELETE FROM a_b") == {"of a_b"}
    assert watched.outdated_by("DELETE FROM a WHERE id IN (SELECT a FROM b)") == {"of a", "more", "of b"}
    assert Tables().outdated_by("DELETE FROM a") == frozenset()


_NAMES = st.text("abc_$1é", min_size=1, max_size=5)


@given(table=_NAMES, target=_NAMES, quote=st.sampled_from(['""', "``", "[]", "  "]))
@example(table="a$", target="a", quote="  ")
def test_the_target_of_a_statement_is_found_exactly(table: str, target: str, quote: str) -> None:
    """Of all tables, a statement with one target is held to change that one."""
    sql = " ".join(["UPDATE", quote[0] + target + quote[1], "SET x = %s"])
    assert bool(tables(table).outdated_by(sql)) == (table == target)
