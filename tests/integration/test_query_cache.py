"""Cached queries give what their querysets give, and only as long as that is true."""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, models, router, transaction
from django.db.models import Count, Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat, TruncDate
from django.test.utils import CaptureQueriesContext

from asgi_app import wiring
from asgi_app.caching import queries
from asgi_app.caching.queries import acached_query, cache_queries_of, cached_query
from asgi_app.env import env
from tests.support.store import StoreServer
from tests.support.told import end_portal, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module", autouse=True)
def portal(store_server: StoreServer) -> Iterator[None]:
    """The loop of this module's synchronous code ends with it."""
    yield
    end_portal()


@pytest.fixture(autouse=True)
def declared() -> None:
    """As an application does when it is ready: before this thread has a connection."""
    cache_queries_of(User, Group, Permission, ContentType)
    connection.close()


@pytest.fixture
def mark() -> str:
    """In every name of a test's own rows, so that its queries are its own."""
    return uuid4().hex[:12]


@pytest.fixture
def filled(mark: str) -> str:
    """Three users in two groups."""
    groups = [Group.objects.create(name=f"{mark} {n}") for n in range(2)]
    permission = Permission.objects.earliest("pk") if Permission.objects.exists() else None
    for number, last_login in enumerate((None, datetime.datetime(2024, 10, 27, 1, 30, 5, 7, datetime.UTC), None)):
        user = User.objects.create(username=f"{mark} {number}", last_login=last_login, is_staff=number == 1)
        user.groups.set(groups[: number + 1])
    if permission is not None:
        groups[0].permissions.add(permission)
    return mark


def of(mark: str) -> QuerySet[User]:
    return User.objects.filter(username__startswith=mark).order_by("username")


def reads(work: Callable[[], Any]) -> int:
    """How many statements this thread has run; those for the cache are run in others."""
    with CaptureQueriesContext(connection) as captured:
        work()
    return len(captured)


FORMS: dict[str, Callable[[QuerySet[User]], QuerySet[Any, Any]]] = {
    "instances": lambda users: users,
    "values": lambda users: users.values(),
    "some values": lambda users: users.values("username", "date_joined", "last_login", "is_staff"),
    "a list": lambda users: users.values_list("pk", "username", "last_login"),
    "a flat list": lambda users: users.values_list("date_joined", flat=True),
    "a named list": lambda users: users.values_list("pk", "last_login", named=True),
    "related values": lambda users: users.values("username", "groups__name"),
    "annotations": lambda users: users.annotate(
        joined=TruncDate("date_joined"),
        said=Concat("username", Value("!")),
        price=Value(Decimal("1.50"), output_field=models.DecimalField(max_digits=9, decimal_places=2)),
        took=Value(datetime.timedelta(seconds=1.5), output_field=models.DurationField()),
        key=Value(UUID(int=7), output_field=models.UUIDField()),
        raw=Value(b"\x00\xff", output_field=models.BinaryField()),
        found=Value({"a": [1, None]}, output_field=models.JSONField()),
    ).values(),
    "aggregates of groups": lambda users: users.values("is_staff").annotate(n=Count("pk")).order_by("is_staff"),
    "a slice": lambda users: users[1:2],
    "distinct": lambda users: users.values_list("is_staff").distinct(),
    "a union": lambda users: (
        users.order_by().values_list("username").union(Group.objects.values_list("name")).order_by("username")
    ),
    "days": lambda users: users.datetimes("date_joined", "day"),
    "nothing": lambda users: users.filter(username="nobody"),
    "known to be nothing": lambda users: users.none(),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_gives_what_the_queryset_gives(filled: str, form: str) -> None:
    """Rows, types and order; at the first call, from the cache, and by the asynchronous twin."""
    queryset = FORMS[form](of(filled))
    expected = list(queryset.all())
    found = [cached_query(queryset), cached_query(queryset), asyncio.run(acached_query(queryset))]
    assert [repr(rows) for rows in found] == [repr(expected)] * 3
    assert found == [expected] * 3
    assert reads(lambda: cached_query(queryset)) == 0


def test_instances_are_whole(filled: str) -> None:
    """Loaded from their database, with their annotations, and new ones at every call."""
    queryset = of(filled).annotate(n=Count("groups"))
    for _ in range(2):
        found, direct = cached_query(queryset), list(queryset.all())
        assert [(vars(a) | {"_state": 0}) for a in found] == [(vars(b) | {"_state": 0}) for b in direct]
        assert [(user._state.db, user._state.adding) for user in found] == [("default", False)] * 3
        found[0].username = "changed"
    assert {type(user) for user in found} == {User}


def test_deferred_fields_stay_deferred(filled: str) -> None:
    """And are loaded when they are asked for."""
    for queryset in (of(filled).only("username"), of(filled).defer("email", "last_login")):
        expected = [user.get_deferred_fields() for user in queryset.all()]
        assert [user.get_deferred_fields() for user in cached_query(queryset)] == expected
        assert cached_query(queryset)[0].email == ""


def test_select_related_is_kept(filled: str) -> None:
    """The related instances are there without another query."""
    types = Permission.objects.select_related("content_type").order_by("pk")[:3]
    cached_query(types)
    assert reads(lambda: [permission.content_type.model for permission in cached_query(types)]) == 0
    assert cached_query(types) == list(types.all())


def test_the_instance_it_was_asked_of_is_known(filled: str) -> None:
    """As with Django, rows of a relation know what they are related to."""
    kind = ContentType.objects.get_for_model(User)
    found = cached_query(kind.permission_set.all())
    assert found
    assert all(permission.content_type is kind for permission in found)


def _as(field: models.Field[Any, Any]) -> ExpressionWrapper[Any]:
    """A column read as another type, which the SQL does not show."""
    return ExpressionWrapper(F("pk"), output_field=field)


def test_queries_that_differ_are_different(filled: str) -> None:
    """Never by their text alone: parameters that look alike in it, types, and what columns are converted to."""
    users = of(filled)
    pairs: list[tuple[QuerySet[Any, Any], QuerySet[Any, Any]]] = [
        (users.filter(username=f"{filled} 0"), users.filter(username=f"{filled} 1")),
        (users.filter(username=f"{filled} 0", first_name=""), users.filter(username="", first_name=f"{filled} 0")),
        (users.annotate(x=Value("a, b")).values_list("x"), users.annotate(x=Value("a', 'b")).values_list("x")),
        (
            users.annotate(x=_as(models.DurationField())).values("x"),
            users.annotate(x=_as(models.IntegerField())).values("x"),
        ),
        (users.values_list("pk", "is_staff"), users.values_list("is_staff", "pk")),
        (users[:1], users[:2]),
    ]
    for one, other in pairs:
        for queryset in (one, other, one):
            assert repr(cached_query(queryset)) == repr(list(queryset.all()))


def test_forms_of_the_same_rows_share_them(filled: str) -> None:
    """What is kept are the rows; dictionaries, tuples and instances are made of them."""
    columns = [field.attname for field in User._meta.concrete_fields]
    cached_query(of(filled))
    for queryset in (of(filled).values(*columns), of(filled).values_list(*columns)):
        assert cached_query(queryset) == list(queryset.all())


CHANGES: dict[str, Callable[[str], Any]] = {
    "save": lambda mark: of(mark)[0].save(),
    "create": lambda mark: User.objects.create(username=f"{mark} x"),
    "update": lambda mark: of(mark).update(email="new"),
    "bulk_create": lambda mark: User.objects.bulk_create([User(username=f"{mark} x")]),
    "delete": lambda mark: of(mark)[0].delete(),
    "many-to-many": lambda mark: of(mark)[2].groups.clear(),
    "the other end of it": lambda mark: Group.objects.get(name=f"{mark} 0").user_set.remove(of(mark)[0]),
    "a related row": lambda mark: Group.objects.filter(name=f"{mark} 0").update(name=f"{mark} z"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_outdates_what_reads_it(filled: str, change: str) -> None:
    """After its commit, of whatever table the query joins."""
    queryset = of(filled).values_list("username", "email", "groups__name").order_by("username", "groups__name")
    before = cached_query(queryset)
    CHANGES[change](filled)
    after = cached_query(queryset)
    assert after == list(queryset.all())
    assert change == "save" or after != before


@pytest.mark.parametrize(
    "reader",
    [
        lambda mark: Group.objects.filter(Exists(User.objects.filter(groups=OuterRef("pk"), email="new"))),
        lambda mark: Group.objects.filter(pk__in=User.objects.filter(email="new").values("groups")),
        lambda mark: Group.objects.annotate(
            last=Subquery(User.objects.filter(groups=OuterRef("pk"), email="new").values("email")[:1])
        ).values_list("name", "last"),
        lambda mark: Group.objects.filter(~Q(user__email="new")),
        lambda mark: Group.objects.values_list("name").union(User.objects.filter(email="new").values_list("username")),
        lambda mark: Group.objects.annotate(n=Count("user", filter=Q(user__email="new"))).values_list("name", "n"),
        lambda mark: Group.objects.order_by(
            Subquery(User.objects.filter(email="new").values("pk")[:1]), F("name").desc()
        ),
    ],
)
def test_tables_are_found_wherever_they_stand(filled: str, reader: Callable[[str], QuerySet[Any, Any]]) -> None:
    """In subqueries, exclusions, unions, filters of aggregates and orderings."""
    queryset = reader(filled)
    cached_query(queryset, fresh=600)
    of(filled).update(email="new")
    assert sorted(map(repr, cached_query(queryset))) == sorted(map(repr, queryset.all()))


def test_what_is_rolled_back_outdates_nothing(filled: str) -> None:
    """And what a transaction has changed is read in it, by it alone."""
    queryset = of(filled).values_list("email", flat=True)
    assert cached_query(queryset) == ["", "", ""]
    with rolled_back():
        of(filled).update(email="new")
        assert cached_query(queryset) == ["new"] * 3
        with ThreadPoolExecutor(1) as other:
            assert other.submit(_closing, lambda: cached_query(queryset)).result(30) == [""] * 3
    assert cached_query(queryset) == [""] * 3
    assert reads(lambda: cached_query(queryset)) == 0


def _closing(work: Callable[[], Any]) -> Any:
    try:
        return work()
    finally:
        connection.close()


def test_a_transaction_looks_up_and_stores_nothing(filled: str) -> None:
    """What it sees may be older than what is true; what is there it may use."""
    known, unknown = of(filled).filter(is_staff=True), of(filled).filter(is_staff=False)
    cached_query(known)
    with transaction.atomic():
        assert reads(lambda: cached_query(known)) == 0
        assert reads(lambda: cached_query(unknown)) == 1
        assert reads(lambda: cached_query(unknown)) == 1


async def test_a_coroutine_called_from_a_transaction_stores_nothing(store_server: StoreServer, mark: str) -> None:
    """Where Django comes back to the thread of the transaction, the twin does too."""
    from asgiref.sync import async_to_sync

    def work() -> list[Any]:
        with transaction.atomic():
            User.objects.create(username=f"{mark} 0")
            inside = async_to_sync(acached_query)(of(mark).values_list("username"))
            transaction.set_rollback(True)
        return inside

    assert await sync_to_async(work)() == [(f"{mark} 0",)]
    assert await acached_query(of(mark).values_list("username")) == []


def test_many_at_once_are_one_query(filled: str) -> None:
    """Threads that ask the same wait for the one that is run."""
    queryset = of(filled).values_list("username")
    runs: list[int] = []
    go_on = threading.Event()
    original = queries._rows

    def slow(asked: QuerySet[Any, Any]) -> list[tuple[Any, ...]]:
        runs.append(1)
        go_on.wait(20)
        return original(asked)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(20) as readers:
        patch.setattr(queries, "_rows", slow)
        asked = [readers.submit(_closing, lambda: cached_query(queryset)) for _ in range(20)]
        while not runs:
            threading.Event().wait(0.01)
        go_on.set()
        found = [one.result(30) for one in asked]
    assert found == [list(queryset.all())] * 20
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("queryset", "says"),
    [
        (lambda: User.objects.prefetch_related("groups"), "prefetch_related"),
        (lambda: User.objects.select_for_update(), "select_for_update"),
        (lambda: User.objects.extra(where=["1=1"]), "give tags="),
        (lambda: User.objects.annotate(n=RawSQL("SELECT 1", ())), "give tags="),
        (lambda: User.objects.filter(pk__in=RawSQL("SELECT id FROM auth_user", ())), "give tags="),
        (lambda: [1, 2], "a queryset is needed"),
    ],
)
def test_what_cannot_be_cached_is_refused(queryset: Callable[[], Any], says: str) -> None:
    """With what to do about it."""
    with pytest.raises(ValueError, match=says):
        cached_query(queryset())


def test_tags_may_be_given(filled: str) -> None:
    """Then they are all that outdates it, and the query may be any."""
    from asgi_app import invalidate

    queryset = of(filled).annotate(n=RawSQL("1 + 1", ())).values_list("email", "n")
    tags = [f"users.{filled}"]
    before = cached_query(queryset, tags=tags)
    of(filled).update(email="new")
    assert cached_query(queryset, tags=tags) == before
    invalidate(*tags)
    assert cached_query(queryset, tags=tags) == list(queryset.all()) != before
    with pytest.raises(ValueError, match="no tag"):
        cached_query(queryset, tags=[""])


def test_a_view_is_refused() -> None:
    """A model that Django does not manage may stand for other tables."""

    class Summary(models.Model):
        class Meta:
            app_label = "millpond"
            managed = False
            db_table = "summary_of_users"

    with pytest.raises(ValueError, match="not managed"):
        cache_queries_of(Summary)


def test_an_error_is_the_query_s_own(filled: str) -> None:
    """As without a cache, for who had it run."""
    from django.db import DatabaseError

    queryset = of(filled).annotate(n=RawSQL("no_such_function()", ()))
    with pytest.raises(DatabaseError, match="no_such_function"):
        cached_query(queryset, tags=["a"])


def test_a_column_that_cannot_be_kept_is_named(filled: str) -> None:
    """Rather than kept as something like it."""

    class Odd(models.CharField):  # type: ignore[type-arg]
        def from_db_value(self, value: Any, *_: Any) -> Any:
            return complex(1, 2)

    queryset = of(filled).annotate(odd=Value("x", output_field=Odd())).values_list("odd")
    with pytest.raises(TypeError, match="complex cannot be kept"):
        cached_query(queryset)


def test_rows_beyond_the_limit_are_given_and_not_kept(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result larger than MILLPOND_MAX_VALUE is the query's, each time."""
    small = msgspec.structs.replace(env(), max_value=40)
    monkeypatch.setattr(queries, "env", lambda: small)
    queryset = of(filled).values_list("username")
    assert [cached_query(queryset) for _ in range(2)] == [list(queryset.all())] * 2
    assert reads(lambda: cached_query(queryset)) == 1


async def test_while_the_store_is_away_queries_run(mark: str) -> None:
    """As without a cache."""
    await User.objects.acreate(username=f"{mark} 0")
    away = msgspec.structs.replace(env(), redis_url="unix:///nowhere/store.sock?db=0")
    await wiring.start_node(away)
    try:
        assert await acached_query(of(mark).values_list("username")) == [(f"{mark} 0",)]
        found = await sync_to_async(cached_query)(of(mark).values_list("username"))
        assert found == [(f"{mark} 0",)]
    finally:
        await wiring.stop_node()


class _RouterOfThreads:
    """Names the database that its thread has chosen."""

    chosen = threading.local()

    def db_for_read(self, model: Any, **_: Any) -> str:
        return getattr(self.chosen, "alias", "default")

    db_for_write = db_for_read

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True


@pytest.fixture
def other_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, django_db_blocker: Any) -> Iterator[str]:
    """A second database with a table of groups; the calling thread reads it."""
    alias = "other"
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "other.sqlite3")}
    monkeypatch.setitem(connections.settings, alias, {**connections.settings["default"], **engine})
    monkeypatch.setattr(router, "_routers", [_RouterOfThreads()])
    router.__dict__.pop("routers", None)
    with django_db_blocker.unblock():  # which knows only of the databases that were there when the tests began
        with connections[alias].schema_editor() as editor:
            editor.create_model(Group)
        _RouterOfThreads.chosen.alias = alias
        yield alias
    del _RouterOfThreads.chosen.alias
    connections[alias].close()
    del connections[alias]
    router.__dict__.pop("routers", None)


def test_a_query_is_run_on_the_database_its_caller_would_read(other_database: str, mark: str) -> None:
    """The router is asked once, in the caller's thread, and its answer is that of the key."""
    for alias in ("default", other_database):
        Group.objects.using(alias).create(name=f"{mark} of {alias}")
    groups = Group.objects.filter(name__startswith=mark)
    for _ in range(2):
        [found] = cached_query(groups)
        assert (found.name, found._state.db) == (f"{mark} of {other_database}", other_database)
    [found] = cached_query(groups.using("default"))
    assert found.name == f"{mark} of default"
