"""A request whose value is not there, or not fresh, is held before Django, and answered as the view would answer it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from asgi_app.hot import Hot
from asgi_app.registry import Registry, registry, resource
from asgi_app.wiring import Node
from cache_layer import metrics
from tests.integration.test_computing_in_place import Origin
from tests.integration.test_front_and_view_agree import BASE, Messages, agree, of_front, of_view, scope_of
from tests.support.declared_keys import key_of
from tests.support.paged import a_node, browser, gone_reader
from tests.support.processes import fill
from tests.support.store import StoreServer
from tests.support.watcher import eventually

PATH = f"{BASE}held.value"
PATIENT = ((b"host", b"localhost"), (b"prefer", b"wait=20"))


@pytest.fixture
async def origin() -> Origin:
    return Origin()


@pytest.fixture
def declared(origin: Origin) -> Iterator[Registry]:
    with registry.isolated() as made:

        @resource("held.value", offload=False, fresh=600, stale=600, error_ttl=0, retries=0)
        async def value() -> Any:
            return await origin.read()

        @resource("held.impatient", offload=False, fresh=600, stale=0, stale_if_error=600, soft_timeout=0.2)
        async def impatient() -> Any:
            return await origin.read()

        @resource("held.members", offload=False, fresh=600, access="login")
        async def members() -> Any:
            return await origin.read()

        yield made


@pytest.fixture
async def node(store_server: StoreServer, declared: Registry, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr("asgi_app.asgi.front", Hot())  # it remembers the resources of other tests
    async with a_node() as made:
        for name in ("held.value", "held.impatient"):  # as other tests have left it
            key, names = key_of(name), made.cache.names
            await made.store.command("DEL", names.entry(key), names.lease(key), names.failure(key))
        assert made.near is not None
        await eventually(lambda: made.near and made.near.open, "copies are given out")
        yield made


def headers(answer: Messages) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in answer[0]["headers"]}


def without_status(answer: Messages) -> Any:
    """All but how it came about and how old it is, which differ from reader to reader."""
    shown = {name: said for name, said in headers(answer).items() if name not in (b"cache-status", b"age")}
    return answer[0]["status"], shown, answer[1]["body"]


async def age(node: Node, name: str, seconds: float) -> None:
    """Let the value have been stored so long ago."""
    key = key_of(name)
    await fill(node.cache, key, b'"old"')
    ttl = int(await node.store.command("PTTL", node.store.names.entry(key)))
    await node.store.command("PEXPIRE", node.store.names.entry(key), int(ttl - seconds * 1000))


async def test_all_that_wait_are_answered_without_django(node: Node, origin: Origin) -> None:
    """One computation; the first is told that it was its doing, the others that they joined; the rest as the view."""
    origin.open.clear()
    front, before = Hot(), metrics.events["answered before Django"]
    scope = scope_of(PATH, headers=PATIENT)
    first = asyncio.create_task(of_front(front, scope))
    await eventually(lambda: origin.asked == 1, "it computes")
    others = [asyncio.create_task(of_front(front, scope)) for _ in range(20)]
    viewed = asyncio.create_task(of_view(scope))
    await asyncio.sleep(0.1)
    origin.open.set()
    answers = await asyncio.gather(first, *others)
    assert origin.asked == 1
    assert metrics.events["answered before Django"] == before + 21
    of_the_view = await viewed
    assert headers(of_the_view)[b"cache-status"] == b"millpond; fwd=miss; collapsed"
    for number, answer in enumerate(answers):
        assert answer is not None
        assert without_status(answer) == without_status(of_the_view)
        status = headers(answer)[b"cache-status"]
        assert status == (b"millpond; fwd=miss; stored" if number == 0 else b"millpond; fwd=miss; collapsed")


async def test_a_stale_value_is_shown_and_refreshed(node: Node, origin: Origin) -> None:
    """As by the view; and the next reader has the new one."""
    await age(node, "held.value", 700)
    front = Hot()
    origin.open.clear()
    origin.value = "new"
    assert await agree(front, scope_of(PATH))
    answer = await of_front(front, scope_of(PATH))
    assert answer is not None
    assert b"detail=stale-while-revalidate" in headers(answer)[b"cache-status"]
    etag = headers(answer)[b"etag"]
    held = scope_of(PATH, headers=[(b"host", b"localhost"), (b"if-none-match", etag)])
    assert await agree(front, held)
    origin.open.set()
    await eventually(lambda: origin.asked == 1, "it is refreshed")

    async def renewed() -> bool:
        answer = await of_front(front, scope_of(PATH))
        return answer is not None and headers(answer)[b"etag"] != etag

    for _ in range(200):
        if await renewed():
            break
        await asyncio.sleep(0.02)
    assert await renewed()
    assert await agree(front, scope_of(PATH))


async def test_an_old_value_stands_in_for_one_that_takes_too_long(node: Node, origin: Origin) -> None:
    """The view's rule, held by the front."""
    await age(node, "held.impatient", 605)
    front = Hot()
    origin.open.clear()
    answer = await of_front(front, scope_of(f"{BASE}held.impatient", headers=PATIENT))
    origin.open.set()
    assert answer is not None
    assert answer[1]["body"] == b'"old"'
    assert b"detail=stale-if-error" in headers(answer)[b"cache-status"]


@pytest.fixture
def reads(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each reading that may wait."""
    made: list[float] = []
    answering = node.reader.answer

    async def counted(*args: Any, **named: Any) -> Any:
        made.append(named["wait"])
        return await answering(*args, **named)

    monkeypatch.setattr(node.reader, "answer", counted)
    return made


async def test_a_failure_is_said_by_django(node: Node, origin: Origin, reads: list[float]) -> None:
    """It is not asked for once more: what was read is what is told."""
    origin.value = ValueError("no")
    async with browser() as asker:
        answer = await asker.get(PATH, headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.json()["type"]) == (502, "computation-failed")
    assert reads == [20.0]


async def test_a_refusal_is_said_by_django(node: Node, reads: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was raised."""
    monkeypatch.setattr("asgi_app.reading._HERE_AT_ONCE", 0)
    async with browser() as asker:
        answer = await asker.get(PATH)
    assert (answer.status_code, answer.json()["type"], len(reads)) == (503, "unavailable", 1)


async def test_who_has_waited_is_not_held_again(node: Node, origin: Origin, reads: list[float]) -> None:
    """What the front read when the wait was over, the view tells."""
    origin.open.clear()
    async with browser() as asker:
        answer = await asker.get(PATH, headers={"Prefer": "wait=1"})
    origin.open.set()
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=1")
    assert answer.headers["Cache-Status"] == "millpond; fwd=miss"
    assert reads == [1.0]


async def test_a_client_that_leaves_is_held_no_longer(
    node: Node, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reading ends, and nothing is sent; what it asked for is computed for the next one."""
    ended: list[bool] = []
    answering = node.reader.answer

    async def watched(*args: Any, **named: Any) -> Any:
        try:
            return await answering(*args, **{**named, "wait": 20.0})
        except asyncio.CancelledError:
            ended.append(True)
            raise

    monkeypatch.setattr(node.reader, "answer", watched)
    origin.open.clear()
    async with gone_reader(PATH):
        await eventually(lambda: origin.asked == 1, "it computes")
    await eventually(lambda: ended == [True], "it is let go")
    origin.open.set()
    monkeypatch.undo()
    answer = await of_front(Hot(), scope_of(PATH, headers=PATIENT))
    assert answer is not None
    assert (answer[1]["body"], origin.asked) == (b'"old"', 1)


async def test_what_others_may_not_see_is_held_for_nobody(node: Node, origin: Origin) -> None:
    """A refusal is Django's; and so is a computation that a session asks for, which counts for its user."""
    front = Hot()
    assert await of_front(front, scope_of(f"{BASE}held.members")) is None
    assert await of_front(front, scope_of(PATH, headers=[*PATIENT, (b"cookie", b"sessionid=" + b"a" * 32)])) is None
    assert origin.asked == 0
