"""What one hit, publication or job costs while there is more and more: `python -m tests.benchmarks.growing`.

    BENCH_STORE_PID=... MILLPOND_REDIS_URL=unix:///... MILLPOND_HOME=... python -m tests.benchmarks.growing l2 100 1000

Of growth.py.  The parts of a web process work on a uvloop of this process, without a client and sockets around them;
what is counted is the CPU time that this process and the store take for each unit.  Prints one JSON object a size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop

from cache_layer.errors import StoreUnavailable

if TYPE_CHECKING:
    from cache_layer.keys import Key

#: One measurement: how many units it is, and what does them.
Work = tuple[int, Callable[[], Awaitable[Any]]]
#: Bytes of a value.
VALUE = 200
#: Questions of one round, and such under way at once while what is measured is only being built.
_HITS, _BUILDING = 8000, 256
#: Questions that a front remembers: so many are asked before a measurement.
_REMEMBERED = 20_000
#: Topics that one client follows.
_FOLLOWED = 50
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


# Hits


async def hits(sizes: list[int], scale: float, *, near: bool) -> AsyncIterator[tuple[int, Work]]:
    """Of a uniformly random sample of as many keys: from this process's copies or from the store."""
    from asgi_app import wiring
    from asgi_app.env import env
    from tests.benchmarks.asking import Front
    from tests.benchmarks.audience import AT_ONCE, until

    front, count = Front(), int(_HITS * scale)
    node = await wiring.start_node(env(), near=near)
    await node.store.ping()
    await until(lambda: node.feed.healthy and (node.near is None or (node.invalidator.hears and node.near.open)))
    version = await node.store.command("GET", node.store.names.everything())
    assert len(version) == 16, "the store has no version of the namespace"
    there = 0
    for size in sizes:
        await _fill(there, size, version)
        while node.near is not None and node.near.stats.entries < size:  # while writes are told of, copies are refused
            await front.ask(range(there, size), _BUILDING)
        await front.ask(range(there, min(size, _REMEMBERED)), _BUILDING)
        there = size
        await front.ask_some(size, count, AT_ONCE)
        yield size, (count, partial(front.ask_some, size, count, AT_ONCE))


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

    def command(n: int) -> tuple[Any, ...]:
        key = resource.key(resource.parse_query(f"n={n}"), public)
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
        return "SET", names.entry(key), fresh_nonce() + position + tail + stored, "PX", 7_200_000

    reader, writer = await asyncio.open_unix_connection(str(env().store_url).removeprefix("unix://").partition("?")[0])
    for begin in range(first, last, 1000):
        keys = range(begin, min(begin + 1000, last))
        writer.write(packed(*(command(n) for n in keys)))
        answers = await reader.readexactly(len(b"+OK\r\n") * len(keys))
        assert answers == b"+OK\r\n" * len(keys), answers[:100]
    writer.close()
    await writer.wait_closed()


# Publications


async def topics(sizes: list[int], scale: float) -> AsyncIterator[tuple[int, Work]]:
    """Publications on random ones of as many topics, each of them followed by one client of this process."""
    from asgi_app import wiring
    from asgi_app.env import env
    from tests.benchmarks.audience import Audience, until

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
    await audience.go()


async def followers(sizes: list[int], scale: float) -> AsyncIterator[tuple[int, Work]]:
    """Publications on one topic that as many clients of this process follow; a unit is a delivery."""
    from asgi_app import wiring
    from asgi_app.env import env
    from tests.benchmarks.audience import Audience, until

    node, audience = await wiring.start_node(env()), Audience()
    await until(lambda: node.feed.healthy)
    for size in sizes:
        await audience.come([range(1)] * (size - len(audience)))
        times = max(3, int(min(500, 20_000 / size) * scale))
        tell = partial(audience.tell, [0] * times, size, together=False)
        await tell()
        yield size, (times * size, tell)
    await audience.go()


# Jobs


class Jobs:
    """Computations that are submitted, and done."""

    def __init__(self, node: Any) -> None:
        from asgi_app.registry import Principal, registry
        from cache_layer.queues import Bell

        self._node, self._public = node, Principal.public()
        self._resource = registry.resources["bench.quick"]
        self._bell = Bell(queue="bench", message=b"", list="")
        self._keys: dict[str, Key] = {}
        self._numbers: Iterator[int] = iter(range(1_000_000_000))

    async def submit(self) -> None:
        """By one of a thousand users."""
        from asgi_app.submitting import new_id

        n, job_id = next(self._numbers), new_id()
        key = self._resource.key(self._resource.parse_query(f"n={n}"), self._public)
        self._keys[job_id] = key
        submitted = await self._node.records.submit(
            key, job_id=job_id, bell=self._bell, seen=b"", force=False, lane=f"user {n % 1000}"
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
    from tests.benchmarks.audience import in_turns

    count = int(200 * scale)
    made = Jobs(await wiring.start_node(env()))
    there = 0
    for size in sizes:
        await in_turns((made.come() for _ in range(size - there)), _BUILDING)
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
