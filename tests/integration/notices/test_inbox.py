"""An inbox in the database: numbered without a hole in the order of the commits, whatever happens around it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from asgi_app import anotify, notices, notify, notify_all, wiring
from asgi_app.errors import Denied
from asgi_app.inbox_topic import open_inbox
from asgi_app.models import Inbox, Notification
from asgi_app.noticing import entries, keeping
from asgi_app.noticing.tables import key_of
from asgi_app.registry import Principal
from cache_layer.history import LogPage
from cache_layer.position import Position
from cache_layer.publication import Appended, Ephemeral, parse_log
from tests.support.store import StoreServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _store(store_server: StoreServer) -> None:
    """Who follows an inbox is told through it."""


def principal(user_id: str, *scopes: str) -> Principal:
    allowed = frozenset(scopes or ("read",))
    return Principal(user_id=user_id, username="x", scopes=allowed, is_anonymous=False, permissions=frozenset())


def log_of(user_id: str, after: int | None = None, limit: int = 1000, before: int | None = None) -> LogPage:
    async def read(_: wiring.Node) -> LogPage:
        source = await open_inbox(f"inbox#{user_id}", principal(user_id))
        return await source.read_log(after, limit, before)

    return wiring.call(read)


def titles(page: LogPage) -> list[str]:
    return [json.loads(one.data)["title"] for one in page.publications]


def shown(user_id: str) -> list[str]:
    return [row.title for row in entries.shown(key_of(user_id)).order_by("-number")]


def undone() -> None:
    """A notification whose transaction, or savepoint, is rolled back."""
    with transaction.atomic():
        notify("who", "undone")
        transaction.set_rollback(True)


def test_numbers_have_no_hole_and_what_was_rolled_back_was_never_there() -> None:
    """Also what a savepoint took back; and an epoch lasts."""
    assert notify("who", "a") == 1
    undone()
    with transaction.atomic():
        assert notify("who", "b") == 2
        undone()
        assert notify("who", "c") == 3
    page = log_of("who", 0)
    assert (titles(page), [one.offset for one in page.publications], page.top) == (["a", "b", "c"], [1, 2, 3], 3)
    assert log_of("who").epoch == page.epoch
    assert titles(log_of("who", 1, 1)) == ["b"]
    assert titles(log_of("who", None, 2)) == ["b", "c"]
    assert titles(log_of("who", None, 1, before=3)) == ["b"]
    assert log_of("nobody yet").top == 0
    assert log_of("nobody yet").epoch == log_of("nobody yet").epoch


def test_the_order_of_numbers_is_that_of_commits(store_server: StoreServer) -> None:
    """Whoever sees a number sees all below it, while several threads notify the same two in transactions."""
    if connection.vendor == "sqlite":
        pytest.skip("the tests' database is in memory, where threads get in each other's way")
    stop, seen, failures = threading.Event(), [0], []

    def write(name: str) -> None:
        try:
            for n in range(10):
                with transaction.atomic():
                    notify_all(["one", "two"] if n % 2 else ["two", "one"], f"{name} {n}")
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    def look() -> None:
        while not stop.is_set():
            numbers = list(Notification.objects.filter(inbox_id=key_of("one")).values_list("number", flat=True))
            if sorted(numbers) != list(range(1, len(numbers) + 1)):
                failures.append(AssertionError(numbers))
            seen[0] += 1
        connection.close()

    writers = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    looker = threading.Thread(target=look)
    looker.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    looker.join(60)
    assert failures == []
    assert seen[0] > 0
    for who in ("one", "two"):
        assert [one.offset for one in log_of(who, 0).publications] == list(range(1, 41))


def test_who_follows_is_told_after_the_commit(told: Told) -> None:
    """In the words of a log; what was rolled back is not told, and what was read is told without an offset."""
    undone()
    with transaction.atomic():
        notify("who", "a", data={"n": 1})
        assert told.all() == []
    (first,) = told.all()
    assert isinstance(first, Appended)
    page = log_of("who", 0)
    assert (first.position, first.logged) == (Position(page.epoch, 1), page.publications[0])
    wiring.call(lambda node: notices.mark_read(principal("who"), ids=[1]))
    wiring.call(lambda node: notices.mark_read(principal("who"), up_to=5))
    (read,) = told.all()
    assert isinstance(read, Ephemeral)
    assert (json.loads(read.logged.data), json.loads(read.logged.tags)) == ({"ids": [1], "unread": 0}, {"kind": "read"})


def test_the_newest_of_a_collapse_key_counts() -> None:
    """In the listing and among the unread; the log keeps both, and says which takes the place of which."""
    notify("who", "1 %", collapse="load")
    notify("who", "other", collapse="LOAD")
    notify("who", "2 %", collapse="load")
    notify("who", "3 %", collapse="load")
    assert shown("who") == ["3 %", "other"]
    assert entries.unread(key_of("who")) == 2
    page = log_of("who", 0)
    assert titles(page) == ["1 %", "other", "2 %", "3 %"]
    assert [one.tags for one in page.publications] == [b"", b"", b'{"replaces":"1"}', b'{"replaces":"3"}']


def test_what_has_expired_is_not_shown() -> None:
    notify("who", "short", expires=0.2)
    notify("who", "long", expires=3600)
    time.sleep(1.1)  # some databases count in seconds
    assert shown("who") == ["long"]
    assert titles(log_of("who", 0)) == ["short", "long"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"title": ""}, "title must be 1 to 200"),
        ({"title": "x" * 201}, "title"),
        ({"title": "nul \0"}, "title"),
        ({"title": "half \ud800"}, "title"),
        ({"body": "x" * 10_001}, "body"),
        ({"level": "fatal"}, "level must be one of debug, info, success, warning, error"),
        ({"data": object()}, "data cannot be written as JSON"),
        ({"data": "x" * 20_000}, "data must be at most"),
        ({"collapse": ""}, "collapse"),
        ({"expires": -1}, "expires"),
        ({"user_or_id": ""}, "no id of a user"),
        ({"user_or_id": None}, "nobody to notify"),
        ({"user_or_id": Principal.public()}, "nobody to notify"),
    ],
)
def test_what_cannot_be_notified_is_said(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        notify(**{"user_or_id": "who", "title": "t", **given})
    assert not Notification.objects.exists()


def test_ids_that_a_database_takes_for_equal_are_different_people() -> None:
    for who in ("ann", "Ann", "ann ", "１", "1"):
        notify(who, f"for {who}")
    assert [shown(who) for who in ("ann", "Ann", "ann ", "１", "1")] == [
        ["for ann"],
        ["for Ann"],
        ["for ann "],
        ["for １"],
        ["for 1"],
    ]


def test_an_inbox_goes_with_its_user() -> None:
    """A later user of the same id finds nothing, and a client of the former one a new epoch."""
    user = get_user_model().objects.create_user("gone")
    notify(user, "a")
    notify(
        Principal(
            user_id=str(user.pk), username="gone", scopes=frozenset(), is_anonymous=False, permissions=frozenset()
        ),
        "b",
    )
    key, epoch = str(user.pk), log_of(str(user.pk)).epoch
    assert shown(key) == ["b", "a"]
    user.delete()
    assert not Inbox.objects.filter(principal=key).exists()
    assert log_of(key).epoch != epoch


async def test_a_coroutine_notifies() -> None:
    assert await wiring.acall(lambda node: anotify("co", "a")) == 1
    with pytest.raises(ValueError, match="title"):
        await anotify("co", "")


@pytest.mark.parametrize(
    ("who", "topic"),
    [
        (principal("ann"), "inbox#bob"),
        (principal("ann"), "inbox#"),
        (principal("ann"), "inbox# ann"),
        (principal("ann", "run"), "inbox#ann"),
        (Principal.public(), "inbox#ann"),
        (Principal.public(), "inbox#"),
    ],
)
async def test_an_inbox_is_its_owner_s_only(who: Principal, topic: str) -> None:
    with pytest.raises(Denied):
        await open_inbox(topic, who)


def test_what_is_forgotten_goes_from_the_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left has no hole; who stands before it sees that it begins later."""
    monkeypatch.setattr(keeping, "_SLACK", 0)
    for n in range(10):
        notify("who", str(n))
    notify("other", "kept")
    assert keeping.trim(most=4) == 6
    page = log_of("who", 2)
    assert ([one.offset for one in page.publications], page.top) == ([7, 8, 9, 10], 10)
    Notification.objects.filter(number=8).update(created_at="2020-01-01T00:00Z")
    assert keeping.trim() == 2
    assert [one.offset for one in log_of("who", 0).publications] == [9, 10]
    assert shown("other") == ["kept"]
    Notification.objects.update(created_at="2020-01-01T00:00Z")
    assert keeping.trim() == 3
    assert (log_of("who", 3).publications, log_of("who", 3).top) == ((), 10)


class Told:
    """What those who follow the inbox of `who` are told."""

    def __init__(self, pubsub: Any, publish: Any) -> None:
        self._pubsub, self._publish = pubsub, publish

    def all(self) -> list[Any]:
        """Since the last call: what was published before a mark of our own comes before it."""
        self._publish("mark")
        found = []
        while (message := self._pubsub.get_message(timeout=10)) is None or message["data"] != b"mark":
            if message is not None:
                found.append(parse_log(message["data"]))
        return found


@pytest.fixture
def told(store_server: StoreServer) -> Iterator[Told]:
    import redis

    client = redis.Redis.from_url(store_server.url)
    channel = wiring.call(_channel)
    pubsub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    pubsub.subscribe(channel)
    found = Told(pubsub, lambda mark: client.publish(channel, mark))
    found.all()
    yield found
    pubsub.close()
    client.close()


async def _channel(node: wiring.Node) -> str:
    return node.store.names.inbox_channel("who")
