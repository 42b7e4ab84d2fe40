"""What the tests of invalidations share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_app import invalidation
from asgi_app.invalidating.statements import Tables
from tests.support.store import StoreServer
from tests.support.told import Told, end_portal


@pytest.fixture(scope="module")
def portal(store_server: StoreServer) -> Iterator[None]:
    """Code that is synchronous finds no loop of another module, which knew no store, and leaves none."""
    end_portal()
    yield
    end_portal()


@pytest.fixture
def declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is watched but by the test itself."""
    monkeypatch.setattr(invalidation, "_tables", Tables())


@pytest.fixture
def told(store_server: StoreServer) -> Iterator[Told]:
    """What reached the store since the test began."""
    heard = Told(store_server.url)
    yield heard
    heard.close()
