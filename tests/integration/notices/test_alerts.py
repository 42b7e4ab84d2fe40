"""Alert rules: told once when they begin to be true, whoever looks; what is wrong with a rule harms nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from asgi_app.models import Alert, Notification
from asgi_app.noticing import alerts
from asgi_app.registry import DeclarationError, Principal, Resource, registry, resource
from cache_layer.position import Position
from tests.support.store import StoreServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_stays(store_server: StoreServer) -> Iterator[None]:
    before = dict(registry.resources)
    yield
    registry.resources.clear()
    registry.resources.update(before)


def declare(rule: Any, to: Any = "staff") -> Resource:
    @resource("alerts.load", alert_when=rule, alert_to=to)
    def load(host: str = "a") -> int:
        """The load is high.

        More about it.
        """
        return 0

    return registry.resource("alerts.load")


def stored(declared: Resource, value: Any, offset: int, host: str = "a", epoch: str = "e") -> None:
    params = declared.parse({"host": host}, text=False)
    key = declared.key(params, Principal.public())
    alerts.look(declared, params, key, msgspec.json.encode(value), Position(epoch, offset))


def told() -> list[tuple[str, str]]:
    rows = Notification.objects.order_by("pk").select_related("inbox__user")
    return [(row.inbox.user.username if row.inbox.user else "", row.title) for row in rows]


@pytest.fixture
def staff() -> Any:
    return get_user_model().objects.create_user("boss", is_staff=True)


def test_a_crossing_is_told_once_and_armed_again_by_the_way_back(staff: Any) -> None:
    declared = declare(lambda value: value > 5)
    for offset, value in enumerate([1, 9, 9, 7, 2, 8], 1):
        stored(declared, value, offset)
    assert told() == [("boss", "The load is high.")] * 2
    row = Notification.objects.order_by("-pk")[0]
    assert (row.level, row.body, msgspec.json.decode(row.data)) == (
        "warning",
        "alerts.load",
        {"topic": "alerts.load", "epoch": "e", "offset": 6},
    )
    assert row.replaces == 1


def test_topics_cross_apart_and_a_text_is_what_is_said(staff: Any) -> None:
    declared = declare(lambda value: f"load {value}" if value > 5 else None)
    stored(declared, 9, 1, host="a")
    stored(declared, 8, 1, host="b")
    stored(declared, 7, 2, host="a")
    assert told() == [("boss", "load 9"), ("boss", "load 8")]


def test_a_value_that_is_looked_at_late_says_nothing(staff: Any) -> None:
    """Two workers: the older value is judged after the newer one."""
    declared = declare(lambda value: value > 5)
    stored(declared, 9, 1)
    stored(declared, 1, 3)
    stored(declared, 9, 2)
    assert len(told()) == 1
    assert not Alert.objects.get().raised
    stored(declared, 9, 4)
    stored(declared, 9, 4)
    assert len(told()) == 2
    stored(declared, 1, 1, epoch="f")
    stored(declared, 9, 2, epoch="f")
    assert len(told()) == 3


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("staff", {"boss"}),
        (("ann", "nobody"), {"ann"}),
        ("auth.view_user", {"ann"}),
        (lambda params: [params.host, params.host], {""}),
    ],
)
def test_who_is_told(to: Any, expected: set[str], staff: Any) -> None:
    users = get_user_model().objects
    ann = users.create_user("ann")
    ann.user_permissions.add(Permission.objects.get(codename="view_user"))
    users.create_user("late", is_staff=True, is_active=False)
    stored(declare(lambda value: True, to), 1, 1)
    assert {name for name, _ in told()} == expected
    assert len(told()) == 1


def test_a_rule_that_fails_is_logged(staff: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It raises, returns nonsense, or names nobody; and is asked again about the next value."""
    answers = iter([ZeroDivisionError(), 5, True])

    def rule(value: int) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    declared = declare(rule)
    for offset in (1, 2, 3):
        stored(declared, 1, offset)
    assert caplog.text.count("the alert rule of alerts.load") == 2
    assert len(told()) == 1


def test_a_rule_that_hangs_is_left_behind(
    staff: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so many of them that no more are begun."""
    monkeypatch.setattr(alerts, "WITHIN", 0.05)
    go_on = threading.Event()
    declared = declare(lambda value: go_on.wait(60))
    try:
        for offset in range(1, 7):
            stored(declared, 1, offset)
        assert caplog.text.count("TimeoutError: it took longer than") == 4
        assert caplog.text.count("TimeoutError: 4 alert rules hang") == 2
    finally:
        go_on.set()
        for thread in threading.enumerate():
            if thread.name == "alert rule":
                thread.join(10)
    assert told() == []


@pytest.mark.parametrize(
    ("rule", "to", "complaint"),
    [
        ("high", "staff", "alert_when must be a function"),
        (lambda: True, "staff", "takes \\(value\\)"),
        (lambda value: True, "everybody", "alert_to must be 'staff'"),
        (lambda value: True, (), "alert_to must name users"),
        (lambda value: True, lambda one, two: one, "takes \\(params\\)"),
        (None, ("ann",), "there is none"),
    ],
)
def test_a_wrong_declaration_is_refused(rule: Any, to: Any, complaint: str) -> None:
    with pytest.raises(DeclarationError, match=complaint):
        declare(rule, to)
