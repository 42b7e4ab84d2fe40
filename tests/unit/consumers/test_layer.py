"""Mailboxes, bytes and addresses of the channel layer, without a store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers import layer_hosts
from consumers.layer import MillpondChannelLayer
from consumers.layer_losses import Losses
from consumers.layer_mailbox import Mailbox
from consumers.layer_names import LayerNames, client_of
from consumers.layer_wire import Unreadable, Wire, apart

_STEPS = st.lists(st.one_of(st.just("put"), st.just("take"), st.floats(0.1, 5.0)), max_size=80)


@given(steps=_STEPS, capacity=st.integers(1, 5))
def test_every_message_is_taken_in_order_or_told_where_it_is_missing(steps: list[Any], capacity: int) -> None:
    """What came before a message, taken or told as lost, is all that was put before it; within bounds."""
    box, now = Mailbox("x", capacity, "lost"), 0.0
    put = taken = lost = 0
    for step in [*steps, *["take"] * (3 * capacity + 3)]:
        if step == "put":
            box.put({"n": put}, now, 3.0, None)
            put += 1
        elif step == "take":
            message = box.take(now)
            if message is not None and message.get("type") == "lost":
                lost += message["count"]
            elif message is not None:
                assert message["n"] == taken + lost
                taken += 1
        else:
            now += step
        assert len(box) <= capacity
        assert len(box._entries) <= 2 * capacity + 2
    assert put == taken + lost


async def test_who_is_woken_and_gone_wakes_the_next() -> None:
    """A message is not left lying while somebody waits for it."""
    box, loop = Mailbox("x", 5), asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    box.waiters += [first, second]
    box.put({}, 0.0, 60.0, loop)
    assert first.done()
    assert not second.done()
    box.leave(first, loop)
    assert second.done()


@pytest.mark.parametrize("form", ["msgpack", "json"])
@pytest.mark.parametrize("keys", [None, ["new", "old"]])
def test_bytes_and_back(form: str, keys: list[str] | None) -> None:
    """In both forms, encrypted or not; old keys still decrypt."""
    message = {"type": "x", "n": 1, "held": [None, True, 1.5, "é"]}
    wire = Wire(form, keys)
    assert wire.load(wire.dump(message)) == message
    if keys:
        assert wire.load(Wire(form, ["old"]).dump(message)) == message
        with pytest.raises(Unreadable):
            Wire(form, ["other"]).load(wire.dump(message))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"[1]", b"\x93\x01\x02\x03"])
def test_foreign_bytes_are_unreadable(data: bytes) -> None:
    """Never another exception."""
    for form in ("msgpack", "json"):
        with pytest.raises(Unreadable):
            Wire(form).load(data)


def test_a_copy_shares_nothing() -> None:
    """That can be changed."""
    message = {"a": {"b": [1, {"c": 2}]}}
    copy = apart(message)
    copy["a"]["b"][1]["c"] = 3
    assert message == {"a": {"b": [1, {"c": 2}]}}


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        (("h", 1), "redis://h:1/0"),
        ({"host": "h", "port": 1, "db": 2, "password": "p@"}, "redis://:p%40@h:1/2"),
        ({"address": "rediss://h:1", "ssl_cert_reqs": None}, "rediss://h:1?ssl_cert_reqs=none"),
        ({"unix_socket_path": "/run/x.sock", "db": 3}, "unix:///run/x.sock?db=3"),
    ],
)
def test_hosts_as_channels_redis_has_them(host: Any, url: str) -> None:
    """As URLs."""
    assert layer_hosts.urls([host]) == (url,)


@pytest.mark.parametrize(
    "hosts", ["redis://h", [{"sentinels": [("h", 1)], "master_name": "m"}], [{"host": "h", "retry": object()}]]
)
def test_what_cannot_be_done_is_refused(hosts: Any) -> None:
    """With a message that names it."""
    with pytest.raises(ValueError, match="hosts"):
        MillpondChannelLayer(hosts=hosts)


@pytest.mark.parametrize("options", [{"serializer_format": "yaml"}, {"symmetric_encryption_keys": "one"}])
def test_bad_options_are_refused(options: Any) -> None:
    """When the layer is made."""
    with pytest.raises(ValueError, match=next(iter(options))):
        MillpondChannelLayer(hosts=["redis://h"], **options)


def test_names() -> None:
    """A prefix is no pattern; a channel says whose it is."""
    assert LayerNames("a[1]*").everything() == r"a\[1\]\*:*"
    assert client_of("specific.one.two.abc!def") == "abc"


def test_a_flood_of_losses_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """And none is left out of the sums."""
    losses = Losses()
    for _ in range(1000):
        losses.note("full", 2, "group g")
    assert len(caplog.records) == 1
    losses._spoken.clear()
    losses.note("full", 1, "group g")
    assert "1999 messages" in caplog.records[-1].message
