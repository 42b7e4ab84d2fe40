"""One pass over who follows a topic: what goes past its holder, and that nothing is lost or out of order for that."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_layer.history import LogPage
from cache_layer.position import Position
from cache_layer.publication import Appended, Logged
from consumers import rendering
from consumers.channel import Subscription
from consumers.line import LogLine, ValueLine
from consumers.telling import tell
from consumers.transport import Port
from consumers.writer import Writer
from tests.unit.consumers.stand_ins import EPOCH, PUBLIC


class Transport:
    """asyncio's side of a socket: what was written, and how much of it waits."""

    def __init__(self, end: End) -> None:
        self.waiting = 0
        self.broken = False
        self._end = end

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, message: bytes) -> None:
        if self.broken:
            raise RuntimeError("closed")
        self._end.short.append(message)
        while message:
            size = message[1]
            assert size < 126
            self._end.heard.append(message[2 : 2 + size].decode())
            message = message[2 + size :]


class End:
    """A holder with a writer and a port; `heard` is all its client got, and `short` what of it came past the writer."""

    identity = PUBLIC

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.short: list[bytes] = []
        self.failed = self.touched = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self.transport = Transport(self)
        self.port = Port(self.transport)
        self.writer = Writer(
            self._send,
            rendering.frame,
            glue="\n",
            stalled=lambda: None,
            failed=self._failed,
            port=self.port,
        )

    async def _send(self, text: str) -> None:
        if not self.reads.is_set():
            await self.reads.wait()
        if self.transport.broken:
            raise OSError("gone")
        self.heard += text.split("\n")

    def _failed(self) -> None:
        self.failed += 1

    def touch(self, subscription: Subscription) -> None:
        self.touched += 1
        self.writer.touch(subscription)

    def expel(self, subscription: Subscription, error: Exception) -> None:
        raise AssertionError("not here")

    def follow(self, line: Any, name: str = "t") -> Subscription:
        subscription = Subscription(line, line.source, self, name)
        line.subscriptions[subscription] = None
        subscription.take(None, 0.0)
        subscription.catch_up()
        subscription.port = self.port
        return subscription


class Source:
    """As much of a topic as a line asks for."""

    watched, looks = False, (1.0, 2.0)
    rules = SimpleNamespace(history=100, ttl=60.0)


def a_log() -> LogLine:
    line = LogLine(Source(), 0.0)  # type: ignore[arg-type]
    line.read(LogPage(epoch=EPOCH, top=0, publications=(), life=60.0), now=0.0)
    return line


def a_value() -> ValueLine:
    line = ValueLine(Source(), 0.0)  # type: ignore[arg-type]
    value(line, 1)
    return line


def append(line: LogLine) -> None:
    assert line.position is not None
    offset = line.position.offset + 1
    line.appended(Appended(Position(EPOCH, offset), Logged(offset, b"%d" % offset)), 0.0)


def value(line: ValueLine, offset: int, epoch: str = EPOCH) -> None:
    line.published(Position(epoch, offset), b"%d" % offset, fresh=60.0, now=0.0)


def pub(offset: int, name: str = "t") -> str:
    return f'{{"push":{{"channel":"{name}","pub":{{"data":{offset},"offset":{offset}}}}}}}'


async def test_a_publication_goes_past_its_holders_and_is_framed_once_for_all_who_spell_the_topic_alike() -> None:
    """The very same bytes, also where each client has brought a text of its own."""
    line, ends = a_log(), [End() for _ in range(3)]
    for end, name in zip(ends, ("topic", "other", str(b"topic", "ascii")), strict=True):
        end.follow(line, name)
    append(line)
    tell(line, tuple(line.subscriptions))
    assert [end.heard for end in ends] == [[pub(1, "topic")], [pub(1, "other")], [pub(1, "topic")]]
    assert ends[0].short[0] is ends[2].short[0]
    tell(line, tuple(line.subscriptions))
    assert [(len(end.heard), end.touched) for end in ends] == [(1, 0)] * 3


async def test_a_value_goes_past_its_holder_and_is_told_once() -> None:
    """A signal before or after it is the holder's."""
    line, end = a_value(), End()
    end.follow(line)
    value(line, 2)
    tell(line, tuple(line.subscriptions))
    assert (end.heard, len(end.short)) == ([pub(2)], 1)
    line.signalled("progress", b"{}")
    tell(line, tuple(line.subscriptions))
    assert (len(end.heard), len(end.short)) == (2, 1)
    value(line, 3)
    tell(line, tuple(line.subscriptions))
    assert (end.heard[2:], len(end.short)) == ([pub(3)], 2)
    value(line, 4)
    line.signalled("stale", b"{}")
    tell(line, tuple(line.subscriptions))
    assert (end.heard[3], len(end.heard), len(end.short)) == (pub(4), 5, 2)


async def test_a_value_that_becomes_valid_again_is_not_told_to_who_holds_it() -> None:
    """Though it is an event, and the only one since."""
    line, end = a_value(), End()
    line.value = None
    subscription = Subscription(line, line.source, end, "t")
    line.subscriptions[subscription] = None
    subscription.take(Position(EPOCH, 1), 0.0)
    subscription.catch_up()
    subscription.port = end.port
    value(line, 1)
    assert subscription.heard == line.count - 1
    tell(line, tuple(line.subscriptions))
    assert end.heard == []


async def test_a_reply_that_waits_is_written_before_the_news() -> None:
    """What a connection has to say first closes the short way until it is said."""
    line, end = a_log(), End()
    end.follow(line)
    end.reads.clear()
    end.writer.say("reply")
    assert not end.port.idle
    append(line)
    tell(line, tuple(line.subscriptions))
    assert end.heard == []
    end.reads.set()
    while not end.port.idle:
        await asyncio.sleep(0)
    assert (end.heard, end.short) == (["reply", pub(1)], [])
    append(line)
    tell(line, tuple(line.subscriptions))
    assert (end.heard[2:], len(end.short)) == ([pub(2)], 1)


async def test_a_socket_with_bytes_in_its_buffer_is_left_to_its_holder() -> None:
    """Which honours the limits of the buffer."""
    line, end = a_log(), End()
    end.follow(line)
    end.transport.waiting = 1
    append(line)
    tell(line, tuple(line.subscriptions))
    assert (end.heard, end.short) == ([pub(1)], [])


async def test_who_is_told_deltas_or_stands_in_another_epoch_is_told_by_its_holder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So is who is lost."""
    line, end = a_log(), End()
    asked: list[Subscription] = []
    monkeypatch.setattr(end, "touch", asked.append)
    of_delta, of_epoch, lost = (end.follow(line) for _ in range(3))
    of_delta.delta, of_epoch.epoch, lost.heard = True, "bbbbbbbb", -1
    append(line)
    tell(line, tuple(line.subscriptions))
    assert asked == [of_delta, of_epoch, lost]
    assert end.heard == []


async def test_who_has_left_is_told_nothing() -> None:
    """Though a pass began when it was there."""
    line, end = a_log(), End()
    subscription = end.follow(line)
    everybody = tuple(line.subscriptions)
    del line.subscriptions[subscription]
    subscription.port = None
    append(line)
    tell(line, everybody)
    assert end.heard == []


@pytest.mark.parametrize("way", ["finish", "stop"])
async def test_nothing_goes_past_a_writer_that_has_ended(way: str) -> None:
    """Nothing comes behind the last words."""
    line, end = a_log(), End()
    end.follow(line)

    async def final() -> None:
        end.heard.append("final")

    if way == "finish":
        end.writer.finish(final, lambda: None)
    else:
        end.writer.stop()
    append(line)
    tell(line, tuple(line.subscriptions))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert end.heard == (["final"] if way == "finish" else [])
    assert end.short == []


async def test_a_socket_that_is_gone_ends_its_connection_and_no_other() -> None:
    """It is noted nowhere as told."""
    line, broken, whole = a_log(), End(), End()
    broken.follow(line)
    whole.follow(line)
    broken.transport.broken = True
    append(line)
    tell(line, tuple(line.subscriptions))
    assert (broken.failed, broken.heard, broken.port.idle) == (1, [], False)
    assert whole.heard == [pub(1)]


_STEPS = ("append", "reply", "block", "unblock", "fill", "drain", "turn", "forget", "skip")


@given(st.lists(st.sampled_from(_STEPS), max_size=40), st.booleans())
def test_whichever_way_it_takes_all_of_a_log_comes_in_its_order(steps: list[str], again: bool) -> None:
    """Once each, and replies in theirs; a sweep that passes twice tells nothing twice."""
    asyncio.run(_play(steps, again))


async def _play(steps: list[str], again: bool) -> None:
    line, end = a_log(), End()
    subscription = end.follow(line)
    replies = 0
    for step in steps:
        if step in ("append", "skip"):  # a sweep that has not come to this one
            append(line)
            if step == "append":
                tell(line, tuple(line.subscriptions))
        elif step == "reply":
            replies += 1
            end.writer.say(f"r{replies}")
        elif step == "block":
            end.reads.clear()
            end.transport.waiting = 1
        elif step == "unblock":
            end.reads.set()
            end.transport.waiting = 0
        elif step in ("fill", "drain"):
            end.transport.waiting = int(step == "fill" or not end.reads.is_set())
        elif step == "forget":  # of a subscription that is not there
            end.writer.forget(Subscription(line, line.source, end, "x"))
        else:
            await asyncio.sleep(0)
    end.reads.set()
    end.transport.waiting = 0
    tell(line, tuple(line.subscriptions))
    if again:
        tell(line, tuple(line.subscriptions))
    while not end.port.idle or subscription.behind:
        await asyncio.sleep(0)
    assert [text for text in end.heard if not text.startswith("r")] == [
        pub(n) for n in range(1, steps.count("append") + steps.count("skip") + 1)
    ]
    assert [text for text in end.heard if text.startswith("r")] == [f"r{n}" for n in range(1, replies + 1)]


async def test_what_a_sweep_has_not_told_goes_out_in_one_write() -> None:
    """A frame for each; up to a portion of them, and more of them are the holder's."""
    line, end, late = a_log(), End(), End()
    late.follow(line)
    for _ in range(16):
        append(line)
    end.follow(line)
    append(line)
    tell(line, tuple(line.subscriptions))
    assert (end.heard, len(end.short)) == ([pub(17)], 1)
    assert late.short == []
    assert late.heard == [pub(n) for n in range(1, 18)]
    append(line)
    append(line)
    tell(line, tuple(line.subscriptions))
    assert late.short == [end.short[0].replace(b"17", b"18") + end.short[0].replace(b"17", b"19")]
    assert end.short[1:] == late.short


async def test_what_is_kept_nowhere_is_told_by_the_holder() -> None:
    """It has no position that a short way could go by; and what comes with it keeps its order."""
    line, end = a_log(), End()
    end.follow(line)
    append(line)
    line.ephemeral("join", Logged(0, b"{}"))
    append(line)
    tell(line, tuple(line.subscriptions))
    assert end.short == []
    assert end.heard == [pub(1), '{"push":{"channel":"t","join":{"info":{}}}}', pub(2)]
