"""What the tests of cached pages share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from asgi_app.wiring import Node
from tests.support.paged import a_node, browser, urls
from tests.support.store import StoreServer


@pytest.fixture(autouse=True)
def urls_of_its_own(settings: Any) -> None:
    settings.ROOT_URLCONF = urls()
    settings.ALLOWED_HOSTS = ["*"]


@pytest.fixture
async def node(store_server: StoreServer) -> AsyncIterator[Node]:
    """The page cache of this process."""
    async with a_node() as started:
        yield started


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A browser nobody is logged in at."""
    async with browser() as made:
        yield made


@pytest.fixture
def name() -> str:
    return uuid4().hex
