"""What every test stands on: a private store as a child process, a namespace of its own, nothing left behind."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

_HOME = Path(tempfile.mkdtemp(prefix="mptest-"))
os.environ.update(
    DJANGO_SETTINGS_MODULE="asgi_app.settings",
    MILLPOND_HOME=str(_HOME),
    MILLPOND_REDIS_URL=f"unix://{_HOME}/store.sock?db=0",
    MILLPOND_APPS="asgi_app.demo,tests.support.app",
    MILLPOND_NAMESPACE="tests",
)
for _name in [name for name in os.environ if name.startswith("MILLPOND_")]:
    if _name not in ("MILLPOND_HOME", "MILLPOND_REDIS_URL", "MILLPOND_APPS", "MILLPOND_NAMESPACE"):
        del os.environ[_name]
if "TESTS_DATABASE_URL" in os.environ:
    os.environ["MILLPOND_DATABASE_URL"] = os.environ["TESTS_DATABASE_URL"]

import django  # noqa: E402  (the environment first: the settings are made of it)
import pytest  # noqa: E402

django.setup()

from cache_layer.redis import Store  # noqa: E402
from tests.support.store import StoreServer  # noqa: E402
from tests.support.told import end_portal  # noqa: E402

_numbers = count(1)


def pytest_configure(config: pytest.Config) -> None:
    """With `-n` this process only starts others: what they inherit must not set Django up before they come here."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ.pop("DJANGO_SETTINGS_MODULE", None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole services first: with `-n`, the files that take minutes must not begin when all others are done."""
    items.sort(key=lambda item: not {"e2e", "chaos"} & set(item.path.parts))


def pytest_unconfigure() -> None:
    """The home of this run goes with it."""
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def store_server() -> Iterator[StoreServer]:
    """A Valkey or Redis of this test run, on a unix socket."""
    server = StoreServer(_HOME / "store.sock")
    server.start()
    end_portal()  # of synchronous code that ran without a store: its breaker would say a while yet that there is none
    yield server
    end_portal()  # of synchronous code: else it looks for the store to the end of the process
    logging.disable()  # and what a test left behind, in other threads, need not complain that the store is gone
    server.stop()


@pytest.fixture
def namespace() -> str:
    """The test's own prefix in the store."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture
async def store(store_server: StoreServer, namespace: str) -> AsyncIterator[Store]:
    """The test's own part of the store.  A key without a TTL at the end fails the test."""
    made = Store(store_server.url, namespace, deadline=2.0)
    yield made
    eternal = await store_server.eternal_keys(f"*{{{namespace}}}*")
    await made.close()
    assert not eternal, f"keys without a TTL: {eternal}"
