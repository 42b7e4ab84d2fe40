"""Inside of a transaction that changed the data, a read shows the change, to this transaction alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections, transaction

from asgi_app import invalidate, invalidate_all, invalidate_value, read, resource
from asgi_app.errors import ComputationFailed, ComputationTimeout, NotJson
from asgi_app.invalidation import dirty
from asgi_app.registry import Registry, registry
from tests.support.store import StoreServer
from tests.support.told import rolled_back

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("portal", "declarations")]


@pytest.fixture(autouse=True)
def declared(store_server: StoreServer) -> Iterator[Registry]:
    """A registry of the test's own, and a store that holds nothing of the test before."""
    invalidate_all()
    with registry.isolated() as empty:
        yield empty


@pytest.fixture
def computed() -> list[str]:
    """Declares the resource `counted`: how often it was computed, for each name."""
    calls: list[str] = []

    @resource("counted", offload=False, fresh=600, tags=lambda params: ("counted", f"counted.{params.name}"))
    async def counted(name: str = "a") -> int:
        calls.append(name)
        return len(calls)

    return calls


def test_a_dirty_value_is_computed_in_the_transaction_and_not_kept(computed: list[str]) -> None:
    """Each time; what lies in the store stays for the others until the commit, and is gone after it."""
    assert [read("counted"), read("counted")] == [1, 1]
    with transaction.atomic():
        assert read("counted") == 1
        invalidate("counted")
        assert [read("counted"), read("counted")] == [2, 3]
        assert _elsewhere("counted") == 1
    assert [read("counted"), read("counted")] == [4, 4]


def test_only_what_was_changed_is_dirty(computed: list[str]) -> None:
    """Other values are read as ever."""
    assert [read("counted", name="a"), read("counted", name="b")] == [1, 2]
    with transaction.atomic():
        invalidate("counted.a")
        invalidate("something.else")
        assert read("counted", name="b") == 2
        assert read("counted", name="a") == 3


def test_what_a_savepoint_changed_is_clean_after_its_rollback(computed: list[str]) -> None:
    """And what stands around it stays dirty."""
    assert [read("counted", name="a"), read("counted", name="b")] == [1, 2]
    with transaction.atomic():
        invalidate("counted.a")
        with rolled_back():
            invalidate("counted.b")
            assert read("counted", name="b") == 3
        assert read("counted", name="b") == 2
        assert read("counted", name="a") == 4
    with rolled_back():
        invalidate("counted.b")
    assert read("counted", name="b") == 2


@pytest.mark.parametrize("how", ["value", "all", "soft"])
def test_every_kind_of_invalidation_makes_dirty(computed: list[str], how: str) -> None:
    """By key and as a whole as well as by tag, and also where others may still be served the old value."""
    assert read("counted") == 1
    with transaction.atomic():
        match how:
            case "value":
                invalidate_value("counted", {"name": "b"})
                assert read("counted") == 1
                invalidate_value("counted", {"name": "a"})
            case "all":
                invalidate_all()
            case _:
                invalidate("counted", soft=True)
        assert read("counted") == 2


def test_the_value_is_made_of_what_the_transaction_changed() -> None:
    """In a plain function, and in a coroutine by Django's asynchronous ORM; as JSON gives it back."""

    @resource("groups", tags=("groups",))
    def groups() -> Any:
        return {"names": tuple(Group.objects.values_list("name", flat=True))}

    @resource("groups.later", tags=("groups",))
    async def groups_later() -> Any:
        return ("a", [name async for name in Group.objects.values_list("name", flat=True)])

    with rolled_back():
        Group.objects.create(name="mine")
        invalidate("groups")
        assert read("groups") == {"names": ["mine"]}
        assert read("groups.later") == ["a", ["mine"]]
        assert connection.in_atomic_block


def test_failures_are_those_of_any_read() -> None:
    """A function that raises, what is no JSON, and a coroutine that takes too long."""

    @resource("raises", tags=("t",))
    def raises() -> None:
        raise KeyError("x")

    @resource("odd", tags=("t",))
    def odd() -> object:
        return object()

    @resource("late", tags=("t",), time_limit=0.1)
    async def late() -> None:
        await asyncio.Event().wait()

    with transaction.atomic():
        invalidate("t")
        with pytest.raises(ComputationFailed, match="KeyError"):
            read("raises")
        with pytest.raises(NotJson):
            read("odd")
        with pytest.raises(ComputationTimeout):
            read("late")


def test_whether_a_key_is_dirty_can_be_asked() -> None:
    """By tag, key or all; of one database or any; only in the thread whose transaction it is."""
    assert not dirty("a.b", "d1", ["t"])
    with transaction.atomic():
        invalidate("t")
        assert dirty("a.b", "d1", ["s", "t"])
        assert dirty("a.b", "d1", iter(["t"]), using="default")
        assert not dirty("a.b", "d1", ["t"], using="another")
        assert not dirty("a.b", "d1", ["s"])
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(dirty("a.b", "d1", ["t"])))
        thread.start()
        thread.join()
        assert seen == [False]
    assert not dirty("a.b", "d1", ["t"])


def _elsewhere(name: str) -> Any:
    """The value as another thread reads it."""
    found: list[Any] = []

    def look() -> None:
        try:
            found.append(read(name))
        finally:
            connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]
