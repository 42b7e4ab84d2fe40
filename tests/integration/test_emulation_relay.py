"""What is said to the streams of other processes, over a real store: in order, bounded, and never lost untold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asgi_app.errors import Unavailable
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.redis import Store
from consumers import relaying
from consumers.relaying import Relay
from tests.support.store import StoreServer
from tests.support.watcher import eventually


class Process:
    """A relay, with its own connections to the store."""

    def __init__(self, url: str, namespace: str) -> None:
        self.store, self.feed = Store(url, namespace, deadline=2.0), Feed(url)
        self.relay = Relay(self.store, self.feed)

    async def __aenter__(self) -> Process:
        await self.feed.start()
        channel = self.store.names.node_channel(self.relay.node)
        await eventually(lambda: self.feed.confirmed(channel), "it hears")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.relay.stop()
        await self.feed.stop()
        await self.store.close()


@pytest.fixture
async def two(store: Store, namespace: str) -> AsyncIterator[tuple[Process, Process]]:
    """Processes of one deployment."""
    async with Process(store.url, namespace) as one, Process(store.url, namespace) as other:
        yield one, other


async def test_all_arrives_in_its_order(two: tuple[Process, Process]) -> None:
    """However much of it is on its way at once, and whatever it consists of."""
    here, there = two
    told: list[str] = []
    session = there.relay.enter(told.append)
    texts = [f"{number}\nä\n{'x' * (number % 50 * 300)}" for number in range(500)]
    passed = await asyncio.gather(*(here.relay.pass_on(session, there.relay.node, text) for text in texts))
    assert all(passed)
    await eventually(lambda: len(told) == len(texts), "all of it arrives")
    assert told == texts


async def test_a_process_that_has_just_begun(two: tuple[Process, Process], store: Store) -> None:
    """Whoever was told its name after `listens` is heard, though it only begins to listen; nobody waits for long."""
    here, _ = two
    told: list[str] = []
    feed = Feed(store.url)
    new = Relay(store, feed)
    async with asyncio.timeout(10):
        await new.listens()  # the feed does not even try yet
    assert not await here.relay.pass_on(new.enter(told.append), new.node, "too early")
    await feed.start()
    await new.listens()
    assert await here.relay.pass_on(new.enter(told.append), new.node, "text")
    await eventually(lambda: told == ["text"], "it arrives")
    await feed.stop()


async def test_streams_hear_what_is_theirs(two: tuple[Process, Process]) -> None:
    here, there = two
    one: list[str] = []
    other: list[str] = []
    first, second = there.relay.enter(one.append), there.relay.enter(other.append)
    assert first != second
    for session, text in ((first, "a"), (second, "b"), ("never", "c"), ("", "d"), (f"{first}\n", "e")):
        assert await here.relay.pass_on(session, there.relay.node, text)
    there.relay.leave(second)
    assert await here.relay.pass_on(second, there.relay.node, "f")
    assert await here.relay.pass_on(first, there.relay.node, "g")
    await eventually(lambda: "g" in one, "the last of it arrives")
    assert (one, other) == (["a", "g"], ["b"])


async def test_nobody_of_that_name(two: tuple[Process, Process], store: Store, namespace: str) -> None:
    """Neither one that was never there, nor one that has stopped; and nothing foreign on the channel does harm."""
    here, there = two
    for node in ("0" * 16, "", "nobody", f"{there.relay.node}\n"):
        assert not await here.relay.pass_on("x", node, "text")
    async with Process(store.url, namespace) as gone:
        assert await here.relay.pass_on("x", gone.relay.node, "text")
    passed = True
    async with asyncio.timeout(5):
        while passed:
            passed = await here.relay.pass_on("x", gone.relay.node, "text")
    told: list[str] = []
    session = there.relay.enter(told.append)
    channel = store.names.node_channel(there.relay.node)
    for body in (b"", b"\xff\xff\n\xff", session.encode(), session.encode() + b"\n\xff", session.encode() + b"\nlast"):
        await store.command("PUBLISH", channel, body)
    await eventually(lambda: "last" in told, "what is right arrives")
    assert set(told) <= {"", "last"}


async def test_a_store_that_is_away(tmp_path: Path) -> None:
    """Is said; one's own streams need none.  When it is back, all is as before."""
    server = StoreServer(tmp_path / "store.sock")
    server.start()
    try:
        async with Process(server.url, "away") as here, Process(server.url, "away") as there:
            told: list[str] = []
            session, own = there.relay.enter(told.append), here.relay.enter(told.append)
            server.kill()
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await here.relay.pass_on(session, there.relay.node, "lost")
                assert await here.relay.pass_on(own, here.relay.node, "own")
            assert told == ["own"] * 3
            server.start()

            async def arrives() -> bool:
                try:
                    return await here.relay.pass_on(session, there.relay.node, "back")
                except StoreUnavailable:
                    return False

            async with asyncio.timeout(20):
                while not await arrives():
                    await asyncio.sleep(0.05)
            await eventually(lambda: "back" in told, "it arrives again")
            assert "lost" not in told
    finally:
        server.stop()


async def test_what_is_on_its_way_is_bounded(
    store: Store, namespace: str, store_server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is silent holds up so much and no more, and nobody for ever."""
    monkeypatch.setattr(relaying, "_WAITING", 20)
    monkeypatch.setattr(relaying, "_WITHIN", 0.5)
    async with Process(store.url, namespace) as here:
        store_server.freeze()
        try:
            sent = [here.relay.pass_on("x", "0" * 16, f"{number}") for number in range(200)]
            answers = await asyncio.gather(*sent, return_exceptions=True)
        finally:
            store_server.thaw()
        full = [answer for answer in answers if isinstance(answer, Unavailable)]
        late = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
        assert len(full) + len(late) == 200
        assert 20 <= len(late) <= 22
        assert all(answer.retry_after for answer in full)


async def test_the_bytes_on_their_way_are_bounded_and_the_longest_message_passes(
    two: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    told: list[int] = []
    session = there.relay.enter(lambda text: told.append(len(text)))
    monkeypatch.setattr(relaying, "_WAITING_BYTES", 100_000)
    assert await here.relay.pass_on(session, there.relay.node, "x" * 1_000_000)
    sent = [here.relay.pass_on(session, there.relay.node, "x" * 30_000) for _ in range(10)]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    passed = sum(answer is True for answer in answers)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 10 - passed
    assert 3 <= passed < 10
    await eventually(lambda: len(told) == 1 + passed, "all that was taken arrives")


async def test_who_waits_when_the_process_stops_is_told(
    store: Store, namespace: str, store_server: StoreServer
) -> None:
    async with Process(store.url, namespace) as here:
        store_server.freeze()
        try:
            sent = [asyncio.create_task(here.relay.pass_on("x", "0" * 16, "text")) for _ in range(100)]
            await asyncio.sleep(0.05)
            await here.relay.stop()
            answers = await asyncio.gather(*sent, return_exceptions=True)
        finally:
            store_server.thaw()
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
