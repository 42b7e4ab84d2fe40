"""`invalidate_on`: each way by which Django changes rows invalidates, and no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, IntegrityError, connection, connections, models, transaction
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.test.utils import CaptureQueriesContext, isolate_apps

from asgi_app import invalidation
from asgi_app.invalidating.statements import Tables
from asgi_app.invalidation import invalidate_on
from asgi_app.models import ApiToken, Outbox
from tests.support.told import Told, rolled_back

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("portal", "declarations")]

SIGNALS = (pre_save, post_save, pre_delete, m2m_changed)


@pytest.fixture(autouse=True)
def declarations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test declares is gone after it."""
    monkeypatch.setattr(invalidation, "_tables", Tables())
    for signal in SIGNALS:
        monkeypatch.setattr(signal, "receivers", list(signal.receivers))
        signal.sender_receivers_cache.clear()
    yield
    for signal in SIGNALS:
        signal.sender_receivers_cache.clear()


def sql(statement: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def many(statement: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(statement, params)


def permission() -> Permission:
    return Permission.objects.earliest("pk")


#: Each changes groups, or their relations, once; `Group` a is there before.
CHANGES: dict[str, Callable[[], Any]] = {
    "save of a new one": lambda: Group(name="b").save(),
    "create": lambda: Group.objects.create(name="b"),
    "save": lambda: Group.objects.get().save(),
    "save of some fields": lambda: Group.objects.get().save(update_fields=["name"]),
    "get_or_create": lambda: Group.objects.get_or_create(name="b"),
    "update_or_create": lambda: Group.objects.update_or_create(name="a", defaults={"name": "b"}),
    "bulk_create": lambda: Group.objects.bulk_create([Group(name="b"), Group(name="c")]),
    "bulk_create that ignores": lambda: Group.objects.bulk_create([Group(name="a")], ignore_conflicts=True),
    "bulk_update": lambda: Group.objects.bulk_update([Group.objects.get()], ["name"]),
    "update": lambda: Group.objects.update(name="b"),
    "delete": lambda: Group.objects.get().delete(),
    "delete of a queryset": lambda: Group.objects.all().delete(),
    "raw delete of a queryset": lambda: Group.objects.all()._raw_delete("default"),
    "add of a relation": lambda: Group.objects.get().permissions.add(permission()),
    "add from the other end": lambda: permission().group_set.add(Group.objects.get()),
    "create through a relation": lambda: User.objects.create(username="u").groups.create(name="b"),
    "raw insert": lambda: sql("INSERT INTO auth_group (name) VALUES (%s)", "b"),
    "raw update": lambda: sql("  update auth_group set name = %s -- now", "b"),
    "executemany": lambda: many("UPDATE auth_group SET name = %s WHERE name = %s", ("b", "a"), ("c", "b")),
}


@pytest.mark.parametrize("inside", [False, True], ids=["by itself", "in a transaction"])
@pytest.mark.parametrize("change", CHANGES)
def test_every_statement_that_changes_the_table_invalidates(told: Told, change: str, inside: bool) -> None:
    """Whatever part of Django it comes from: after the commit, once, and its row in the outbox is gone again."""
    Group.objects.create(name="a")
    invalidate_on(Group, tags="groups")
    if inside:
        with transaction.atomic():
            CHANGES[change]()
            assert told.since_last() == []
        assert told.tags() == [{"groups"}]
    else:
        CHANGES[change]()
        assert {frozenset(tags) for tags in told.tags()} == {frozenset({"groups"})}
    assert not Outbox.objects.exists()


#: None of them changes a group.
OTHERS: dict[str, Callable[[], Any]] = {
    "a query": lambda: list(Group.objects.order_by("name")),
    "a query that locks": lambda: list(Group.objects.select_for_update()),
    "another table": lambda: ContentType.objects.create(app_label="a", model="b"),
    "a change that fails": lambda: Group.objects.create(name="a"),
    "a raw change that fails": lambda: sql("UPDATE auth_group SET nothing = 1"),
    "a save that is rolled back": lambda: _undone(),
}


def _undone() -> None:
    with rolled_back():
        Group.objects.create(name="b")


@pytest.mark.parametrize("change", OTHERS)
def test_what_changes_no_row_of_it_invalidates_nothing(told: Told, change: str) -> None:
    """Neither a read, nor a failure, nor somebody else's change."""
    Group.objects.create(name="a")
    invalidate_on(Group, tags=["groups"])
    with suppress(IntegrityError, DatabaseError), transaction.atomic():
        OTHERS[change]()
    with suppress(IntegrityError, DatabaseError):
        OTHERS[change]()
    assert told.since_last() == []
    assert not Outbox.objects.exists()


def test_a_failure_in_a_savepoint_leaves_the_rest(told: Told) -> None:
    """What was caught and rolled back is not told, the transaction around it is."""
    invalidate_on(Group, tags=["groups"])
    invalidate_on(ContentType, tags=["types"])
    with transaction.atomic():
        ContentType.objects.create(app_label="a", model="b")
        with rolled_back():
            Group.objects.create(name="a")
    assert told.tags() == [{"types"}]


def test_cascades_are_seen(told: Told) -> None:
    """Rows that go because others went."""
    token = _token("u")
    invalidate_on(ApiToken, tags="tokens")
    token.user.delete()
    assert told.tags() == [{"tokens"}]


def test_a_statement_gives_its_rows_all_the_same(told: Told) -> None:
    """What a statement returns is there after its transaction, and then the cursor's next statement has its own."""
    invalidate_on(Group, tags="groups")
    assert Group.objects.create(name="a").pk is not None
    assert told.tags() == [{"groups"}]
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO auth_group (name) VALUES ('b'), ('c'), ('d'), ('e') RETURNING name")
        assert cursor.fetchone() == ("b",)
        assert cursor.fetchmany(2) == [("c",), ("d",)]
        assert [*cursor] == [("e",)]
        assert cursor.fetchone() is None
        assert told.tags() == [{"groups"}]
        cursor.execute("SELECT count(*) FROM auth_group")
        assert cursor.fetchall() == [(5,)]
        cursor.executemany("UPDATE auth_group SET name = %s WHERE name = %s", [("f", "b"), ("g", "c")])
        assert cursor.rowcount == 2
        assert cursor.execute("DELETE FROM auth_group RETURNING 1").fetchall() == [(1,)] * 5


def test_a_query_that_is_still_read_goes_on(told: Told) -> None:
    """A change in the middle of it begins and ends a transaction of its own."""
    ContentType.objects.bulk_create([ContentType(app_label="a", model=str(number)) for number in range(300)])
    invalidate_on(Group, tags="groups")
    rows = ContentType.objects.filter(app_label="a").order_by("pk").iterator(chunk_size=1)
    for kind in rows:
        if kind.model in ("1", "2"):
            Group.objects.create(name=kind.model)
        if kind.model == "3":
            with suppress(IntegrityError):
                Group.objects.create(name="1")
            break
    assert len(list(rows)) == 296
    assert told.tags() == [{"groups"}] * 2


def test_reads_pay_no_statement(told: Told, django_assert_num_queries: Callable[[int], CaptureQueriesContext]) -> None:
    """And a write of another table none either."""
    invalidate_on(Group, tags="groups")
    with django_assert_num_queries(2):
        list(Group.objects.all())
        ContentType.objects.create(app_label="a", model="b")


def test_a_transaction_pays_one_row_however_much_it_changes(told: Told) -> None:
    """An INSERT at its end and a DELETE after the invalidation; a change by itself gets a transaction for it."""
    invalidate_on(Group, tags="groups")
    invalidate_on(ContentType, tags=lambda kind: [f"type.{kind.model}"])
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        for number in range(20):
            Group.objects.create(name=str(number))
            ContentType.objects.create(app_label="a", model=str(number))
    assert len(told.since_last()) == 1
    ours = [query["sql"] for query in queries if "millpond_outbox" in query["sql"]]
    assert [statement.split()[0] for statement in ours] == ["INSERT", "DELETE"]
    with CaptureQueriesContext(connection) as queries:
        Group.objects.create(name="a")
    assert sorted(query["sql"].split()[0] for query in queries) == ["BEGIN", "COMMIT", "DELETE", "INSERT", "INSERT"]


def test_every_thread_is_seen(told: Told) -> None:
    """Connections belong to threads; those that come after the declaration are watched from their first statement."""
    invalidate_on(Group, tags="groups")

    def change() -> None:
        try:
            Group.objects.create(name="in a thread")
        finally:
            connections.close_all()

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    assert told.tags() == [{"groups"}]


def test_a_wrapper_of_somebody_else_ends_alone(told: Told) -> None:
    """Django takes the last wrapper away when a block ends; the connection may have been made within the block."""
    invalidate_on(Group, tags="groups")
    seen: list[str] = []

    def watching(execute: Any, statement: str, *rest: Any) -> Any:
        seen.append(statement)
        return execute(statement, *rest)

    connection.execute_wrappers.clear()
    with connection.execute_wrapper(watching):
        invalidation._watch(type(connection), connection)
    Group.objects.create(name="a")
    assert seen == []
    assert told.tags() == [{"groups"}]


@pytest.mark.parametrize("tags", ["groups", ("groups",), ["groups"], iter(["groups"])])
def test_names_may_come_in_any_form(told: Told, tags: invalidation.Tags) -> None:
    """An iterator too counts for more than the first change."""
    invalidate_on(Group, tags=tags)
    for name in ("a", "b"):
        Group.objects.create(name=name)
        assert told.tags() == [{"groups"}]


def test_a_declaration_that_is_read_twice_counts_once(told: Told) -> None:
    """A module that is imported again adds no second invalidation."""
    for _ in range(2):
        invalidate_on(Group, tags=("groups",))
        invalidate_on(Group, tags=_tag_of)
    Group.objects.create(name="a")
    assert told.tags() == [{"groups"}, {"group.a"}]


def test_what_cannot_be_watched_is_refused() -> None:
    """At the declaration, with the reason."""
    with pytest.raises(ValueError, match="no tag: 'a ', ''"):
        invalidate_on(Group, tags=["good", "a ", ""])

    class Abstract(models.Model):
        class Meta:
            abstract = True
            app_label = "auth"

    with pytest.raises(ValueError, match="Abstract is abstract"):
        invalidate_on(Abstract, tags="a")


# --- tags of a function


def test_a_row_that_moves_outdates_what_it_left_and_what_it_came_to(told: Told) -> None:
    """By the row in the database, however old the instance is that is saved."""
    token = _token("u", scopes="a")
    invalidate_on(ApiToken, tags=lambda token: [f"scope.{token.scopes}"])
    token.scopes = "b"
    token.save()
    assert told.tags() == [{"scope.a", "scope.b"}]
    ApiToken.objects.update(scopes="c")  # not seen: no instance
    assert told.tags() == []
    token.scopes = "d"
    with transaction.atomic():
        token.save()
        token.scopes = "e"
        token.save()
    assert told.tags() == [{"scope.c", "scope.d", "scope.e"}]
    ApiToken(pk=token.pk, user=token.user, digest="x", scopes="f", created_at=token.created_at).save()
    assert told.tags() == [{"scope.e", "scope.f"}]
    token.delete()
    assert told.tags() == [{"scope.e", "scope.f"}]


def test_a_new_row_is_not_looked_for(told: Told, django_assert_num_queries: Any) -> None:
    """Saving what is new reads nothing before."""
    invalidate_on(ContentType, tags=lambda kind: [f"type.{kind.model}"])
    with django_assert_num_queries(1):
        ContentType.objects.create(app_label="a", model="b")
    assert told.tags() == [{"type.b"}]


def test_deletes_of_many_are_told_by_their_rows(told: Told) -> None:
    """A queryset and a cascade: each row's own tags, without a query for each."""
    for name in ("a", "b"):
        _token(name, scopes=name)
    invalidate_on(ApiToken, tags=lambda token: [f"scope.{token.scopes}"])
    User.objects.get(username="a").delete()
    assert told.tags() == [{"scope.a"}]
    with CaptureQueriesContext(connection) as queries:
        ApiToken.objects.all().delete()
    assert told.tags() == [{"scope.b"}]
    assert [query["sql"].split()[0] for query in queries].count("SELECT") == 1


@pytest.mark.parametrize("from_the_other_end", [False, True])
def test_relations_are_told_by_the_instance_of_the_model(told: Told, from_the_other_end: bool) -> None:
    """Also when the change comes from the model at the other end, and with names that follow from the relation."""
    group, may = Group.objects.create(name="a"), permission()
    invalidate_on(Group, tags=lambda group: [f"{group.name}.{p.pk}" for p in group.permissions.all()])
    for change in ("add", "remove", "add", "clear"):
        manager, other = (may.group_set, group) if from_the_other_end else (group.permissions, may)
        getattr(manager, change)(*(() if change == "clear" else (other,)))
        assert told.tags() == [{f"a.{may.pk}"}], change


@pytest.mark.parametrize("tags", ["groups", lambda group: ["groups"]], ids=["static", "function"])
@isolate_apps("django.contrib.auth")
def test_a_change_by_way_of_a_proxy_is_one_of_the_model(told: Told, tags: invalidation.Tags) -> None:
    """They are the same rows."""

    class LoudGroup(Group):
        class Meta:
            proxy = True
            app_label = "auth"

    invalidate_on(Group, tags=tags)
    LoudGroup.objects.create(name="a")
    assert told.tags() == [{"groups"}]


@isolate_apps("django.contrib.auth")
def test_a_model_is_changed_where_it_inherits_from(told: Told) -> None:
    """Part of its rows stands in the table of its parent."""

    class Crew(Group):
        class Meta:
            app_label = "auth"

    invalidate_on(Crew, tags="crews")
    Group.objects.create(name="a")
    assert told.tags() == [{"crews"}]


def test_a_name_that_is_no_tag_hinders_no_change(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """It comes of data; no value can carry it, so it is left out and logged."""
    invalidate_on(Group, tags=lambda group: [f"group.{group.name}", "groups"])
    Group.objects.create(name="a ")
    assert told.tags() == [{"groups"}]
    assert "'group.a '" in caplog.text


def _tag_of(group: Group) -> list[str]:
    return [f"group.{group.name}"]


def _token(username: str, scopes: str = "read") -> ApiToken:
    user = User.objects.create(username=username)
    return ApiToken.objects.create(user=user, digest=username, scopes=scopes)
