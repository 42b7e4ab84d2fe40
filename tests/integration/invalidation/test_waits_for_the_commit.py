"""A change of the data invalidates what was computed from it: after its commit, once, or never."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from asgi_app import invalidate, invalidate_all, invalidate_value
from asgi_app.errors import BadParameters, UnknownResource
from asgi_app.invalidation import invalidate_after_commit
from asgi_app.registry import Principal, registry
from cache_layer.outdated import EVERYTHING, Outdated, of_keys, of_tags
from tests.support.told import Told, rolled_back

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("portal", "declarations")]

ECHO = "test.echo"


def test_without_a_transaction_it_is_at_once(told: Told) -> None:
    """There is no commit to wait for."""
    invalidate("a", "b", "a")
    assert told.since_last() == [of_tags("a", "b")]


def test_nothing_goes_out_before_the_commit(told: Told) -> None:
    """Inside a transaction nobody is told of what they cannot see yet; its end tells once, of all tags."""
    with transaction.atomic():
        invalidate("a")
        invalidate("b")
        invalidate_after_commit(iter(["a", "c"]))
        assert len(connection.run_on_commit) == 1
        assert told.since_last() == []
    assert told.tags() == [{"a", "b", "c"}]


def test_a_rollback_invalidates_nothing(told: Told) -> None:
    """What did not happen outdates no value, and the next transaction starts clean."""
    with rolled_back():
        invalidate("a")
    assert told.since_last() == []
    with transaction.atomic():
        invalidate("b")
    assert told.tags() == [{"b"}]


def test_single_values_and_all_values_wait_like_tags(told: Told) -> None:
    """One transaction is one invalidation of everything that was named in it."""
    key = _key("x")
    with transaction.atomic():
        invalidate("a")
        with rolled_back():
            invalidate_value(ECHO, {"text": "lost"})
            invalidate_all()
        invalidate_value(ECHO, {"text": "x"})
        assert told.since_last() == []
    assert told.since_last() == [of_tags("a") | key]
    with transaction.atomic():
        invalidate_value(ECHO, {"text": "x"})
        invalidate_all()
    assert told.since_last() == [key | EVERYTHING]


def test_what_is_soft_stays_soft(told: Told) -> None:
    """A hard invalidation in the same transaction hardens only what it names itself."""
    with transaction.atomic():
        invalidate("a", soft=True)
        invalidate("b")
        invalidate("c", soft=True)
    assert told.since_last() == [of_tags("b"), of_tags("a", "c", soft=True)]
    with transaction.atomic():
        invalidate_all(soft=True)
        invalidate_value(ECHO, soft=True)
    assert told.since_last() == [Outdated(everything=True, soft=True)]
    with transaction.atomic():
        invalidate_all(soft=True)
        invalidate("a")
    assert told.since_last() == [of_tags("a"), Outdated(everything=True, soft=True)]


def test_a_value_is_named_as_it_is_asked_for(told: Told) -> None:
    """By its parameters, defaults included, and where it varies by whom it belongs to."""
    invalidate_value(ECHO)
    invalidate_value(ECHO, {"n": 1, "text": "hello"})
    assert len(set(told.since_last())) == 1
    alice = replace(Principal.public(), user_id="7", username="alice", is_anonymous=False)
    invalidate_value("test.mine", principal=alice)
    invalidate_value("test.mine")
    assert len(set(told.since_last())) == 2


def test_what_cannot_be_named_is_refused(told: Told) -> None:
    """With everything that is wrong, and nothing is invalidated."""
    with pytest.raises(ValueError, match=r"no tag: '', ' b', 3;"):
        invalidate("a", "", " b", 3)  # type: ignore[arg-type]
    with pytest.raises(UnknownResource):
        invalidate_value("test.unheard_of")
    with pytest.raises(BadParameters):
        invalidate_value(ECHO, {"n": 100})
    assert told.since_last() == []


def test_a_savepoint_that_is_rolled_back_takes_only_its_own_tags(told: Told) -> None:
    """What was changed before, after and beside it is told all the same."""
    with transaction.atomic():
        invalidate("before")
        with rolled_back():
            invalidate("before", "inside")
        with transaction.atomic():
            invalidate("beside")
        invalidate("after")
    assert told.tags() == [{"before", "beside", "after"}]


def test_a_released_savepoint_shares_the_fate_of_what_is_around_it(told: Told) -> None:
    """A savepoint in a savepoint is told at the end, unless one of those around it is rolled back."""
    with transaction.atomic():
        with transaction.atomic(), transaction.atomic():
            invalidate("kept")
        with rolled_back(), transaction.atomic():
            invalidate("lost")
        with rolled_back():
            with transaction.atomic():
                invalidate("lost too")
            invalidate("lost as well")  # joins what the released savepoint collected
        assert told.since_last() == []
    assert told.tags() == [{"kept"}]


def test_a_savepoint_after_one_that_was_rolled_back_is_another(told: Told) -> None:
    """Tags are never added to those that were dropped with an earlier savepoint."""
    with transaction.atomic():
        with rolled_back():
            invalidate("kept", "lost")
        with transaction.atomic():
            invalidate("kept")
    assert told.tags() == [{"kept"}]


def test_many_savepoints_of_one_tag_are_one_hook(told: Told) -> None:
    """A loop of savepoints that change the same costs no more than one of them."""
    with transaction.atomic():
        for number in range(50):
            with transaction.atomic():
                Group.objects.create(name=str(number))
                invalidate("groups")
        assert len(connection.run_on_commit) == 1
    assert told.tags() == [{"groups"}]


def test_an_inner_block_without_a_savepoint_belongs_to_the_outer_one(told: Told) -> None:
    """`atomic(savepoint=False)` ends with the transaction, whichever way that ends."""
    with transaction.atomic():
        with transaction.atomic(savepoint=False):
            invalidate("a")
        assert told.since_last() == []
    with rolled_back(), transaction.atomic(savepoint=False):
        invalidate("b")
    assert told.tags() == [{"a"}]


def test_code_that_manages_its_transactions_by_hand_is_heard_too(told: Told) -> None:
    """With autocommit switched off the commit is awaited, and a rollback forgets."""
    transaction.set_autocommit(False)
    try:
        Group.objects.create(name="a")
        invalidate("lost")
        transaction.rollback()
        Group.objects.create(name="b")
        invalidate("kept")
        assert told.since_last() == []
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert told.tags() == [{"kept"}]
    assert list(Group.objects.values_list("name", flat=True)) == ["b"]


def test_a_failing_invalidation_harms_no_commit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever happens to it, the data are written, and what else waits for the commit is done."""
    monkeypatch.setattr("asgi_app.wiring.call", lambda *_: 1 / 0)
    done: list[bool] = []
    with caplog.at_level(logging.ERROR), transaction.atomic():
        Group.objects.create(name="a")
        invalidate("a")
        transaction.on_commit(lambda: done.append(True))
    assert Group.objects.filter(name="a").exists()
    assert done == [True]
    assert "ZeroDivisionError" in caplog.text


def test_what_else_waits_for_the_commit_comes_after_the_invalidation(told: Told) -> None:
    """A hook that was there first reads no value from before the transaction."""
    seen: list[set[str]] = []
    with transaction.atomic():
        transaction.on_commit(lambda: seen.extend(told.tags()))
        Group.objects.create(name="a")
        invalidate("groups")
    assert seen == [{"groups"}]


def test_the_commit_is_visible_when_the_invalidation_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever computes again because of it reads the new data, outside of the transaction."""
    seen: list[tuple[bool, bool]] = []

    def look(*_: object) -> None:
        seen.append((Group.objects.filter(name="a").exists(), transaction.get_connection().in_atomic_block))

    monkeypatch.setattr("asgi_app.wiring.call", look)
    with transaction.atomic():
        invalidate("groups")
        Group.objects.create(name="a")
    assert seen == [(True, False)]


def _key(text: str) -> Outdated:
    resource = registry.resource(ECHO)
    return of_keys(resource.key(resource.parse({"text": text}, text=False), Principal.public()))
