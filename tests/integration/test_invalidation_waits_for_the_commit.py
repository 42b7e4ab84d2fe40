"""A change of the data invalidates what was computed from it: after its commit, once, or never."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from asgi_app import invalidation
from asgi_app.invalidation import invalidate_after_commit, invalidate_on

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction, or a savepoint in one, that comes to nothing."""
    with suppress(_Refused), transaction.atomic():
        yield
        raise _Refused


class _Refused(Exception):
    pass


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The invalidations that went out, each with its tags."""
    invalidations: list[set[str]] = []
    monkeypatch.setattr(invalidation, "_invalidate", lambda tags: invalidations.append(set(tags)))
    return invalidations


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test connects is gone after it."""
    for signal in (post_save, post_delete, m2m_changed):
        monkeypatch.setattr(signal, "receivers", list(signal.receivers))
        signal.sender_receivers_cache.clear()
    yield
    for signal in (post_save, post_delete, m2m_changed):
        signal.sender_receivers_cache.clear()


def test_without_a_transaction_it_is_at_once(told: list[set[str]]) -> None:
    """There is no commit to wait for."""
    invalidate_after_commit(["a", "b", "a"])
    assert told == [{"a", "b"}]


def test_nothing_goes_out_before_the_commit(told: list[set[str]]) -> None:
    """Inside a transaction nobody is told of what they cannot see yet; its end tells once, of all tags."""
    with transaction.atomic():
        invalidate_after_commit(["a"])
        invalidate_after_commit(["b"])
        invalidate_after_commit(iter(["a", "c"]))
        assert told == []
    assert told == [{"a", "b", "c"}]


def test_a_rollback_invalidates_nothing(told: list[set[str]]) -> None:
    """What did not happen outdates no value, and the next transaction starts clean."""
    with rolled_back():
        invalidate_after_commit(["a"])
    assert told == []
    with transaction.atomic():
        invalidate_after_commit(["b"])
    assert told == [{"b"}]


def test_a_savepoint_that_is_rolled_back_takes_only_its_own_tags(told: list[set[str]]) -> None:
    """What was changed before, after and beside it is told all the same."""
    with transaction.atomic():
        invalidate_after_commit(["before"])
        with rolled_back():
            invalidate_after_commit(["before", "inside"])
        with transaction.atomic():
            invalidate_after_commit(["beside"])
        invalidate_after_commit(["after"])
    assert set().union(*told) == {"before", "beside", "after"}


def test_a_released_savepoint_shares_the_fate_of_what_is_around_it(told: list[set[str]]) -> None:
    """A savepoint in a savepoint is told at the end, unless one of those around it is rolled back."""
    with transaction.atomic():
        with transaction.atomic(), transaction.atomic():
            invalidate_after_commit(["kept"])
        with rolled_back(), transaction.atomic():
            invalidate_after_commit(["lost"])
        assert told == []
    assert told == [{"kept"}]


def test_a_savepoint_after_one_that_was_rolled_back_is_another(told: list[set[str]]) -> None:
    """Tags are never added to those that were dropped with an earlier savepoint."""
    with transaction.atomic():
        with rolled_back():
            invalidate_after_commit(["lost"])
        with transaction.atomic():
            invalidate_after_commit(["kept"])
    assert told == [{"kept"}]


def test_an_inner_block_without_a_savepoint_belongs_to_the_outer_one(told: list[set[str]]) -> None:
    """`atomic(savepoint=False)` ends with the transaction, whichever way that ends."""
    with transaction.atomic():
        with transaction.atomic(savepoint=False):
            invalidate_after_commit(["a"])
        assert told == []
    with rolled_back(), transaction.atomic(savepoint=False):
        invalidate_after_commit(["b"])
    assert told == [{"a"}]


def test_a_failing_invalidation_harms_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the store away the data are written all the same, and what else waits for the commit is done."""

    def away(tags: set[str]) -> None:
        raise TimeoutError

    monkeypatch.setattr(invalidation, "_invalidate", away)
    done: list[bool] = []
    with transaction.atomic():
        Group.objects.create(name="a")
        invalidate_after_commit(["a"])
        transaction.on_commit(lambda: done.append(True))
    assert Group.objects.filter(name="a").exists()
    assert done == [True]


@pytest.mark.parametrize("tags", [("groups",), ["groups"], iter(["groups"]), lambda group: [f"group.{group.name}"]])
def test_each_kind_of_change_of_a_model_invalidates(told: list[set[str]], tags: invalidation.Tags) -> None:
    """Saving, deleting and changed relations all count, each time, under names given once or made of the instance."""
    expected = {"group.a"} if callable(tags) else {"groups"}
    invalidate_on(Group, tags=tags)
    group = Group.objects.create(name="a")
    assert told == [expected]
    told.clear()
    group.save()
    assert told == [expected]
    told.clear()
    group.permissions.add(Permission.objects.earliest("pk"))
    assert {frozenset(tags) for tags in told} == {frozenset(expected)}
    told.clear()
    group.delete()
    assert told[-1] == expected


def test_many_changes_of_one_transaction_are_one_invalidation(told: list[set[str]]) -> None:
    """However many rows are saved, the store hears of them once."""
    invalidate_on(Group, tags=["groups"])
    with transaction.atomic():
        for number in range(20):
            Group.objects.create(name=str(number))
        assert told == []
    assert told == [{"groups"}]


def test_the_commit_is_visible_when_the_invalidation_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever computes again because of it reads the new data, outside of the transaction."""
    seen: list[tuple[bool, bool]] = []

    def look(tags: set[str]) -> None:
        seen.append((Group.objects.filter(name="a").exists(), transaction.get_connection().in_atomic_block))

    monkeypatch.setattr(invalidation, "_invalidate", look)
    with transaction.atomic():
        invalidate_after_commit(["groups"])
        Group.objects.create(name="a")
    assert seen == [(True, False)]


def test_a_declaration_that_is_read_twice_counts_once(told: list[set[str]]) -> None:
    """A module that is imported again adds no second invalidation, and another model's tags stay its own."""
    invalidate_on(Group, tags=("groups",))
    invalidate_on(Group, tags=("groups",))
    Group.objects.create(name="a")
    assert told == [{"groups"}]
