"""A service that is not open to the public calls none of its values public."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from asgi_app import access, hot, representation
from asgi_app.env import env
from asgi_app.registry import registry, resource
from asgi_app.views import http, resources
from asgi_app.wiring import Node
from tests.support.paged import a_node, a_user, browser
from tests.support.store import StoreServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def node(store_server: StoreServer) -> AsyncIterator[Node]:
    async with a_node() as started:
        yield started


@pytest.mark.parametrize(("open_to_all", "scope"), [(True, "public"), (False, "private")])
async def test_a_closed_service_has_no_public_values(
    monkeypatch: pytest.MonkeyPatch, settings: Any, open_to_all: bool, scope: str
) -> None:
    """With MILLPOND_ANONYMOUS off a cache between us and the reader shows nothing to who has not logged in."""
    settings.ALLOWED_HOSTS = ["*"]
    changed = msgspec.structs.replace(env(), anonymous=open_to_all)
    for module in (access, hot, http, representation, resources):
        monkeypatch.setattr(module, "env", lambda: changed)
    name = f"closed.x{uuid4().hex}"
    with registry.isolated():

        @resource(name, offload=False)
        async def value() -> int:
            return 1

        async with browser(await a_user("ann")) as client:
            for _ in range(2):
                answer = await client.get(f"/api/v1/resources/{name}")
                assert answer.status_code == 200
                assert answer.headers["cache-control"].startswith(f"{scope}, max-age=")
                assert ("Cookie" in answer.headers["vary"]) is (scope == "private")
