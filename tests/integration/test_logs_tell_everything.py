"""Log topics over a real store: everything in order, nothing untold, and who comes back costs the store nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio as aioredis
from django.db import transaction

import asgi_app
from asgi_app import publishing, wiring
from asgi_app.access import Identity
from asgi_app.env import env
from asgi_app.errors import BadParameters, Denied, NotFound, Unauthenticated
from asgi_app.registry import DeclarationError, Principal, log, registry
from asgi_app.topics import Log, open_topic
from asgi_app.wiring import Node
from cache_layer.position import Position
from consumers.channel import Subscription
from consumers.connections import Connections
from consumers.effects import HeldLog
from consumers.hub import Hub
from tests.support.paged import a_node
from tests.support.store import StoreServer
from tests.support.watcher import eventually

PUBLIC = Identity(principal=Principal.public())
USER = Principal(
    user_id="7", username="ann", scopes=frozenset({"read"}), is_anonymous=False, permissions=frozenset({"chat.speak"})
)


@pytest.fixture(autouse=True)
def declarations() -> Iterator[None]:
    """Logs of these tests alone."""
    with registry.isolated():
        log("t.open.*", access="public", publish=True, history=50, ttl=60)
        log("t.members", access="login", publish="chat.speak", history=10, ttl=60)
        log("t.fleeting", access="public", history=0)
        log("t.*", access=lambda principal, topic: topic == "t.named")
        yield


@pytest.fixture
async def node(store_server: StoreServer) -> AsyncIterator[Node]:
    async with a_node() as made:
        yield made


@pytest.fixture
async def hub(node: Node) -> AsyncIterator[Hub]:
    made = Hub(node.feed, node.cache.invalidations_channel, Connections(1000, 1000))
    yield made
    await made.stop()


class Follower:
    """Someone who takes what comes as soon as it comes, or does not (`slow`)."""

    identity = PUBLIC

    def __init__(self, *, slow: bool = False) -> None:
        self.slow = slow
        self.told: list[str] = []

    def touch(self, subscription: Subscription) -> None:
        while not self.slow and subscription.behind:
            self.told += [
                news.kind if news.kind == "lost" else news.payload.decode() for news in subscription.catch_up()
            ]

    def expel(self, subscription: Subscription, error: Exception) -> None:
        self.told.append("expelled")

    async def join(self, hub: Hub, topic: str, since: Position | None = None) -> HeldLog:
        source = await open_topic(topic, self.identity.principal)
        self.subscription = await hub.join(source, self, topic, since)
        held = self.subscription.take(since, asyncio.get_running_loop().time())
        assert isinstance(held, HeldLog)
        return held


def said(held: HeldLog) -> list[str] | None:
    return None if held.missed is None else [news.payload.decode() for news in held.missed]


async def source_of(topic: str) -> Log:
    source = await open_topic(topic, PUBLIC.principal)
    assert source.kind == "log"
    return source


async def test_a_follower_is_told_everything_in_order(hub: Hub) -> None:
    """From the position it was told on, whoever publishes."""
    ann = Follower()
    held = await ann.join(hub, "t.open.a")
    assert held.recoverable
    assert held.position.offset == 0
    positions = [await publishing.publish("t.open.a", {"n": n}) for n in range(5)]
    assert [position.offset for position in positions if position] == [1, 2, 3, 4, 5]
    await eventually(lambda: len(ann.told) == 5, "it was told all")
    assert ann.told == [f'{{"n":{n}}}' for n in range(5)]
    bob = Follower()
    late = await bob.join(hub, "t.open.a", Position(held.position.epoch, 0))
    assert said(late) == ann.told


async def test_an_epoch_lasts_from_the_first_subscribe(hub: Hub) -> None:
    """Also on a topic on which nothing was published yet."""
    first = await Follower().join(hub, "t.open.b")
    await publishing.publish("t.open.b", 1)
    await publishing.publish("t.open.b", 2)
    late = Follower()
    missed = said(await late.join(hub, "t.open.b", first.position))
    assert missed is not None
    # What this process has not heard yet comes live.
    await eventually(lambda: missed + late.told == ["1", "2"], "both are told, in order")


async def test_a_lost_connection_to_the_store_is_repaired_untold(hub: Hub, store_server: StoreServer) -> None:
    """Publications while nobody listened are read, once, and come in their place."""
    ann = Follower()
    await ann.join(hub, "t.open.c")
    client = aioredis.Redis.from_url(store_server.url)
    for n in range(40):
        if n % 10 == 5:
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
        await publishing.publish("t.open.c", n)
    await client.aclose()
    await eventually(lambda: len(ann.told) == 40, "it was told all")
    assert ann.told == [str(n) for n in range(40)]


async def test_what_the_store_has_trimmed_is_told_as_a_loss(hub: Hub, store_server: StoreServer, node: Node) -> None:
    """More than the log keeps was published while nobody listened."""
    ann = Follower()
    await ann.join(hub, "t.open.d")
    await publishing.publish("t.open.d", 0)
    await eventually(lambda: ann.told == ["0"], "it is told")
    source = await source_of("t.open.d")
    channel, source_channel = node.store.names.log_channel, source.channel
    node.store.names.log_channel = lambda topic: "elsewhere"  # type: ignore[method-assign]
    for n in range(1, 61):
        await publishing.publish("t.open.d", n)
    node.store.names.log_channel = channel  # type: ignore[method-assign]
    assert node.store.names.log_channel("t.open.d") == source_channel
    await publishing.publish("t.open.d", 61)
    await eventually(lambda: len(ann.told) > 1, "it is told")
    assert ann.told == ["0", "lost"]
    assert said(await Follower().join(hub, "t.open.d", Position("", 1))) is None


async def test_a_store_that_has_lost_everything_begins_a_new_epoch(hub: Hub, node: Node) -> None:
    """Nobody goes on with a position of the old one."""
    ann = Follower()
    held = await ann.join(hub, "t.open.e")
    await publishing.publish("t.open.e", 1)
    await eventually(lambda: ann.told == ["1"], "it is told")
    await node.store.command("DEL", node.store.names.stream("t.open.e"), node.store.names.stream_position("t.open.e"))
    after = await publishing.publish("t.open.e", 2)
    assert after is not None
    assert after.offset == 1
    assert after.epoch != held.position.epoch
    await eventually(lambda: len(ann.told) > 1, "it is told")
    assert ann.told == ["1", "lost"]
    again = await Follower().join(hub, "t.open.e", Position(held.position.epoch, 1))
    assert again.missed is None
    assert again.position == after


async def test_a_storm_of_reconnects_reads_the_store_once(hub: Hub, node: Node, store_server: StoreServer) -> None:
    """Five hundred come back with a position each: what they have missed is in memory."""
    first = await Follower().join(hub, "t.open.f")
    for n in range(30):
        await publishing.publish("t.open.f", n)
    client = aioredis.Redis.from_url(store_server.url)
    await client.config_resetstat()
    positions = [Position(first.position.epoch, n % 30) for n in range(500)]
    held = await asyncio.gather(*(Follower().join(hub, "t.open.f", since) for since in positions))
    assert [len(said(one) or []) for one in held] == [30 - since.offset for since in positions]
    calls = await client.info("commandstats")
    await client.aclose()
    scripts = sum(calls.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))
    assert scripts <= 1


async def test_who_does_not_take_anything_is_told_it_is_lost(hub: Hub) -> None:
    """And costs no memory beyond what is shared."""
    slow, quick = Follower(slow=True), Follower()
    await slow.join(hub, "t.open.g")
    await quick.join(hub, "t.open.g")
    for n in range(200):
        await publishing.publish("t.open.g", n)
    await eventually(lambda: len(quick.told) == 200, "the other is told all")
    slow.slow = False
    slow.touch(slow.subscription)
    assert slow.told == ["lost"]


async def test_without_history_what_is_missed_is_missed(hub: Hub) -> None:
    """There are no positions, and nothing stays in the store."""
    ann = Follower()
    held = await ann.join(hub, "t.fleeting")
    assert not held.recoverable
    assert await publishing.publish("t.fleeting", 1) is None
    await eventually(lambda: ann.told == ["1"], "it is told")
    with pytest.raises(publishing.NoHistory):
        await publishing.history(await source_of("t.fleeting"), limit=1, since=None, reverse=False)


async def test_history(hub: Hub) -> None:
    """Pages forwards and backwards; the position alone; another epoch."""
    for n in range(1, 61):
        await publishing.publish("t.open.h", n)
    source = await source_of("t.open.h")

    async def page(limit: int, since: Position | None = None, *, reverse: bool = False) -> list[int]:
        found = await publishing.history(source, limit=limit, since=since, reverse=reverse)
        assert found.top == 60
        return [logged.offset for logged in found.publications]

    assert await page(0) == []
    assert await page(-1) == list(range(11, 61))
    assert await page(3) == [11, 12, 13]
    assert await page(2, Position("", 40)) == [41, 42]
    assert await page(-1, Position("", 60)) == []
    assert await page(3, reverse=True) == [60, 59, 58]
    assert await page(2, Position("", 40), reverse=True) == [39, 38]
    assert await page(2, Position("", 12), reverse=True) == [11]
    with pytest.raises(BadParameters):
        await page(1, Position("", 0), reverse=True)
    with pytest.raises(publishing.Unrecoverable):
        await page(1, Position("nonsense", 5))


async def test_a_read_is_bounded_in_bytes(hub: Hub, node: Node) -> None:
    """It gives what fits, from the side it was asked from and without a hole; whoever has missed more is told so."""
    text = "x" * 900_000
    for n in range(1, 11):
        await publishing.publish("t.open.k", [n, text])
    source = await source_of("t.open.k")
    forwards, backwards = await source.read_log(0, 50), await source.read_log(None, 50)
    assert [logged.offset for logged in forwards.publications] == [1, 2, 3, 4, 5]
    assert [logged.offset for logged in backwards.publications] == [6, 7, 8, 9, 10]
    assert said(await Follower().join(hub, "t.open.k", Position("", 0))) is None
    recovered = said(await Follower().join(hub, "t.open.k", Position("", 8)))
    assert recovered is not None
    assert [one[:3] for one in recovered] == ["[9,", "[10"]


async def test_an_empty_topic_is_soon_forgotten(node: Node) -> None:
    """Anybody may ask for any name; its position is kept for an hour, and for a day once something was published."""
    source = await source_of("t.open.l")
    await source.read_log(None, 1)
    name = node.store.names.stream_position("t.open.l")
    assert 0 < await node.store.command("PTTL", name) <= 3_600_000
    await publishing.publish("t.open.l", 1)
    await source.read_log(None, 1)
    assert await node.store.command("PTTL", name) > 3_600_000


async def test_who_may_follow_and_publish(node: Node) -> None:
    """The first declared pattern counts, and a client publishes only where a rule allows it."""
    with pytest.raises(Unauthenticated):
        await open_topic("t.members", PUBLIC.principal)
    await open_topic("t.members", USER)
    await open_topic("t.members", PUBLIC.principal, trusted=True)
    await open_topic("t.named", PUBLIC.principal)
    with pytest.raises(Unauthenticated):
        await open_topic("t.other", PUBLIC.principal)
    with pytest.raises(Denied):
        await open_topic("t.other", USER)
    for nothing in ("", "u", "job:t", "t\n.open", "t." + "x" * 300):
        with pytest.raises((NotFound, BadParameters)):
            await open_topic(nothing, USER)
    await publishing.publish_from("t.members", 1, USER, info=b'{"user":"7"}')
    await publishing.publish_from("t.open.i", 1, PUBLIC.principal, info=b"{}")
    for topic, who in (("t.members", PUBLIC.principal), ("t.named", PUBLIC.principal), ("log:x", USER)):
        with pytest.raises((Denied, Unauthenticated)):
            await publishing.publish_from(topic, 1, who, info=b"{}")
    with pytest.raises(NotFound):
        await publishing.publish("nowhere", 1)
    with pytest.raises(BadParameters, match="JSON"):
        await publishing.publish("t.open.i", object())
    with pytest.raises(BadParameters, match="bytes"):
        await publishing.publish("t.open.i", "x" * env().max_body)


def test_a_declaration_says_what_is_wrong_with_it() -> None:
    """All at once, and where."""
    with pytest.raises(DeclarationError, match=r"history.*ttl.*presence"):
        log("x.*", history=-1, ttl=0, presence="yes")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="no log"):
        log("job:*")
    with pytest.raises(DeclarationError, match="already"):
        log("t.fleeting", history=5)


@pytest.mark.django_db(transaction=True)
async def test_published_in_a_transaction_it_is_told_after_the_commit(hub: Hub) -> None:
    """And not at all when it is rolled back."""
    ann = Follower()
    await ann.join(hub, "t.open.j")

    def change(value: int, *, fail: bool) -> None:
        with transaction.atomic():
            asgi_app.publish("t.open.j", value)
            assert ann.told == []
            transaction.set_rollback(fail)

    await asyncio.to_thread(change, 1, fail=True)
    await asyncio.to_thread(change, 2, fail=False)
    await eventually(lambda: ann.told == ["2"], "it is told")
    assert wiring.node() is not None
