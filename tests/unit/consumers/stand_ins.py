"""The stand-ins of the fan-out's unit tests: those of tests/support, and who asks."""

from __future__ import annotations

from typing import Any

from asgi_app.access import Identity
from asgi_app.registry import Principal
from asgi_app.topics import Snapshot
from tests.support import fake_sources
from tests.support.fake_sources import EPOCH, FakeFeed, published, snapshot

__all__ = ["EPOCH", "PUBLIC", "FakeFeed", "FakeSource", "published", "snapshot", "user"]

PUBLIC = Identity(principal=Principal.public())


def user(name: str, *, token: str = "", scopes: frozenset[str] = frozenset({"read"})) -> Identity:
    """Somebody, who came with an API token of that digest."""
    principal = Principal(user_id=name, username=name, scopes=scopes, is_anonymous=False, permissions=frozenset())
    return Identity(principal=principal, token=token)


class FakeSource(fake_sources.FakeSource):
    """Its holder is judged by `verdict`."""

    def __init__(self, key: str = "k", now: Snapshot | Exception | None = None, **options: Any) -> None:
        super().__init__(key, now, **options)
        self.verdict: Exception | None = None
        self.judged = 0

    async def allowed(self) -> None:
        self.judged += 1
        if self.verdict is not None:
            raise self.verdict
