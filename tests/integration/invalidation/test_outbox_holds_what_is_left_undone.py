"""The outbox: written with the change, empty once it is invalidated, and carried out by a relay otherwise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction

from asgi_app import ainvalidate, invalidate, wiring
from asgi_app.invalidating import outbox
from asgi_app.models import Outbox
from cache_layer.errors import StoreUnavailable
from cache_layer.outdated import EVERYTHING, Outdated, of_tags
from tasks.relay import BATCH, relay
from tests.support.store import StoreServer
from tests.support.told import Told, rolled_back

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("portal", "declarations")]


def held() -> list[Outdated]:
    """What stands in the outbox, whatever its age."""
    return [row.outdated for row in outbox.due("default", older_than=-60, most=10_000)]


def relayed(age: float = -60.0) -> int:
    """One round of a relay on the portal's loop."""
    return wiring.call(lambda node: relay(node, age=age))


@contextmanager
def frozen(store: StoreServer) -> Iterator[None]:
    store.freeze()
    try:
        yield
    finally:
        store.thaw()


def _change(name: str) -> None:
    with transaction.atomic():
        Group.objects.create(name=name)
        invalidate(name)


def test_the_row_is_there_from_the_commit_until_the_invalidation_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for a transaction, without what was rolled back in it; and a second for what is soft."""
    seen: list[list[Outdated]] = []
    monkeypatch.setattr(wiring, "call", lambda *_: seen.append(held()))
    with transaction.atomic():
        invalidate("a")
        with rolled_back():
            invalidate("lost")
        with transaction.atomic():
            invalidate("b")
        assert held() == []
    assert (seen, held()) == ([[of_tags("a", "b")]], [])
    seen.clear()
    with transaction.atomic():
        invalidate("a", soft=True)
        invalidate("b")
    assert {frozenset(rows) for rows in seen} == {
        frozenset({of_tags("a", soft=True), of_tags("b")}),
        frozenset({of_tags("a", soft=True)}),
    }
    assert held() == []


def test_a_rollback_leaves_no_row(told: Told) -> None:
    """Nothing was changed, so nothing is to be done."""
    with rolled_back():
        invalidate("a")
    with transaction.atomic():
        Group.objects.create(name="a")
    assert held() == []
    assert relayed() == 0
    assert told.since_last() == []


def test_a_change_that_cannot_be_written_down_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed without its row, it might never be told."""

    def refuse(*_: object) -> None:
        raise DatabaseError("disk full")

    monkeypatch.setattr(outbox, "write", refuse)
    with pytest.raises(DatabaseError, match="disk full"):
        _change("a")
    assert not Group.objects.exists()
    monkeypatch.undo()
    _change("b")
    assert [group.name for group in Group.objects.all()] == ["b"]


def test_while_the_store_is_away_the_row_stays(store_server: StoreServer, told: Told) -> None:
    """The change is committed, its row waits, and a relay does it when the store is back; then the row is gone."""
    invalidate("warm")
    told.since_last()
    with frozen(store_server):
        with transaction.atomic():
            Group.objects.create(name="a")
            invalidate("groups")
        assert Group.objects.count() == 1
        assert held() == [of_tags("groups")]
        with pytest.raises(StoreUnavailable):
            relayed()
        assert held() == [of_tags("groups")]
    assert relayed() == 1
    assert held() == []
    assert {"groups"} in told.tags()


def test_without_a_transaction_a_failure_is_raised_and_written_down(store_server: StoreServer, told: Told) -> None:
    """So that it is done even if this process ends, which has it queued too; from synchronous code and coroutines."""
    invalidate("warm")
    with frozen(store_server):
        with pytest.raises(StoreUnavailable):
            invalidate("a")
        assert held() == [of_tags("a")]
    assert relayed() == 1
    with frozen(store_server):
        with pytest.raises(StoreUnavailable):
            asyncio.run(ainvalidate("b"))
        assert held() == [of_tags("b")]
    assert relayed() == 1
    heard = told.tags()
    assert {"a"} in heard
    assert {"b"} in heard


def test_a_relay_takes_the_oldest_first_and_all_of_them(told: Told) -> None:
    """In batches, merged, hard and soft apart; young rows are left to who wrote them."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    Outbox.objects.bulk_create(
        Outbox(
            kind="invalidate",
            payload=of_tags(f"t{number}", soft=number % 2 == 0).to_json().decode(),
            created_at=long_ago + timedelta(seconds=number),
        )
        for number in reversed(range(2 * BATCH + 3))
    )
    outbox.write("default", [of_tags("young")])
    assert [row.outdated for row in outbox.due("default", older_than=3.0, most=2)] == [
        of_tags("t0", soft=True),
        of_tags("t1"),
    ]
    assert relayed(age=3.0) == 2 * BATCH + 3
    assert held() == [of_tags("young")]
    heard = told.since_last()
    assert [outdated.soft for outdated in heard] == [False, True] * 3
    assert frozenset().union(*(outdated.tags for outdated in heard)) == {f"t{n}" for n in range(2 * BATCH + 3)}
    assert relayed() == 1


def test_a_row_that_cannot_be_read_outdates_everything(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """It says that something is outdated, if not what; rows of another kind are not the relay's."""
    Outbox.objects.create(kind="invalidate", payload='{"tags": 7}')
    Outbox.objects.create(kind="something newer", payload="{}")
    assert relayed() == 1
    assert told.since_last() == [EVERYTHING]
    assert Outbox.objects.get().kind == "something newer"
    assert "cannot be read" in caplog.text


def test_a_database_without_the_table_is_served_without_it(
    told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Invalidations go out after the commit all the same; what is missing is said once."""
    monkeypatch.setattr(outbox, "_has_table", set())
    monkeypatch.setattr(outbox, "_look_again", {})
    with connection.schema_editor() as editor:
        editor.delete_model(Outbox)
    try:
        with caplog.at_level(logging.WARNING):
            for name in ("a", "b"):
                _change(name)
        assert told.tags() == [{"a"}, {"b"}]
        assert relayed() == 0
        assert [record.name for record in caplog.records] == ["asgi_app.invalidating.outbox"]
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(Outbox)
