"""Who is there, in a real store: shown by the processes that hold them, gone with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from cache_layer.errors import StoreUnavailable
from cache_layer.presence import Change, Presence, Present
from cache_layer.redis import Store
from consumers import presence as module
from consumers.presence import Roll
from tests.support.store import StoreServer
from tests.support.watcher import eventually

TOPIC = "chat.1"


def present(client: str, user: str = "u", info: bytes = b'{"x":1}') -> Present:
    return Present(client, user, info)


def source(*, shown: bool = True, told: bool = True) -> Any:
    """As much of a topic as a roll looks at."""
    return SimpleNamespace(topic=TOPIC, channel="ch", rules=SimpleNamespace(presence=shown, join_leave=told))


async def gone(presence: Presence, *clients: str) -> None:
    await presence.tell([Change(topic=TOPIC, gone=client, channel="ch", message=b"") for client in clients])


async def test_those_who_are_shown_are_there(store: Store) -> None:
    """With what others see of them; the public counts as one user; a name may hold anything."""
    presence = Presence(store)
    odd = '{"ü":"\\n"}'.encode()
    await presence.show(TOPIC, [present("a"), present("b", ""), present("c", "", odd), present("d", "1:\0\n")])
    assert await presence.count(TOPIC) == (4, 3)
    there = await presence.everybody(TOPIC)
    assert there == {"a": b'{"x":1}', "b": b'{"x":1}', "c": odd, "d": b'{"x":1}'}
    await gone(presence, "b", "nobody")
    await gone(presence, "b")
    assert await presence.count(TOPIC) == (3, 3)
    assert await presence.count("elsewhere") == (0, 0)


async def test_many_are_shown(store: Store) -> None:
    """In portions."""
    presence = Presence(store)
    await presence.show(TOPIC, [present(f"c{n}", f"u{n % 7}") for n in range(1203)])
    assert await presence.count(TOPIC) == (1203, 7)


async def test_who_is_not_shown_again_is_not_there(store: Store) -> None:
    """As the clients of a process that was killed, while others on the topic go on; and their entries go too."""
    dying, living = Presence(store, life=0.3), Presence(store, life=30)
    await dying.show(TOPIC, [present("a")])
    await living.show(TOPIC, [present("b")])
    assert await living.count(TOPIC) == (2, 1)
    await asyncio.sleep(0.35)
    assert await living.count(TOPIC) == (1, 1)
    assert list(await living.everybody(TOPIC)) == ["b"]
    key = store.names.presence(TOPIC)
    assert await store.command("HLEN", key) == 2
    await living.show(TOPIC, [present("b")], again=True)
    assert await store.command("HLEN", key) == 1


@dataclass
class Ear:
    """What was announced."""

    heard: list[bytes]


@pytest.fixture
async def ear(store: Store, store_server: StoreServer) -> AsyncIterator[Ear]:
    from cache_layer.feed import Feed

    feed, made = Feed(store_server.url), Ear([])
    await feed.start()
    await feed.subscribe("ch", made.heard.append)
    yield made
    await feed.stop()


@pytest.fixture
async def roll(store: Store) -> AsyncIterator[Roll]:
    made = Roll(Presence(store))
    yield made
    await made.stop()


async def test_each_comes_before_it_goes_and_both_once(store: Store, roll: Roll, ear: Ear) -> None:
    """However fast it goes again, and though others come and go meanwhile."""
    stays = await asyncio.gather(*(roll.enter(source(), present(f"c{n}", info=b'"%d"' % n)) for n in range(300)))
    for stay in stays:
        stay.announce()
        stay.leave()
        stay.leave()
    await eventually(lambda: len(ear.heard) >= 600, "all is told")
    await roll.stop()
    assert len(ear.heard) == 600
    for number in range(300):
        assert ear.heard.index(b'J"%d"' % number) < ear.heard.index(b'G"%d"' % number)
    assert await Presence(store).count(TOPIC) == (0, 0)


async def test_what_is_left_to_say_is_said_when_the_process_ends(store: Store, roll: Roll, ear: Ear) -> None:
    """Also of those who were not announced: they are not there any more."""
    stay, silent = await roll.enter(source(), present("a")), await roll.enter(source(told=False), present("b"))
    stay.announce()
    stay.leave()
    silent.leave()
    await roll.stop()
    assert await Presence(store).count(TOPIC) == (0, 0)
    await eventually(lambda: len(ear.heard) == 2, "both are told")
    assert ear.heard == [b'J{"x":1}', b'G{"x":1}']


async def test_a_topic_that_shows_nobody_may_still_tell(store: Store, roll: Roll, ear: Ear) -> None:
    """Who comes and goes, and nothing is stored."""
    stay = await roll.enter(source(shown=False), present("a"))
    assert await Presence(store).count(TOPIC) == (0, 0)
    stay.announce()
    stay.leave()
    await eventually(lambda: len(ear.heard) == 2, "both are told")


async def test_who_gives_up_while_it_enters_is_not_there(store: Store, roll: Roll) -> None:
    """However late the store takes it in."""
    entering = asyncio.create_task(roll.enter(source(), present("a")))
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    await roll.stop()
    assert await Presence(store).count(TOPIC) == (0, 0)


async def test_those_who_stay_are_shown_again(store: Store, roll: Roll, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the store has lost them; and not those who have gone."""
    monkeypatch.setattr(module, "SHOWN_EVERY", 0.05)
    await roll.enter(source(), present("a"))
    other = await roll.enter(source(), present("b"))
    await store.command("DEL", store.names.presence(TOPIC))
    presence = Presence(store)
    async with asyncio.timeout(10):
        while await presence.count(TOPIC) != (2, 1):
            await asyncio.sleep(0.01)
    other.leave()
    async with asyncio.timeout(10):
        while await presence.count(TOPIC) != (1, 1):
            await asyncio.sleep(0.01)


async def test_what_cannot_be_told_is_told_later(
    store: Store, roll: Roll, ear: Ear, store_server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its order; nobody waits for it."""
    monkeypatch.setattr(module, "_TRY_AGAIN", 0.02)
    stay = await roll.enter(source(), present("a"))
    store._deadline = 0.1
    store_server.freeze()
    try:
        stay.announce()
        stay.leave()
        await asyncio.sleep(0.3)
    finally:
        store_server.thaw()
    async with asyncio.timeout(10):
        while await store.command("HLEN", store.names.presence(TOPIC)):
            await asyncio.sleep(0.01)
    await eventually(lambda: len(ear.heard) >= 2, "both are told")
    assert [message[:1] for message in ear.heard[-2:]] == [b"J", b"G"]


async def test_who_goes_and_comes_at_once_is_there(store: Store, roll: Roll, ear: Ear) -> None:
    """What is left of the first time does not end the second."""
    stay = await roll.enter(source(), present("a"))
    stay.announce()
    for _ in range(50):
        stay.leave()
        stay = await roll.enter(source(), present("a"))
        stay.announce()
        assert await Presence(store).count(TOPIC) == (1, 1)
    await roll.stop()
    assert await Presence(store).count(TOPIC) == (1, 1)
    await eventually(lambda: len(ear.heard) == 101, "all is told")
    assert [message[:1] for message in ear.heard] == [b"J", *[b"G", b"J"] * 50]


async def test_nobody_enters_while_the_store_is_away(store: Store, roll: Roll, store_server: StoreServer) -> None:
    """And who could not is not there later; it is no longer waited for than one call takes."""
    store._deadline = 0.1
    store_server.freeze()
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await roll.enter(source(), present("a"))
    finally:
        store_server.thaw()
    store._deadline = 5.0
    await roll.stop()
    assert await Presence(store).count(TOPIC) == (0, 0)
