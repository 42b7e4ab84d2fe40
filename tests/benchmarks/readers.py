"""One process that reads from the store with one of several clients: of l2clients.py.

    python -m tests.benchmarks.readers CLIENT URL KEY --readers 64 --seconds 3      prints one JSON object

All readers are tasks of one loop, each with one GET at a time, as requests of one web process are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import uvloop

#: Reads one thing; its length.
Read = Callable[[], Awaitable[int]]
_WARM = 0.3


async def ours(stack: AsyncExitStack, url: str, key: str) -> Read:
    """`cache_layer.pipeline`, as the cache of Millpond uses it."""
    from cache_layer.pipeline import packed
    from cache_layer.redis import Store

    store = Store(url)
    stack.push_async_callback(store.close)
    command = packed(("GET", key))

    async def read() -> int:
        return len((await store.read(command, 1))[0])

    return read


async def redis_py(stack: AsyncExitStack, url: str, key: str) -> Read:
    """redis.asyncio with hiredis and its pool, as its documentation has it."""
    import redis.asyncio

    client: Any = redis.asyncio.Redis.from_url(url)
    stack.push_async_callback(client.aclose)

    async def read() -> int:
        return len(await client.get(key))

    return read


async def coredis(stack: AsyncExitStack, url: str, key: str) -> Read:
    """coredis: it pipelines by itself what is asked for on one connection."""
    from coredis import Redis

    client: Any = await stack.enter_async_context(Redis.from_url(url))

    async def read() -> int:
        return len(await client.get(key))

    return read


async def glide(stack: AsyncExitStack, url: str, key: str) -> Read:
    """valkey-glide: one multiplexed connection, in a thread of Rust."""
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    parts = urlsplit(url)
    address = NodeAddress(parts.hostname, parts.port)
    client: Any = await GlideClient.create(GlideClientConfiguration([address], request_timeout=5000))
    stack.push_async_callback(client.close)

    async def read() -> int:
        return len(await client.get(key))

    return read


CLIENTS = {"ours": ours, "redis-py": redis_py, "coredis": coredis, "glide": glide}


async def main(options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        read = await CLIENTS[options.client](stack, options.url, options.key)
        assert await read() == options.size
        await _read_for(read, options.readers, _WARM)
        began, cpu = time.perf_counter(), time.process_time()
        count = await _read_for(read, options.readers, options.seconds)
        seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"gets": count, "seconds": seconds, "cpu": spent}))


async def _read_for(read: Read, readers: int, seconds: float) -> int:
    until = time.perf_counter() + seconds

    async def reader() -> int:
        count = 0
        while time.perf_counter() < until:
            await read()
            count += 1
        return count

    work: list[Coroutine[Any, Any, int]] = [reader() for _ in range(readers)]
    async with asyncio.timeout(seconds + 60):
        return sum(await asyncio.gather(*work))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.readers")
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--readers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    uvloop.run(main(parser.parse_args()))
