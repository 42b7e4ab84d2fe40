"""What every integration test stands on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django.plugin import DjangoDbBlocker


@pytest.fixture(autouse=True)
def _connections_may_be_closed(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """What computes drops worn-out connections of its thread, and a thread may still have one of an earlier test."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(autouse=True)
def _an_empty_outbox(request: pytest.FixtureRequest, _django_db_marker: None) -> None:
    """Django empties the tables after a test: a write like others, which stays in the outbox where no store runs."""
    if request.node.get_closest_marker("django_db"):
        from asgi_app.models import Outbox

        Outbox.objects.all().delete()
