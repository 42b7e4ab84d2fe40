"""The whole service with its values in each of Django's caches."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.memcached import Memcached
from tests.support.service import ROOT, Service, until
from tests.support.watcher import Watcher, eventually

RESOURCES = "/api/v1/resources"
#: Where a value can be computed: by a worker, by a web process.
PLACES = ("there", "here")


@contextmanager
def running(home: Path, store: str, **settings: str) -> Iterator[Service]:
    """Two web processes and a worker, with the values in `store`."""
    service = Service(
        home,
        "--no-demo",
        MILLPOND_CACHE_STORE=store,
        MILLPOND_APPS="tests.support.app,tests.support.values",
        MILLPOND_WEB_PROCESSES="2",
        MILLPOND_WORKER_CONCURRENCY="3",
        **settings,
    ).start()
    try:
        yield service
    finally:
        assert service.stop() == 0


def unique() -> str:
    return uuid4().hex[:12]


def outdate(service: Service, kind: str, where: str, name: str, text: str, *, soft: bool = False) -> None:
    """Change what a value is computed from, and outdate it, by an action; done when this returns."""
    body = {"kind": kind, "where": where, "name": name, "text": text, "soft": soft}
    answer = httpx.post(f"{service.url}/api/v1/actions/values.outdate", json=body)
    assert answer.status_code == 202, answer.text
    until(lambda: f"outdated {kind} {where} {name} {text}" in service.ledger(), "the action has run")


def read(service: Service, where: str, name: str, seconds: float = 0.0) -> httpx.Response:
    """GET a value, holding out for it."""
    more = f"&seconds={seconds}" if seconds else ""
    return service.get(f"{RESOURCES}/values.{where}?name={name}{more}", Prefer="wait=20")


def a_value_has_its_version(service: Service, where: str) -> None:
    """200, the same version at the second read in whichever process, and 304 for who has it."""
    name = unique()
    path = f"{RESOURCES}/values.{where}?name={name}"
    pending = service.get(f"{path}&seconds=1", Prefer="respond-async")
    assert pending.status_code == 202
    first = read(service, where, name)
    assert first.status_code == 200
    for _ in range(4):
        again = service.get(path, If_None_Match=first.headers["etag"])
        assert (again.status_code, again.headers["etag"]) == (304, first.headers["etag"])
    assert service.ledger().count(f"{where} {name} ") == 2


async def first_readers_share_one_computation(service: Service, where: str) -> None:
    """Simultaneous first readers in two web processes run the function once."""
    name = unique()
    url = f"{service.url}{RESOURCES}/values.{where}?name={name}&seconds=1"
    limits = httpx.Limits(max_connections=24, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=40, limits=limits) as client:
        answers = await asyncio.gather(*(client.get(url, headers={"Prefer": "wait=25"}) for _ in range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert service.ledger().count(f"{where} {name} ") == 1


def no_process_serves_what_is_outdated(service: Service, where: str, *kinds: str) -> None:
    """After an invalidation by tag, by key or of everything, every process shows the new value only."""
    name = unique()
    for kind in kinds:
        assert len({read(service, where, name).json() for _ in range(4)}) == 1
        outdate(service, kind, where, name, kind)
        assert {read(service, where, name).json() for _ in range(6)} == {kind}


def a_computation_that_read_before_fills_nothing(service: Service, where: str) -> None:
    """What was read before an invalidation is not served after it, though its computation ends later."""
    name = unique()
    (service.home / f"source-{name}").write_text("old")
    started = service.get(f"{RESOURCES}/values.{where}?name={name}&seconds=1", Prefer="respond-async")
    assert started.status_code == 202
    until(lambda: f"{where} {name} old" in service.ledger(), "the computation has read its data")
    outdate(service, "tag", where, name, "new")
    seen = [read(service, where, name, 1.0) for _ in range(3)]
    assert {answer.json() for answer in seen} == {"new"}


def a_softened_value_is_served_once_more(service: Service, where: str) -> None:
    """A value that is declared stale is served at once, and computed anew behind."""
    name = unique()
    (service.home / f"source-{name}").write_text("one")
    assert {read(service, where, name).json() for _ in range(4)} == {"one"}
    outdate(service, "tag", where, name, "two", soft=True)
    stale = service.get(f"{RESOURCES}/values.{where}?name={name}", Prefer="respond-async")
    assert stale.json() == "one"
    until(lambda: {read(service, where, name).json() for _ in range(4)} == {"two"}, "the refresh lands everywhere")


async def a_watcher_is_told(service: Service, where: str) -> None:
    """Watchers in both processes get the first value, and the new one after an invalidation."""
    name = unique()
    (service.home / f"source-{name}").write_text("one")
    watchers = [Watcher(service.websocket) for _ in range(4)]
    try:
        for watcher in watchers:
            await watcher.client.connect()
            await watcher.watch(f"values.{where}?name={name}")
        for watcher in watchers:
            await eventually(_last(watcher, "one"), "the first value")
        await asyncio.to_thread(outdate, service, "tag", where, name, "two")
        for watcher in watchers:
            await eventually(_last(watcher, "two"), "the new value")
    finally:
        for watcher in watchers:
            await watcher.leave()
    assert service.ledger().count(f"{where} {name} two") == 1


def _last(watcher: Watcher, value: str) -> Callable[[], bool]:
    return lambda: watcher.values()[-1:] == [value]


def a_failure_is_remembered(service: Service) -> None:
    """A function that raises is not run again for each of those who ask."""
    for where in ("fails_here", "fails_there"):
        name = unique()
        path = f"{RESOURCES}/values.{where}?name={name}"
        answers = [service.get(path, Prefer="wait=20") for _ in range(4)]
        assert {answer.status_code for answer in answers} == {502}
        assert service.ledger().count(f"{where} {name}") == 1


async def everything_holds(service: Service) -> None:
    """What readers can rely on, whatever keeps the values."""
    steps: list[Coroutine[Any, Any, None]] = [asyncio.to_thread(a_failure_is_remembered, service)]
    for where in PLACES:
        steps += [
            asyncio.to_thread(a_value_has_its_version, service, where),
            first_readers_share_one_computation(service, where),
            asyncio.to_thread(no_process_serves_what_is_outdated, service, where, "tag", "key"),
            asyncio.to_thread(a_computation_that_read_before_fills_nothing, service, where),
            asyncio.to_thread(a_softened_value_is_served_once_more, service, where),
            a_watcher_is_told(service, where),
        ]
    await asyncio.gather(*steps)
    await everything_can_be_outdated(service)


async def everything_can_be_outdated(service: Service) -> None:
    """After all the others: it would outdate their values, too."""
    for where in PLACES:
        await asyncio.to_thread(no_process_serves_what_is_outdated, service, where, "all")


@pytest.mark.parametrize("store", ["file", "database"])
async def test_values_on_disk_outlive_the_service(tmp_path: Path, store: str) -> None:
    """With files and with a table of the database everything holds; a restart, which empties the data store, costs no
    computation."""
    with running(tmp_path, store) as service:
        await everything_holds(service)
        kept = await asyncio.to_thread(read, service, "there", "kept")
        checked = await asyncio.to_thread(service.command, "check")
        assert f"kept in {store} (" in checked
    with running(tmp_path, store) as service:
        again = await asyncio.to_thread(service.get, f"{RESOURCES}/values.there?name=kept")
        assert (again.status_code, again.headers["etag"]) == (200, kept.headers["etag"])
        assert service.ledger().count("there kept ") == 1


async def test_values_in_the_memory_of_each_process(tmp_path: Path) -> None:
    """With locmem everything holds, over two web processes and their workers."""
    with running(tmp_path, "locmem") as service:
        await everything_holds(service)


@pytest.mark.services
async def test_values_in_memcached(tmp_path: Path) -> None:
    """With memcached everything holds."""
    with Memcached() as server, running(tmp_path, "memcached", MILLPOND_MEMCACHED=server.address) as service:
        await everything_holds(service)


async def test_values_that_are_kept_nowhere(tmp_path: Path) -> None:
    """With dummy those who wait or watch share a computation, and those who come later have one of their own."""
    with running(tmp_path, "dummy") as service:
        steps: list[Coroutine[Any, Any, None]] = [asyncio.to_thread(a_failure_is_remembered, service)]
        for where in PLACES:
            steps += [
                first_readers_share_one_computation(service, where),
                asyncio.to_thread(no_process_serves_what_is_outdated, service, where, "tag", "key"),
                asyncio.to_thread(a_computation_that_read_before_fills_nothing, service, where),
                a_watcher_is_told(service, where),
            ]
        await asyncio.gather(*steps)
        await everything_can_be_outdated(service)
        name = unique()
        await asyncio.to_thread(read, service, "there", name)
        await asyncio.sleep(2.5)
        await asyncio.to_thread(read, service, "there", name)
        assert service.ledger().count(f"there {name} ") == 2


def test_a_store_that_is_none_stops_the_start(tmp_path: Path) -> None:
    """The message names the caches there are."""
    service = Service(tmp_path, MILLPOND_CACHE_STORE="nowhere")
    command = [sys.executable, "-m", "asgi_app", "up", "--port", str(service.port), "--no-demo"]
    ended = subprocess.run(command, cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1
    assert "MILLPOND_CACHE_STORE='nowhere': must be redis or one of the CACHES" in ended.stderr
    assert "database, dummy, file, locmem, memcached" in ended.stderr
