"""The outgoing side of a connection: order, conflation, and what happens when the client does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cache_layer.position import Position
from consumers import writer as module
from consumers.channel import Channel, News, Subscription
from consumers.writer import Writer, abort
from tests.unit.consumers.stand_ins import EPOCH, PUBLIC, FakeSource


class Socket:
    """An ASGI `send` that the test can block or break."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False

    async def send(self, text: str) -> None:
        await self.open.wait()
        if self.broken:
            raise OSError("gone")
        self.texts.append(text)


class End:
    """One connection: a writer between a socket and one channel."""

    identity = PUBLIC

    def __init__(self, at_once: Callable[[Subscription, News], bool] | None = None) -> None:
        self.socket = Socket()
        self.events: list[str] = []
        self.writer = Writer(
            self.socket.send,
            lambda subscription, news: None if news.kind == "stale" else f"{news.kind}:{news.payload.decode()}",
            glue="\n",
            stalled=lambda: self.events.append("stalled"),
            failed=lambda: self.events.append("failed"),
            at_once=at_once,
        )

    def expel(self, subscription: Subscription, error: Exception) -> None:
        raise AssertionError("not here")

    def touch(self, subscription: Subscription) -> None:
        self.writer.touch(subscription)

    def follow(self, channel: Channel) -> Subscription:
        subscription = Subscription(channel, FakeSource(), self, "t")
        channel.subscriptions[subscription] = None
        return subscription


def publish(channel: Channel, offset: int) -> None:
    channel.published(Position(EPOCH, offset), b"%d" % offset, fresh=60.0, now=0.0)
    for subscription in channel.subscriptions:
        subscription.holder.touch(subscription)


async def until(true: Callable[[], Any], what: str) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"never: {what}")


async def test_while_the_client_reads_everything_is_written_at_once() -> None:
    """In the call that brings it, without a task."""
    end = End()
    end.writer.say("a")
    end.writer.say(lambda: "b")
    assert end.socket.texts == ["a", "b"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_blocked_client_gets_its_replies_then_the_newest_value() -> None:
    """Replies in their order and joined; of a hundred values one."""
    end, channel = End(), Channel()
    end.follow(channel)
    end.socket.open.clear()
    end.writer.say("1")
    for offset in range(1, 101):
        publish(channel, offset)
    end.writer.say("2")
    end.writer.say("3")
    end.socket.open.set()
    await until(lambda: len(end.socket.texts) == 2, "all is written")
    assert end.socket.texts == ["1", "2\n3\nvalue:100"]


async def test_a_reply_is_made_when_it_is_written() -> None:
    """So that a waiting one holds no copy of its value."""
    end = End()
    made: list[int] = []
    end.socket.open.clear()
    end.writer.say("1")
    end.writer.say(lambda: made.append(1) or "2")  # type: ignore[func-returns-value]
    assert made == []
    end.socket.open.set()
    await until(lambda: end.socket.texts == ["1", "2"], "it is written")


async def test_a_slow_client_disturbs_nobody() -> None:
    """The others have everything while it has nothing, and then it has the newest."""
    channel, slow, quick = Channel(), End(), End()
    slow.follow(channel)
    quick.follow(channel)
    slow.socket.open.clear()
    for offset in (1, 2, 3):
        publish(channel, offset)
    assert quick.socket.texts == ["value:1", "value:2", "value:3"]
    slow.socket.open.set()
    await until(lambda: slow.socket.texts[-1:] == ["value:3"], "the slow one caught up")
    assert slow.socket.texts == ["value:1", "value:3"]


async def test_news_that_is_not_for_this_client_writes_nothing() -> None:
    """No empty frame: it kills the JavaScript client."""
    end, channel = End(), Channel()
    subscription = end.follow(channel)
    channel.signalled("stale", b"{}")
    end.touch(subscription)
    end.touch(subscription)
    assert end.socket.texts == []


async def test_a_forgotten_subscription_is_silent() -> None:
    """Also when news was waiting for it."""
    end, channel = End(), Channel()
    subscription = end.follow(channel)
    end.socket.open.clear()
    end.writer.say("1")
    publish(channel, 1)
    end.writer.forget(subscription)
    end.socket.open.set()
    await until(lambda: end.socket.texts == ["1"], "the rest is written")


async def test_reading_should_pause_while_replies_pile_up() -> None:
    """`room` returns once the client has taken them."""
    end = End()
    end.socket.open.clear()
    for number in range(100):
        end.writer.say(str(number))
    waiting = asyncio.create_task(end.writer.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    end.socket.open.set()
    await waiting


async def test_a_stuck_write_is_reported_and_the_end_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """First `stalled`, then, as the last words cannot be written either, `gone`."""
    monkeypatch.setattr(module, "STALLED", 0.02)
    monkeypatch.setattr(module, "FAREWELL", 0.02)
    end = End()
    end.socket.open.clear()
    end.writer.say("1")
    await until(lambda: end.events == ["stalled"], "it is reported")

    async def final() -> None:
        end.events.append("final")

    end.writer.finish(final, gone=lambda: end.events.append("gone"))
    await until(lambda: "gone" in end.events, "it is given up")
    assert end.events == ["stalled", "gone"]
    end.writer.say("2")
    end.writer.stop()


async def test_last_words_come_after_what_was_said() -> None:
    """And nothing comes after them."""
    end = End()
    end.socket.open.clear()
    end.writer.say("1")
    end.writer.say("2")

    async def final() -> None:
        end.socket.texts.append("final")

    end.writer.finish(final, gone=lambda: end.events.append("gone"))
    end.writer.say("3")
    end.socket.open.set()
    await until(lambda: end.socket.texts == ["1", "2", "final"], "the end")
    end.writer.say("4")
    end.writer.finish(final, gone=lambda: end.events.append("gone"))
    assert end.socket.texts == ["1", "2", "final"]
    assert end.events == []


async def test_a_broken_socket_is_reported_once() -> None:
    """Whether it breaks at once or while a write waits."""
    for blocked in (False, True):
        end = End()
        end.socket.broken = True
        if blocked:
            end.socket.open.clear()
        end.writer.say("1")
        end.socket.open.set()
        await until(lambda end=end: end.events, "it is reported")  # type: ignore[misc]
        end.writer.say("2")
        assert end.events == ["failed"]
        assert end.socket.texts == []


async def test_a_reply_that_cannot_be_made_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the connection goes on."""
    end = End()
    end.writer.say(lambda: str(1 / 0))
    end.writer.say("2")
    assert end.socket.texts == ["2"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("busy", [False, True])
async def test_news_that_cannot_be_made_ends_the_connection(caplog: pytest.LogCaptureFixture, busy: bool) -> None:
    """It must not become a hole that nobody tells of: the client comes back, and is told all."""
    end, channel = End(), Channel()
    subscription = end.follow(channel)
    if busy:
        end.socket.open.clear()
        end.writer.say("1")
    channel.signalled("progress", b"\xff")
    end.touch(subscription)
    end.socket.open.set()
    await until(lambda: end.events, "it is reported")
    assert end.events == ["failed"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_prepared_news_goes_out_at_once_unless_something_waits() -> None:
    """In the order in which it was told, whichever way each of it takes."""
    prepared: list[str] = []
    open_ = True

    def at_once(subscription: Subscription, news: News) -> bool:
        if open_:
            prepared.append(news.payload.decode())
        return open_

    end, channel = End(at_once), Channel()
    end.follow(channel)
    publish(channel, 1)
    assert (prepared, end.socket.texts) == (["1"], [])
    open_ = False
    publish(channel, 2)
    assert (prepared, end.socket.texts) == (["1"], ["value:2"])
    open_ = True
    end.socket.open.clear()
    publish(channel, 3)
    end.writer.say("reply")
    publish(channel, 4)
    assert prepared == ["1", "3"]
    end.socket.open.set()
    await until(lambda: len(end.socket.texts) == 3, "the rest comes")
    assert end.socket.texts == ["value:2", "reply", "value:4"]


async def test_stopping_while_a_write_waits_leaves_no_task() -> None:
    """The connection is gone."""
    end = End()
    end.socket.open.clear()
    end.writer.say("1")
    end.writer.stop()
    end.writer.stop()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "the task has ended")
    assert end.events == []


async def test_a_long_batch_is_cut() -> None:
    """At most sixteen frames in one write."""
    end = End()
    end.socket.open.clear()
    for number in range(40):
        end.writer.say(str(number))
    end.socket.open.set()
    await until(lambda: end.socket.texts[-1:] and end.socket.texts[-1].endswith("39"), "all is written")
    assert [text.count("\n") + 1 for text in end.socket.texts] == [1, 16, 16, 7]


def test_abort_reaches_the_transport_behind_a_bound_send() -> None:
    """And says so when there is none."""

    class Transport:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Protocol:
        transport = Transport()

        async def send(self, message: object) -> None:
            raise AssertionError("not here")

    protocol = Protocol()
    assert abort(protocol.send)
    assert protocol.transport.aborted
    assert not abort(lambda message: None)
