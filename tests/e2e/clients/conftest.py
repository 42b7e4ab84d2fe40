"""A service, and clients of each kind to use it with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import pytest

from tests.e2e.clients.people import People
from tests.support.clients.chromium import Chromium, InChromium
from tests.support.clients.claims import SECRET
from tests.support.clients.javascript import VERSIONS
from tests.support.clients.node import Node
from tests.support.clients.python import Python
from tests.support.clients.stock import Stock, Stocked, Wishes
from tests.support.service import Service

NODE = [f"node {version}" for version in VERSIONS]
#: In a browser the newest one alone, unless all are asked for: they are as many as all others, and one after the other.
CHROMIUM_KINDS = [f"chromium {version}" for version in (VERSIONS if "EVERY_CLIENT" in os.environ else VERSIONS[-1:])]
CHROMIUM = [pytest.param(kind, marks=pytest.mark.browser) for kind in CHROMIUM_KINDS]
EVERY = [*NODE, *CHROMIUM, "python"]

#: For tests of what only some of them can do.
outside_browsers = pytest.mark.parametrize("kind", [*NODE, "python"], indirect=True)
javascript = pytest.mark.parametrize("kind", [*NODE, *CHROMIUM], indirect=True)
in_node = pytest.mark.parametrize("kind", NODE, indirect=True)
in_chromium = pytest.mark.parametrize("kind", CHROMIUM, indirect=True)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two web processes, whose token secret is known here."""
    running = Service(
        tmp_path_factory.mktemp("clients"),
        "--no-demo",
        MILLPOND_WEB_PROCESSES="2",
        MILLPOND_WORKER_CONCURRENCY="2",
        MILLPOND_TOKEN_SECRET=SECRET,
    ).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def people(service: Service) -> Iterator[People]:
    """Users of the shared service."""
    with People.of(service, "ann", "ben", "eve", "reader") as made:
        yield made


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return uuid4().hex[:12]


@pytest.fixture(scope="session")
def stocks() -> Iterator[Stocks]:
    """What is started once for all tests."""
    with contextlib.ExitStack() as ends:
        yield Stocks(ends)


@dataclass
class Stocks:
    """Node processes and the browser, each started when it is first wanted."""

    ends: contextlib.ExitStack

    def __post_init__(self) -> None:
        self._there: dict[str, Any] = {}

    def find(self, kind: str, origin: str) -> Stocked:
        """What makes clients of a kind: `node 5.8.0`, `chromium 5.8.0`, `python`."""
        name, _, version = kind.partition(" ")
        if name == "python":
            return Python()
        found: Stocked
        if name == "node":
            found = self._once(kind, lambda: Node(version))
        else:
            browser = self._once("chromium", Chromium)
            found = self._once(f"{kind} {origin}", lambda: InChromium(browser, version, origin))
        return found

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        if what not in self._there:
            self._there[what] = self.ends.enter_context(make())
        return self._there[what]


@pytest.fixture(params=EVERY)
def kind(request: pytest.FixtureRequest) -> str:
    """The client the test is run with."""
    return str(request.param)


class Make(Protocol):
    """Makes clients of the test's kind, of a service ("": the shared one)."""

    def __call__(self, at: Service | None = None, **wishes: Any) -> Awaitable[Stock]: ...


@pytest.fixture
async def stocked(kind: str, service: Service, stocks: Stocks) -> AsyncIterator[Stocked]:
    """What makes clients of the test's kind; all that it has made are gone at the end."""
    found = stocks.find(kind, service.url)
    yield found
    await found.forget_all()


@pytest.fixture
def make(stocked: Stocked, service: Service) -> Make:
    """`await make(token=...)`: a client of the shared service, or of another."""

    async def new(at: Service | None = None, **wishes: Any) -> Stock:
        wishes.setdefault("endpoints", [("websocket", (at or service).websocket)])
        return await stocked.new(Wishes(**wishes))

    return new
