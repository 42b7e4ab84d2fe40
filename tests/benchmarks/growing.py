"""What one hit, publication or job costs while there is more and more: `python -m tests.benchmarks.growing`.

    BENCH_STORE_PID=... MILLPOND_REDIS_URL=unix:///... MILLPOND_HOME=... python -m tests.benchmarks.growing l2

Of growth.py.  The parts of a web process work on a uvloop of this process, without a server and a client around them;
what is counted is the CPU time that this process and the store take for each unit.  Prints one JSON object a size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from cache_layer.errors import StoreUnavailable

#: One measurement: how many units it is, and what does them.
Work = tuple[int, Callable[[], Awaitable[Any]]]
#: Requests, publications or jobs under way at once.
AT_ONCE = 16
#: Bytes of a value.
VALUE = 200
#: Questions a front remembers; so many are asked before a measurement.
_REMEMBERED = 20_000
#: Topics that one client follows.
_FOLLOWED = 50
_PAD = "x" * 440
_MARK = _PAD.encode()
_WITHIN = 60.0
#: Seconds until what the store did not take is tried again.
_AGAIN = 0.2


class Costs:
    """CPU time so far, of this process and of the store."""

    def __init__(self) -> None:
        self._threads = Path("/proc", os.environ["BENCH_STORE_PID"], "task")

    def now(self) -> tuple[float, float]:
        """Microseconds of both."""
        store = sum(int((thread / "schedstat").read_text().split()[0]) for thread in self._threads.iterdir())
        return time.process_time_ns() / 1000, store / 1000


async def measured(costs: Costs, work: Work, rounds: int) -> tuple[float, float]:
    """Microseconds of this process and of the store for one unit; medians of rounds."""
    units, run = work
    own: list[float] = []
    store: list[float] = []
    while len(own) < rounds:
        before = costs.now()
        try:
            async with asyncio.timeout(_WITHIN):
                await run()
        except StoreUnavailable:  # a machine with too much to do: once more
            await asyncio.sleep(_AGAIN)
            continue
        after = costs.now()
        own.append((after[0] - before[0]) / units)
        store.append((after[1] - before[1]) / units)
    return median(own), median(store)


async def in_turns(works: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Some at once."""
    queue = iter(works)

    async def take() -> None:
        for work in queue:
            await work

    await asyncio.gather(*(take() for _ in range(AT_ONCE)))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes soon."""
    async with asyncio.timeout(_WITHIN):
        while not condition():
            await asyncio.sleep(0.01)


# Hits


async def hits(sizes: list[int], scale: float, *, near: bool) -> AsyncIterator[tuple[int, Work]]:
    """Of a uniformly random sample of as many keys: by a front, from this process's copies or from the store."""
    from asgi_app import wiring
    from asgi_app.env import env
    from asgi_app.hot import Hot

    node = await wiring.start_node(env(), near=near)
    await node.store.ping()
    await until(lambda: node.feed.healthy and (node.near is None or (node.invalidator.hears and node.near.open)))
    version = await node.store.command("GET", node.store.names.everything())
    assert len(version) == 16, "the store has no version of the namespace"
    there = 0
    for size in sizes:
        await _fill(there, size, version)
        there, front = size, Hot()
        warm = range(size) if near or size <= _REMEMBERED else random.sample(range(size), _REMEMBERED)
        await in_turns(_ask(front, _scope(n)) for n in warm)
        yield size, (int(8000 * scale), partial(_ask_many, front, size, int(8000 * scale)))


async def _fill(first: int, last: int, version: bytes) -> None:
    """Keys of `bench.page`, as `commit.lua` would have left them, written past everything."""
    from asgi_app.env import env
    from asgi_app.registry import Principal, registry
    from asgi_app.wiring import node
    from cache_layer.cache import fresh_nonce
    from cache_layer.codec import encode
    from cache_layer.pipeline import packed

    resource, public, names = registry.resources["bench.page"], Principal.public(), node().store.names
    secret, payload = env().value_secret, json.dumps("x" * (VALUE - 2)).encode()
    position = b"bench000" + b"%016d" % 1
    reader, writer = await asyncio.open_unix_connection(str(env().store_url).removeprefix("unix://").partition("?")[0])
    for begin in range(first, last, 1000):
        keys = [resource.key(resource.parse_query(f"n={n}"), public) for n in range(begin, min(begin + 1000, last))]
        commands: list[tuple[Any, ...]] = []
        for key in keys:
            tail, stored = encode(
                payload,
                digest=key.digest,
                fresh=3600.0,
                life=7200.0,
                compute_seconds=0.001,
                computed_at=time.time(),
                tag_versions=(version,),
                secret=secret,
            )
            commands.append(("SET", names.entry(key), fresh_nonce() + position + tail + stored, "PX", 7_200_000))
        writer.write(packed(*commands))
        answers = await reader.readexactly(len(b"+OK\r\n") * len(keys))
        assert answers == b"+OK\r\n" * len(keys), answers[:100]
    writer.close()
    await writer.wait_closed()


def _scope(n: int) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/api/v1/resources/bench.page",
        "query_string": b"n=%d" % n,
        "headers": [(b"host", b"127.0.0.1"), (b"accept", b"*/*")],
        "root_path": "",
    }


async def _ask(front: Any, scope: dict[str, Any]) -> None:
    answered = await front.answer(scope, _nowhere)
    assert answered, scope


async def _nowhere(message: Any) -> None:
    """Where answers go: serving them is not part of it."""


async def _ask_many(front: Any, size: int, count: int) -> None:
    await in_turns(_ask(front, _scope(random.randrange(size))) for _ in range(count))


# Publications


class Client:
    """A client without a socket (`consumers.transport.Transport`): counts what it hears."""

    kind, glue, pong = "bench", "\n", False
    greeting: Mapping[str, str] = {}
    scope: Mapping[str, Any] = {"type": "websocket", "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1)}

    def __init__(self, audience: Audience) -> None:
        from consumers.connection import Connection
        from consumers.hub import hub

        self._audience = audience
        self.subscribed = 0
        #: Ids of commands the service was too busy for.
        self._refused: list[int] = []
        self.connection = Connection(self, hub())
        self.connection.open()

    async def send(self, text: str) -> None:
        if '"error"' in text:
            replies = [json.loads(line) for line in text.splitlines()]
            self._refused += [reply["id"] for reply in replies if "error" in reply]
        self.subscribed += text.count('"subscribe"')
        self._audience.heard(text.count(_PAD))

    def write(self, message: bytes) -> bool:
        self._audience.heard(message.count(_MARK))
        return True

    def refused(self) -> None:
        raise AssertionError("refused")

    async def end(self, code: Any) -> None:
        raise AssertionError(code)

    def abort(self) -> None:
        raise AssertionError("aborted")

    async def follow(self, topics: range) -> None:
        """Connect, and wait until all of them are confirmed."""
        self.connection.receive('{"id":1,"connect":{}}')
        wanted = [2 + n for n in topics]
        while wanted:
            for number in wanted:
                self.connection.receive(json.dumps({"id": number, "subscribe": {"channel": f"log:{number - 2}"}}))
                await self.connection.ready()
            await until(lambda: self.subscribed + len(self._refused) == len(topics))
            wanted, self._refused = self._refused, []


class Audience:
    """Clients, and what they have still to hear."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self._missing = 0
        self._complete = asyncio.Event()

    def heard(self, times: int) -> None:
        self._missing -= times
        if times and self._missing <= 0:
            self._complete.set()

    async def come(self, topics: list[range]) -> None:
        """One client for each range of topics."""
        coming = [Client(self) for _ in topics]
        for begin in range(0, len(coming), AT_ONCE):
            now = zip(coming[begin : begin + AT_ONCE], topics[begin : begin + AT_ONCE], strict=True)
            await asyncio.gather(*(client.follow(those) for client, those in now))
        self.clients += coming

    async def tell(self, topics: list[int], each: int, *, together: bool) -> None:
        """Publish on topics; each is heard by `each` clients."""
        from asgi_app.wiring import node

        history, data = node().history, json.dumps(_PAD).encode()
        step = len(topics) if together else 1
        for begin in range(0, len(topics), step):
            now = topics[begin : begin + step]
            self._missing, self._complete = len(now) * each, asyncio.Event()
            await in_turns(history.append(f"log:{n}", data, size=100, ttl=60) for n in now)
            await self._complete.wait()


async def topics(sizes: list[int], scale: float) -> AsyncIterator[tuple[int, Work]]:
    """Publications on random ones of as many topics, each of them followed by one client of this process."""
    from asgi_app import wiring
    from asgi_app.env import env

    node, audience, count = await wiring.start_node(env()), Audience(), int(1000 * scale)
    await until(lambda: node.feed.healthy)
    there = 0
    for size in sizes:
        await audience.come([range(n, min(n + _FOLLOWED, size)) for n in range(there, size, _FOLLOWED)])
        there = size

        async def tell(size: int = size) -> None:
            await audience.tell([random.randrange(size) for _ in range(count)], 1, together=True)

        await tell()
        yield size, (count, tell)


async def followers(sizes: list[int], scale: float) -> AsyncIterator[tuple[int, Work]]:
    """Publications on one topic that as many clients of this process follow; a unit is a delivery."""
    from asgi_app import wiring
    from asgi_app.env import env

    node, audience = await wiring.start_node(env()), Audience()
    await until(lambda: node.feed.healthy)
    for size in sizes:
        await audience.come([range(1)] * (size - len(audience.clients)))
        times = max(3, int(min(500, 20_000 / size) * scale))
        tell = partial(audience.tell, [0] * times, size, together=False)
        await tell()
        yield size, (times * size, tell)


# Jobs


class Jobs:
    """Computations that are submitted, and done."""

    def __init__(self, node: Any) -> None:
        from asgi_app.registry import Principal, registry
        from cache_layer.queues import Bell

        self._node, self._public = node, Principal.public()
        self._resource = registry.resources["bench.quick"]
        self._bell = Bell(queue="bench", message=b"", list="")
        self._keys: dict[str, Any] = {}
        self._numbers: Iterator[int] = iter(range(1_000_000_000))

    async def submit(self) -> None:
        """By one of a thousand users."""
        from asgi_app.submitting import new_id

        n, job_id = next(self._numbers), new_id()
        key = self._resource.key(self._resource.parse_query(f"n={n}"), self._public)
        self._keys[job_id] = key
        fields = {"id": job_id, "kind": "computation", "name": key.name, "params": "{}", "topic": key.topic}
        submitted = await self._node.records.submit(
            key, job_id=job_id, bell=self._bell, fields=fields, seen=b"", force=False, lane=f"user {n % 1000}"
        )
        assert submitted.what == "created", submitted

    async def come(self) -> None:
        """One more, whatever it takes."""
        while True:
            try:
                await self.submit()
                return
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN)

    async def one(self) -> None:
        """One comes, and the next one is done: as many wait as before."""
        await self.submit()
        node, mine = self._node, {"worker": "bench", "pid": os.getpid()}
        ticket = await node.queues.take("bench", **mine)
        key = self._keys.pop(ticket.job_id)
        claim = await node.records.claim(
            ticket, key, node.store.names.lease(key), within=60.0, token=ticket.job_id, **mine
        )
        assert claim.what == "claimed", claim
        committed = await node.cache.commit(
            key,
            b'"done"',
            holder=ticket.job_id,
            tag_versions=claim.tag_versions,
            compute_seconds=0.001,
            computed_at=time.time(),
            luck=0.5,
            job_id=ticket.job_id,
            fence=claim.fence,
            worker="bench",
        )
        assert committed.what == "stored", committed


async def jobs(sizes: list[int], scale: float) -> AsyncIterator[tuple[int, Work]]:
    """One is submitted, the next one taken, claimed and finished, while as many wait."""
    from asgi_app import wiring
    from asgi_app.env import env

    count = int(200 * scale)
    made = Jobs(await wiring.start_node(env()))
    there = 0
    for size in sizes:
        await in_turns(made.come() for _ in range(size - there))
        there = size

        async def several() -> None:
            await in_turns(made.one() for _ in range(count))

        await several()
        yield size, (count, several)


GROWS: dict[str, Callable[[list[int], float], AsyncIterator[tuple[int, Work]]]] = {
    "l1": partial(hits, near=True),
    "l2": partial(hits, near=False),
    "topics": topics,
    "followers": followers,
    "jobs": jobs,
}


async def main(options: argparse.Namespace) -> None:
    from asgi_app import wiring

    costs, began = Costs(), time.perf_counter()
    async for size, work in GROWS[options.what](options.sizes, options.scale):
        own, store = await measured(costs, work, options.rounds)
        took = time.perf_counter() - began
        print(json.dumps({"size": size, "own": own, "store": store, "seconds": took}), flush=True)
    await wiring.stop_node()


if __name__ == "__main__":
    import django

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growing")
    parser.add_argument("what", choices=GROWS)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="units of a round, 1 for the usual number")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asgi_app.settings")
    django.setup()
    uvloop.run(main(parser.parse_args()))
