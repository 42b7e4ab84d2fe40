"""One subscription per topic and process, fanned out, on stand-ins for store and topics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_app import access
from asgi_app.access import Identity
from asgi_app.errors import ComputationFailed, Denied, NotFound, TooManyRequests, Unauthenticated, Unavailable
from asgi_app.topics import Snapshot
from cache_layer.errors import StoreUnavailable
from consumers import hub as module
from consumers.channel import Channel, Subscription
from consumers.connections import Connections
from consumers.effects import Held
from consumers.hub import Hub
from consumers.line import LOOK_AGAIN, Line, ValueLine
from consumers.transport import Port
from tests.unit.consumers.stand_ins import PUBLIC, FakeFeed, FakeSource, published, snapshot, user

INVALIDATIONS = "invalidations"


class Client:
    """A holder that takes everything at once."""

    def __init__(self, identity: Identity = PUBLIC) -> None:
        self.identity = identity
        self.got: list[str] = []
        self.expelled: list[Exception] = []

    def touch(self, subscription: Subscription) -> None:
        self.got += [f"{news.kind}:{news.payload.decode()}" for news in subscription.catch_up()]

    def expel(self, subscription: Subscription, error: Exception) -> None:
        self.expelled.append(error)


def taken(subscription: Subscription) -> bytes | None:
    """The value a holder is told first."""
    held = subscription.take(None, 0.0)
    assert isinstance(held, Held)
    return None if held.value is None else held.value.payload


async def until(true: Callable[[], Any], what: str) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"never: {what}")


@pytest.fixture
def feed() -> FakeFeed:
    return FakeFeed()


@pytest.fixture
async def hub(feed: FakeFeed) -> AsyncIterator[Hub]:
    made = Hub(feed, INVALIDATIONS, Connections(10, 10))  # type: ignore[arg-type]
    yield made
    await made.stop()
    assert feed.on_gap == []
    assert not any(feed.listeners.values())


async def join(hub: Hub, source: FakeSource, who: Identity = PUBLIC) -> tuple[Client, Subscription]:
    client = Client(who)
    subscription = await hub.join(source, client, "t")
    subscription.take(None, 0.0)
    return client, subscription


async def test_the_snapshot_is_read_after_the_store_confirmed(hub: Hub, feed: FakeFeed) -> None:
    """A publication during the read is merged with it: nothing lost, nothing twice."""
    source = FakeSource(now=snapshot(3))
    source.gate.clear()
    client = Client()
    joining = asyncio.create_task(hub.join(source, client, "t"))
    await until(lambda: source.reads, "the read began")
    assert feed.listeners[source.channel]
    assert feed.listeners[INVALIDATIONS]
    feed.say(source.channel, published(4))
    source.gate.set()
    subscription = await joining
    assert taken(subscription) == b"4"
    feed.say(source.channel, published(4))
    feed.say(source.channel, published(5))
    assert client.got == ["value:5"]


async def test_many_joiners_share_one_subscription_and_one_read(hub: Hub, feed: FakeFeed) -> None:
    """And later ones need no read at all while the value is fresh."""
    source = FakeSource()
    clients = await asyncio.gather(*(join(hub, source) for _ in range(200)))
    await join(hub, source)
    assert source.reads == 1
    assert len(feed.listeners[source.channel]) == 1
    feed.say(source.channel, published(2))
    await until(lambda: all(client.got == ["value:2"] for client, _ in clients), "all were told")


async def test_a_broadcast_to_many_lets_others_run(hub: Hub, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut into slices, and a newer value overtakes it for those not yet told."""
    monkeypatch.setattr(module, "_SLICE", 0.0)
    source = FakeSource()
    clients = [client for client, _ in await asyncio.gather(*(join(hub, source) for _ in range(300)))]
    feed.say(source.channel, published(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    told = sum(client.got != [] for client in clients)
    assert 0 < told < 300
    feed.say(source.channel, published(3))
    await until(lambda: all(client.got[-1:] == ["value:3"] for client in clients), "all hold the newest")
    assert sum("value:2" in client.got for client in clients) < 300


async def test_who_leaves_is_told_nothing_by_the_broadcast_that_is_under_way(
    hub: Hub, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by its holder nor past it, and nobody shortens the way to one that has left."""
    monkeypatch.setattr(module, "_SLICE", 0.0)
    source = FakeSource()
    joined = await asyncio.gather(*(join(hub, source) for _ in range(300)))
    written: list[Subscription] = []
    for _, subscription in joined:
        subscription.catch_up()
        port = Port(
            SimpleNamespace(get_write_buffer_size=lambda: 0, write=lambda _, of=subscription: written.append(of))
        )
        port.idle = True
        hub.shorten(subscription, port)
    feed.say(source.channel, published(2))
    await asyncio.sleep(0)
    gone = {subscription for _, subscription in joined} - set(written)
    assert gone
    assert written
    for subscription in gone:
        short = subscription.port
        hub.leave(subscription)
        hub.shorten(subscription, short)
    await until(lambda: not hub.lines[0].sweeping, "the broadcast is over")
    assert not gone & set(written)
    assert all(client.got == [] for client, _ in joined)


async def test_a_pending_value_comes_when_it_is_there(hub: Hub, feed: FakeFeed) -> None:
    """Progress before it."""
    source = FakeSource(now=snapshot(0, None, job="j"))
    client, subscription = await join(hub, source)
    assert isinstance(subscription.channel, Channel)
    assert subscription.channel.job == "j"
    feed.say(source.channel, b'P{"done":1}')
    feed.say(source.channel, published(1))
    assert client.got == ['progress:{"done":1}', "value:1"]


async def test_a_late_joiner_hears_of_the_progress_so_far(hub: Hub, feed: FakeFeed) -> None:
    """The newest of it, after its reply."""
    source = FakeSource(now=snapshot(0, None))
    await join(hub, source)
    feed.say(source.channel, b"P1")
    feed.say(source.channel, b"P2")
    client, subscription = await join(hub, source)
    client.touch(subscription)
    assert client.got == ["progress:2"]


async def test_changed_is_read_once_per_process(hub: Hub, feed: FakeFeed) -> None:
    """However many follow; several changes during a read cost one more."""
    source = FakeSource(now=snapshot(1))
    clients = [client for client, _ in await asyncio.gather(*(join(hub, source) for _ in range(20)))]
    source.now = snapshot(2)
    source.gate.clear()
    feed.say(source.channel, b"C")
    await until(lambda: source.reads == 2, "it is read again")
    source.now = snapshot(3)
    feed.say(source.channel, b"C")
    feed.say(source.channel, b"C")
    source.gate.set()
    await until(lambda: clients[0].got[-1:] == ["value:3"], "the newest arrived")
    assert source.reads == 3


async def test_an_invalidated_watched_value_is_read_at_once(hub: Hub, feed: FakeFeed) -> None:
    """Reading starts the recomputation; subscribers hear nothing but its result."""
    source = FakeSource(tags=("sales",), watched=True)
    client, _ = await join(hub, source)
    source.now = snapshot(1, state="stale", job="j")
    feed.say(INVALIDATIONS, b'{"tags":["other"]}')
    feed.say(INVALIDATIONS, b'{"tags":["sales","x"]}')
    await until(lambda: source.reads == 2, "it is read")
    feed.say(source.channel, published(2))
    assert client.got == ["value:2"]


async def test_an_invalidated_lazy_value_is_stale_and_its_subscribers_are_told(hub: Hub, feed: FakeFeed) -> None:
    """Once; it is not recomputed, until somebody new subscribes."""
    source = FakeSource(tags=("sales",))
    client, _ = await join(hub, source)
    for _ in range(3):
        feed.say(INVALIDATIONS, b'{"tags":["sales"]}')
    assert client.got == ["stale:{}"]
    assert source.reads == 1
    source.now = snapshot(0, None, job="j")
    _, late = await join(hub, source)
    assert source.reads == 2
    assert late.catch_up() == []


async def test_nobody_is_given_what_was_invalidated(hub: Hub, feed: FakeFeed) -> None:
    """Not even right after a look at it; and what else happens on the channel makes nobody read a lazy value."""
    source = FakeSource(tags=("sales",), now=snapshot(1, state="stale"))
    _, subscription = await join(hub, source)
    feed.say(INVALIDATIONS, b'{"tags":["sales"]}')
    feed.say(source.channel, b"P1")
    assert isinstance(subscription.channel, Line)
    assert not subscription.channel.suspect
    source.now = snapshot(1, None, job="j")
    late = await hub.join(source, Client(), "t")
    assert taken(late) is None
    assert source.reads == 2


async def test_invalidations_one_after_another_cost_one_read(hub: Hub, feed: FakeFeed) -> None:
    """While it waits for its turn; the one under way is repeated once."""
    source = FakeSource(tags=("sales",), watched=True)
    await join(hub, source)
    for _ in range(50):
        feed.say(INVALIDATIONS, b'{"tags":["sales"]}')
    await until(lambda: source.reads == 2, "it is read")
    await asyncio.sleep(0.02)
    assert source.reads == 2


async def test_an_invalidation_during_a_read_is_not_answered_by_it(hub: Hub, feed: FakeFeed) -> None:
    """The read may have been before the invalidation: it is read again before anybody is told."""
    source = FakeSource(tags=("sales",), now=snapshot(1))
    source.gate.clear()
    joining = asyncio.create_task(hub.join(source, Client(), "t"))
    await until(lambda: source.reads, "the read began")
    feed.say(INVALIDATIONS, b'{"tags":["sales"]}')
    source.now = snapshot(2)
    source.gate.set()
    assert taken(await joining) == b"2"


async def test_foreign_invalidations_are_ignored(hub: Hub, feed: FakeFeed) -> None:
    """They reach nobody."""
    source = FakeSource(tags=("sales",))
    client, _ = await join(hub, source)
    for message in (b"", b"x", b"{}", b'{"tags":5}', b"[]"):
        feed.say(INVALIDATIONS, message)
    feed.say(source.channel, b"?")
    assert client.got == []


async def test_a_watched_value_is_read_when_its_freshness_ends(hub: Hub) -> None:
    """By one timer, again and again while it is followed."""
    source = FakeSource(watched=True, now=snapshot(1, fresh_for=0.05))
    client, _ = await join(hub, source)
    source.now = snapshot(2, fresh_for=0.05)
    await until(lambda: client.got == ["value:2"], "the new value came")
    await until(lambda: source.reads >= 4, "it goes on")


async def test_a_lazy_value_is_not_read_when_its_freshness_ends(hub: Hub) -> None:
    """Nobody asked for it to be kept fresh."""
    source = FakeSource(now=snapshot(1, fresh_for=0.01))
    _, subscription = await join(hub, source)
    await asyncio.sleep(0)
    assert isinstance(subscription.channel, Line)
    assert subscription.channel.next_look(0.0, 0.5) is None


@pytest.mark.parametrize(
    ("state", "watched", "job", "soonest", "latest"),
    [
        ("pending", True, None, 3.0, 5.0),
        ("pending", False, "j", 3.0, 5.0),
        ("stale", False, "j", 3.0, 5.0),
        ("stale", True, None, 3.0, 5.0),
        ("failed", True, None, 9.0, 9.5),
        ("fresh", True, None, 60.05, 60.5),
    ],
)
async def test_when_the_next_look_is_due(
    hub: Hub, state: str, watched: bool, job: str | None, soonest: float, latest: float
) -> None:
    """Every few seconds for what is on its way, as the error says after an error, and at the end of freshness."""
    error = {"type": "x", "retry_after": 9} if state == "failed" else None
    payload = b"" if state in ("stale", "fresh") else None
    source = FakeSource(watched=watched, now=snapshot(1, payload, state=state, job=job, error=error))
    _, subscription = await join(hub, source)
    line = subscription.channel
    assert isinstance(line, ValueLine)
    now = line.fresh_until - 60.0
    assert line.next_look(now, 0.0) == pytest.approx(soonest)
    assert line.next_look(now, 1.0) == pytest.approx(latest)


async def test_after_a_gap_everything_is_read_again(hub: Hub, feed: FakeFeed) -> None:
    """Once per topic, and only what changed is told."""
    same, other = FakeSource("same"), FakeSource("other")
    quiet = [(await join(hub, same))[0] for _ in range(3)]
    told = [(await join(hub, other))[0] for _ in range(3)]
    other.now = snapshot(9)
    feed.gap()
    await until(lambda: all(client.got == ["value:9"] for client in told), "the change was told")
    await until(lambda: same.reads == 2, "the other was read")
    assert other.reads == 2
    assert all(client.got == [] for client in quiet)


async def test_without_the_store_a_subscribe_is_refused_and_nothing_is_left(hub: Hub, feed: FakeFeed) -> None:
    """And works again as soon as the store is back."""
    feed.down = True
    source = FakeSource()
    with pytest.raises(StoreUnavailable):
        await join(hub, source)
    feed.down = False
    source.now = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await join(hub, source)
    source.now = snapshot(1)
    _, subscription = await join(hub, source)
    assert subscription.sent is not None


async def test_a_read_that_hangs_is_refused_in_time(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients give up after five seconds and tear down everything."""
    monkeypatch.setattr(module, "JOIN_WITHIN", 0.02)
    source = FakeSource()
    source.gate.clear()
    with pytest.raises(StoreUnavailable):
        await join(hub, source)
    source.gate.set()


async def test_while_the_feed_is_not_healthy_nothing_is_served_from_memory(hub: Hub, feed: FakeFeed) -> None:
    """What it held may be outdated without anybody having said so."""
    source = FakeSource()
    await join(hub, source)
    feed.healthy = False
    source.now = snapshot(2)
    _, subscription = await join(hub, source)
    assert source.reads == 2
    assert subscription.sent is not None
    assert subscription.sent.offset == 2


async def test_a_channel_is_kept_for_a_while_after_its_last_subscriber(
    hub: Hub, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reloads come back to it without a read; then it is let go."""
    monkeypatch.setattr(module, "GRACE", 0.05)
    source = FakeSource()
    _, subscription = await join(hub, source)
    hub.leave(subscription)
    hub.leave(subscription)
    _, again = await join(hub, source)
    assert source.reads == 1
    hub.leave(again)
    await until(lambda: not feed.listeners[source.channel], "the channel is released")
    await join(hub, source)
    assert source.reads == 2


async def test_whoever_loses_access_loses_the_subscription_and_the_others_go_on(hub: Hub, feed: FakeFeed) -> None:
    """Principals share a channel when they share a key; each is judged for itself."""
    allowed, revoked = FakeSource(), FakeSource()
    stays, _ = await join(hub, allowed, user("stays"))
    outs = [(await join(hub, revoked, user("out")))[0] for _ in range(3)]
    revoked.verdict = Denied("no more")
    allowed.now = snapshot(2)
    feed.say(revoked.channel, b"C")
    await until(lambda: stays.got == ["value:2"], "the other got the value")
    for out in outs:
        assert [type(error) for error in out.expelled] == [Denied]
        assert out.got == []
    assert stays.expelled == []
    assert (allowed.judged, revoked.judged) == (1, 1)  # once per principal


async def test_the_source_of_the_first_may_be_refused_at_the_read_itself(hub: Hub, feed: FakeFeed) -> None:
    """Access that is lost between judgement and read: the next one's source serves."""
    revoked, allowed = FakeSource(), FakeSource()
    out, _ = await join(hub, revoked, user("out"))
    stays, _ = await join(hub, allowed, user("stays"))
    revoked.now = Denied("no more")
    allowed.now = snapshot(2)
    feed.say(revoked.channel, b"C")
    await until(lambda: stays.got == ["value:2"], "the other got the value")
    assert [type(error) for error in out.expelled] == [Denied]
    assert out.got == []


async def test_values_that_come_without_a_read_have_their_subscribers_judged(
    hub: Hub, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lazy topic is never looked at by the clock, and is published whenever others have it computed."""
    monkeypatch.setattr("consumers.hub.JUDGED_FOR", 0.0)
    source = FakeSource()
    client, _ = await join(hub, source)
    source.verdict = Denied("no more")
    feed.say(source.channel, published(2))
    await until(lambda: client.expelled, "access is found to be lost")
    assert client.got == []
    feed.say(source.channel, published(3))
    assert "value:3" not in client.got


async def test_an_api_token_is_confirmed_once_in_a_while(
    hub: Hub, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all its connections together; who has lost it goes, and a database that is away refuses nobody."""
    answers: list[Exception | None] = [Unavailable("away"), None, Unauthenticated("revoked")]
    asked: list[str] = []

    async def confirm(identity: Identity) -> None:
        asked.append(identity.token)
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(access, "confirm", confirm)
    monkeypatch.setattr(access, "close_old_connections", lambda: None)
    source = FakeSource()
    clients = [(await join(hub, source, user("u", token="t")))[0] for _ in range(3)]
    for number in (2, 3, 4):
        source.now = snapshot(number)
        feed.say(source.channel, b"C")
        await until(lambda n=number: clients[-1].got[-1:] == [f"value:{n}"], "the value came")  # type: ignore[misc]
    assert asked == ["t", "t"]
    hub.judge._confirmed.clear()
    feed.say(source.channel, b"C")
    await until(lambda: all(client.expelled for client in clients), "all are sent away")
    assert len(asked) == 3


async def test_who_cannot_be_asked_has_not_said_no(hub: Hub, feed: FakeFeed) -> None:
    """A job's record is in the store, which may be away for a moment."""
    source = FakeSource()
    client, _ = await join(hub, source)
    for number, error in enumerate((StoreUnavailable("away"), Unavailable("away"), TimeoutError()), 2):
        source.verdict, source.now = error, snapshot(number)
        feed.say(source.channel, b"C")
        await until(lambda n=number: client.got[-1:] == [f"value:{n}"], "the value came")  # type: ignore[misc]
    assert client.expelled == []


async def test_a_rule_that_hangs_does_not_hold_up_the_value(
    hub: Hub, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than a moment; nor does it decide anything."""
    monkeypatch.setattr(module, "_JUDGED_WITHIN", 0.02)
    source = FakeSource()
    client, _ = await join(hub, source)
    source.allowed = asyncio.Event().wait  # type: ignore[method-assign,assignment]
    source.now = snapshot(2)
    feed.say(source.channel, b"C")
    await until(lambda: client.got == ["value:2"], "the value came")
    assert client.expelled == []


async def test_a_spent_quota_is_only_its_own_principals(hub: Hub) -> None:
    """Others who ask for the same topic at the same moment have it computed on their account."""
    spent, good = FakeSource(now=TooManyRequests("spent")), FakeSource(now=snapshot(1))
    results = await asyncio.gather(join(hub, spent, user("a")), join(hub, spent, user("a")), join(hub, good, user("b")))
    assert len(results) == 3
    assert (spent.reads, good.reads) == (1, 1)
    other = FakeSource("other", TooManyRequests("spent", retry_after=3.0))
    with pytest.raises(TooManyRequests):
        await join(hub, other, user("a"))


async def test_a_read_ends_when_nobody_is_left_to_read_for(hub: Hub, feed: FakeFeed) -> None:
    """One has no quota, the other, who came first of all, no access any more."""
    revoked, spent = FakeSource(), FakeSource()
    _, first = await join(hub, revoked, user("revoked"))
    await join(hub, spent, user("spent"))
    hub.leave(first)
    out, subscription = await join(hub, revoked, user("revoked"))
    spent.now, revoked.now = TooManyRequests("spent"), Denied("no more")
    feed.say(spent.channel, b"C")
    line = subscription.channel
    assert isinstance(line, Line)
    await until(lambda: out.expelled and line.reading is None, "the read ended")
    assert (spent.reads, revoked.reads) == (1, 2)


async def test_many_topics_at_once_leave_room_in_the_store(hub: Hub) -> None:
    """Joins take turns at reading, and all get theirs."""
    sources = [FakeSource(f"k{number}") for number in range(200)]
    for source in sources:
        source.gate.clear()
    joins = [asyncio.create_task(join(hub, source)) for source in sources]
    await until(lambda: sum(source.reads for source in sources) == module._READS, "the first read")
    await asyncio.sleep(0.02)
    assert sum(source.reads for source in sources) == module._READS
    for source in sources:
        source.gate.set()
    assert len(await asyncio.gather(*joins)) == 200


async def test_invalidations_are_heard_once(hub: Hub, feed: FakeFeed) -> None:
    """However many join before the first subscription is confirmed; and a failed one is tried again."""
    feed.down = True
    with pytest.raises(StoreUnavailable):
        await join(hub, FakeSource())
    feed.down = False
    await asyncio.gather(*(join(hub, FakeSource(f"k{number}")) for number in range(20)))
    assert len(feed.listeners[INVALIDATIONS]) == 1


async def test_a_read_overtaken_again_and_again_is_repeated_soon(hub: Hub, feed: FakeFeed) -> None:
    """After others had their turn, not at some later look: the last change may be the end of a job."""

    class Overtaken(FakeSource):
        async def read(self) -> Snapshot:
            found = await super().read()
            if self.reads <= 4:
                self.now = snapshot(self.reads + 1)
                feed.say(self.channel, b"C")
            return found

    source = Overtaken()
    client, subscription = await join(hub, source)
    assert source.reads == 3
    assert isinstance(subscription.channel, Line)
    assert subscription.channel.queued
    await until(lambda: client.got[-1:] == ["value:5"], "the last state is told")


async def test_a_lost_read_is_repeated_after_a_few_seconds(hub: Hub, feed: FakeFeed) -> None:
    """However long the last failure said to wait; sooner while the feed hears the store."""
    source = FakeSource()
    _, subscription = await join(hub, source)
    line = subscription.channel
    assert isinstance(line, ValueLine)
    feed.say(source.channel, b'E{"type":"x","retry_after":60}')
    source.now = StoreUnavailable("away")
    feed.healthy = False
    feed.say(source.channel, b"C")
    await until(lambda: source.reads == 2 and line.reading is None, "the read was lost")
    assert line.retry_after == 60.0
    assert line.next_look(0.0, 0.0) == LOOK_AGAIN[1]
    feed.healthy = True
    feed.say(source.channel, b"C")
    await until(lambda: source.reads == 3 and line.reading is None, "the read was lost again")
    assert line.next_look(0.0, 0.0) == 1.0
    source.now = TooManyRequests("spent", retry_after=9.0)
    feed.say(source.channel, b"C")
    await until(lambda: source.reads == 4 and line.reading is None, "it was refused")
    assert line.next_look(0.0, 0.0) == 9.0


async def test_a_topic_that_is_gone_ends_its_subscriptions(hub: Hub, feed: FakeFeed) -> None:
    """A job whose record has expired."""
    source = FakeSource()
    client, _ = await join(hub, source)
    source.now = NotFound("gone")
    feed.say(source.channel, b"C")
    await until(lambda: client.expelled, "it was told")
    with pytest.raises(NotFound):
        await join(hub, source)


async def test_an_error_reaches_subscribers_and_the_next_value_ends_it(hub: Hub, feed: FakeFeed) -> None:
    """A late joiner hears of it, too."""
    source = FakeSource()
    client, _ = await join(hub, source)
    problem = json.dumps(ComputationFailed("boom").problem()).encode()
    feed.say(source.channel, b"E" + problem)
    assert client.got == [f"error:{problem.decode()}"]
    source.now = snapshot(1, state="failed", error=ComputationFailed("boom").problem())
    late, subscription = await join(hub, source)
    late.touch(subscription)
    assert len(late.got) == 1
    feed.say(source.channel, published(2))
    assert client.got[-1] == late.got[-1] == "value:2"


async def test_a_cancelled_joiner_leaves_the_shared_read_to_the_others(hub: Hub) -> None:
    """And no trace of itself."""
    source = FakeSource()
    source.gate.clear()
    gone = asyncio.create_task(hub.join(source, Client(), "t"))
    stays = asyncio.create_task(hub.join(source, Client(), "t"))
    await until(lambda: source.reads, "the read began")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    source.gate.set()
    subscription = await stays
    assert list(subscription.channel.subscriptions) == [subscription]
    assert source.reads == 1
