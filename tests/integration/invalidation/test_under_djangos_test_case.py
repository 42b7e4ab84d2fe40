"""Code that is tested in Django's `TestCase`, whose transaction never ends, shows what it would invalidate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from asgi_app import invalidate, invalidation
from asgi_app.invalidating.statements import Tables
from asgi_app.invalidation import dirty
from asgi_app.models import Outbox

pytestmark = pytest.mark.django_db

Capture = Callable[..., AbstractContextManager[list[Callable[[], None]]]]


@pytest.fixture(autouse=True)
def declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is watched but by the test itself."""
    monkeypatch.setattr(invalidation, "_tables", Tables())


def _change() -> None:
    with transaction.atomic():
        for name in "abc":
            Group.objects.get_or_create(name=name)
            invalidate("groups")


def test_each_transaction_of_the_code_has_its_hook(
    django_capture_on_commit_callbacks: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came before it in the same test; run, it invalidates."""
    sent: list[Any] = []
    monkeypatch.setattr("asgi_app.invalidating.after_commit._send", sent.append)
    for times in (1, 2):
        with django_capture_on_commit_callbacks(execute=True) as callbacks:
            _change()
        assert len(callbacks) == 1
        assert [set(outdated.tags) for outdated in sent] == [{"groups"}] * times
    with django_capture_on_commit_callbacks() as callbacks:
        invalidate("groups")
        invalidate("groups")
    assert len(callbacks) == 2


def test_the_test_sees_its_own_changes(django_capture_on_commit_callbacks: Capture) -> None:
    """They are committed nowhere, so what is made of them stays dirty, and nothing stands in the outbox."""
    _change()
    assert connection.in_atomic_block
    assert dirty("a.b", "d1", ["groups"])
    assert not Outbox.objects.exists()
