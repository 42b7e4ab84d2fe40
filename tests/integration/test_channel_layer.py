"""The channel layer: nobody's slowness is another's loss, no loss is untold, no clock decides, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer
from channels.exceptions import ChannelFull, MessageTooLarge
from channels.layers import channel_layers

from asgi_app import wiring
from asgi_app.env import env
from cache_layer import metrics
from cache_layer.redis import Store
from consumers.layer import MillpondChannelLayer
from tests.support.store import StoreServer


class Process:
    """Layers as those of several processes: each has its own channels and connections."""

    def __init__(self, url: str, prefix: str) -> None:
        self._config: dict[str, Any] = {"hosts": [url], "prefix": prefix}
        self.made: list[MillpondChannelLayer] = []

    def __call__(self, **options: Any) -> MillpondChannelLayer:
        self.made.append(MillpondChannelLayer(**{**self._config, **options}))
        return self.made[-1]


@pytest.fixture
async def process(store_server: StoreServer, store: Store, namespace: str) -> AsyncIterator[Process]:
    """`store` sees that no key without a TTL is left."""
    made = Process(store_server.url, f"layer:{{{namespace}}}")
    yield made
    for layer in made.made:
        await layer.close_pools()


async def soon(work: Any) -> Any:
    async with asyncio.timeout(5):
        return await work


async def until(true: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(15):
            while not await true():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def silence(layer: MillpondChannelLayer, channel: str) -> None:
    """Nothing is there, after what was on its way has come."""
    await layer.send(channel, {"type": "end"})
    assert await soon(layer.receive(channel)) == {"type": "end"}


async def test_a_group_over_two_processes_and_the_order_of_one_sender(process: Process) -> None:
    """Messages to the group and to the channel come in the order in which they were sent, wherever from."""
    here, there = process(), process()
    channel = await here.new_channel()
    await here.group_add("g", channel)
    for number in range(20):
        await there.group_send("g", {"type": "group", "n": number})
        await there.send(channel, {"type": "single", "n": number})
    came = [await soon(here.receive(channel)) for _ in range(40)]
    assert [(message["n"], message["type"]) for message in came] == [
        (number, kind) for number in range(20) for kind in ("group", "single")
    ]


async def test_the_same_order_within_one_process(process: Process) -> None:
    """Also where a message to a single channel could go past the store."""
    layer = process()
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.group_send("g", {"n": 1})
    await layer.send(channel, {"n": 2})
    assert [(await soon(layer.receive(channel)))["n"] for _ in range(2)] == [1, 2]


async def test_who_does_not_read_takes_nothing_from_others(process: Process) -> None:
    """150 messages for a consumer that does not read, then one for another of the same process: it comes."""
    here, there = process(), process()
    idle, busy = await here.new_channel(), await here.new_channel()
    await here.group_add("g", idle)
    before = metrics.layer["full"]
    for number in range(150):
        await there.group_send("g", {"n": number})
    await there.send(busy, {"type": "hello"})
    assert await soon(here.receive(busy)) == {"type": "hello"}
    assert metrics.layer["full"] - before == 50
    assert [(await soon(here.receive(idle)))["n"] for _ in range(100)] == list(range(100))


async def test_a_sender_hears_that_a_channel_is_full_also_from_another_process(process: Process) -> None:
    """And may send again when it is not."""
    here, there = process(capacity=3), process(capacity=3)
    channel = await here.new_channel()
    for number in range(3):
        await here.send(channel, {"n": number})
    with pytest.raises(ChannelFull):
        await here.send(channel, {"n": 3})
    await soon(here.receive(channel))
    await there.send(channel, {"n": 3})  # full again

    async def refused() -> bool:
        try:
            await there.send(channel, {"n": 4})
        except ChannelFull:
            return True
        return False

    await until(refused, "the other process is refused")
    for number in (1, 2, 3):
        assert (await soon(here.receive(channel)))["n"] == number

    async def taken() -> bool:
        return not await refused()

    await until(taken, "the other process is heard again")


async def test_a_loss_is_told_where_it_happened(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    """In the order of the messages, with their number, and in one line of the log."""
    layer = process(capacity=2, on_lost="messages.lost")
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    with caplog.at_level(logging.WARNING, "consumers.layer_losses"):
        for number in range(5):
            await layer.group_send("g", {"n": number})
        other = await layer.new_channel()
        await layer.group_add("h", other)
        await layer.group_send("h", {"n": 0})
        await soon(layer.receive(other))
    came = [await soon(layer.receive(channel)) for _ in range(3)]
    assert came == [{"n": 0}, {"n": 1}, {"type": "messages.lost", "reason": "full", "count": 3}]
    assert len(caplog.records) == 1


async def test_what_nobody_reads_expires_and_is_told(process: Process) -> None:
    """By the clock of the process that holds it."""
    layer = process(expiry=1)
    channel = await layer.new_channel()
    layer.tell_losses(channel, "messages.lost")
    await layer.send(channel, {"n": 1})
    await asyncio.sleep(1.1)
    await layer.send(channel, {"n": 2})
    assert await soon(layer.receive(channel)) == {"type": "messages.lost", "reason": "expired", "count": 1}
    assert await soon(layer.receive(channel)) == {"n": 2}


async def test_a_message_is_its_receivers_own_at_its_top(process: Process) -> None:
    """What is nested is shared, unless the layer isolates."""
    for isolate in (False, True):
        layer = process(isolate=isolate)
        one, other = await layer.new_channel(), await layer.new_channel()
        await layer.group_add("g", one)
        await layer.group_add("g", other)
        await layer.group_send("g", {"type": "x", "held": {"n": 1}})
        first, second = await soon(layer.receive(one)), await soon(layer.receive(other))
        first["type"] = "changed"
        assert second["type"] == "x"
        assert (first["held"] is second["held"]) is not isolate
        await layer.flush()


async def test_a_cancelled_receive_loses_nothing(process: Process) -> None:
    """Of a channel of one process, nor of one that any may read."""
    layer = process(capacity=500)
    channel = await layer.new_channel()
    for name in (channel, "for-anybody"):
        came = []
        for number in range(60):
            await layer.send(name, {"n": number})
            receiving = asyncio.create_task(layer.receive(name))
            for _ in range(number % 12):
                await asyncio.sleep(0)
            receiving.cancel()
            ended = await asyncio.gather(receiving, return_exceptions=True)
            came += [message["n"] for message in ended if isinstance(message, dict)]
        while len(came) < 60:
            came.append((await soon(layer.receive(name)))["n"])
        assert sorted(came) == list(range(60))


async def test_each_message_has_one_reader(process: Process) -> None:
    """Of a channel that two processes read; and none is kept when the line is full."""
    here, there, sender = process(capacity=50), process(capacity=50), process(capacity=50)
    came: list[int] = []

    async def read(layer: MillpondChannelLayer) -> None:
        while True:
            came.append((await layer.receive("work"))["n"])

    readers = [asyncio.create_task(read(layer)) for layer in (here, here, there)]
    for number in range(40):
        await sender.send("work", {"n": number})

    async def all_came() -> bool:
        return len(came) >= 40

    await until(all_came, "all messages are read")
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert sorted(came) == list(range(40))
    for number in range(50):
        await sender.send("work", {"n": number})
    with pytest.raises(ChannelFull):
        await sender.send("work", {"n": 50})


async def test_a_group_may_have_channels_of_others(process: Process) -> None:
    """Of another process, which may be in it by itself as well and gets one copy; and such that any may read."""
    here, there = process(), process()
    channel = await here.new_channel()
    await there.group_add("g", channel)
    await there.group_add("g", "for-anybody")
    await here.group_send("g", {"n": 1})
    assert await soon(here.receive(channel)) == {"n": 1}
    assert await soon(there.receive("for-anybody")) == {"n": 1}
    await here.group_add("g", channel)
    await here.group_send("g", {"n": 2})
    assert await soon(here.receive(channel)) == {"n": 2}
    await silence(here, channel)
    await here.group_discard("g", channel)
    await there.group_send("g", {"n": 3})
    await silence(here, channel)


async def test_a_consumer_that_ends_leaves_nothing(process: Process) -> None:
    """Neither its channel nor its groups, however it ends, nor the subscription of the last member."""
    layer = process()
    channel_layers.set("ending", layer)

    class Consumer(AsyncConsumer):
        channel_layer_alias = "ending"

        async def start(self, _: Any) -> None:
            await self.channel_layer.group_add("g", self.channel_name)
            joined.append(1)

    joined: list[int] = []

    async def serve() -> None:
        events: asyncio.Queue[Any] = asyncio.Queue()
        await events.put({"type": "start"})

        async def send(_: Any) -> None:
            """Nothing is sent."""

        await Consumer.as_asgi()({"type": "websocket"}, events.get, send)  # type: ignore[arg-type]

    consumers = [asyncio.create_task(serve()) for _ in range(5)]

    async def all_joined() -> bool:
        return len(joined) == 5

    await until(all_joined, "all are in the group")
    while consumers:
        consumers[-1].cancel()
        await asyncio.gather(consumers.pop(), return_exceptions=True)
    gc.collect()

    async def gone() -> bool:
        await layer.group_send("g", {"type": "anything"})
        return not layer._board.boxes and not layer._post().groups

    await until(gone, "its channels are forgotten")
    channel_layers.backends.pop("ending")


async def test_a_store_that_was_away_is_told_and_everything_subscribed_again(
    process: Process, store_server: StoreServer
) -> None:
    """A consumer hears of it, and the next message to the group comes."""
    layer = process(on_lost="messages.lost", on_reconnect="store.back")
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    reader = asyncio.create_task(layer.receive("for-anybody"))
    await asyncio.sleep(0)
    store_server.kill()
    store_server.start()
    assert await asyncio.wait_for(layer.receive(channel), 15) == {
        "type": "messages.lost",
        "reason": "gap",
        "count": None,
    }
    assert await soon(layer.receive(channel)) == {"type": "store.back"}
    await layer.group_send("g", {"n": 1})
    assert await soon(layer.receive(channel)) == {"n": 1}
    await layer.send("for-anybody", {"n": 2})
    assert await asyncio.wait_for(reader, 10) == {"n": 2}


def test_event_loops_come_and_go(store_server: StoreServer, namespace: str) -> None:
    """Channels, messages and groups outlive the loop they were made on; every loop closes what it opened."""
    layer = MillpondChannelLayer(hosts=[store_server.url], prefix=f"layer:{{{namespace}}}", on_lost="messages.lost")
    channel = async_to_sync(layer.new_channel)()
    async_to_sync(layer.group_add)("g", channel)
    async_to_sync(layer.group_send)("g", {"type": "while nobody listens"})

    async def listen() -> list[Any]:
        receiving = asyncio.create_task(layer.receive(channel))
        first = await receiving
        await layer.group_send("g", {"type": "heard"})
        return [first, await soon(layer.receive(channel))]

    assert asyncio.run(listen()) == [
        {"type": "messages.lost", "reason": "gap", "count": None},
        {"type": "heard"},
    ]
    assert not layer._lines_of


async def test_a_forked_child_has_channels_of_its_own(process: Process) -> None:
    """Else its parent's messages would be lost in it."""
    layer = process()
    channel = await layer.new_channel()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        own = layer._own(channel)
        os.write(writing, b"parent's" if own else layer.client_prefix.encode())
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    said = os.read(reading, 100)
    os.close(reading)
    os.close(writing)
    assert said not in (b"parent's", layer.client_prefix.encode())


async def test_flush_empties_all_processes_and_no_other_prefix(process: Process, namespace: str) -> None:
    """And the layer goes on."""
    here, there, other = process(), process(), process(prefix=f"layer:{{{namespace}}}2")
    channel = await there.new_channel()
    await there.group_add("g", channel)
    await there.send(channel, {"n": 1})
    await here.send("for-anybody", {"n": 1})
    await other.send("for-anybody", {"n": 1})
    await here.group_add("g", "for-anybody")
    await here.flush()
    await here.group_send("g", {"n": 2})
    await silence(here, "for-anybody")
    assert await soon(other.receive("for-anybody")) == {"n": 1}
    await silence(there, channel)


async def test_what_is_no_message_is_refused(process: Process) -> None:
    """Before it is sent."""
    layer = process(max_size=1000)
    with pytest.raises(MessageTooLarge):
        await layer.send("x", {"text": "x" * 1000})
    with pytest.raises(TypeError):
        await layer.group_send("g", ["no dict"])  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        await layer.group_send("g", {"n": 2**64})


async def test_in_the_service_it_shares_the_connections_of_the_node(store_server: StoreServer) -> None:
    """Without `hosts`."""
    node = await wiring.start_node()
    layer = MillpondChannelLayer()
    try:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        await layer.group_send("g", {"n": 1})
        assert await soon(layer.receive(channel)) == {"n": 1}
        assert layer._post().shards[0].feed is node.feed
        assert layer.prefix == f"a:{{{env().namespace}}}"
        await layer.flush()
    finally:
        await wiring.stop_node()
