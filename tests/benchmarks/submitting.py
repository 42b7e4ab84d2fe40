"""What a submit costs the event loop: `python -m tests.benchmarks.submitting`, of offload.py.

    BENCH_STORE=unix:///... MILLPOND_HOME=... python -m tests.benchmarks.submitting       prints one JSON object

The loop (a uvloop, with the parts of a web process on it) has nothing else to do, so that the CPU time its thread takes
from the call of a submit to its return is what the submit occupies it with: all steps between its waits, and the
reading and writing of sockets.  Threads beside it (of the database) take theirs, and the GIL, which is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import uvloop

#: What each does once.
Submit = Callable[[int], Awaitable[object]]
#: Submits at once, in the second figure.
AT_ONCE = 16
_WARM = 50


async def millpond(count: int) -> dict[str, Submit]:
    """A computation and an action, as the views submit them."""
    from asgi_app import wiring
    from asgi_app.registry import Principal, registry
    from asgi_app.submitting import Question

    node = await wiring.start_node()
    resource, action, public = registry.resources["bench.quick"], registry.actions["bench.nothing"], Principal.public()

    # as a read has it that found nothing: parameters parsed, and the key made
    params = [resource.parse_query(f"n={n}") for n in range(count)]
    questions = [Question(resource, each, public, resource.key(each, public), trusted=True) for each in params]
    orders = [action.parse({"n": n}, text=False) for n in range(count)]

    async def computation(n: int) -> None:
        submitted = await node.submitter.computation(questions[n], b"")
        assert submitted.what == "created"

    async def act(n: int) -> None:
        await node.submitter.action(action, orders[n], public, trusted=True)

    return {"Millpond, computation": computation, "Millpond, action (its row is written in a thread)": act}


async def celery(count: int) -> dict[str, Submit]:
    """`.delay()`, on the loop and beside it."""
    from asgiref.sync import sync_to_async

    from tests.benchmarks.rivals.celery_app import nothing

    async def on_the_loop(n: int) -> None:
        nothing.delay(n)

    return {"`.delay()` on the loop": on_the_loop, "`sync_to_async(….delay)`": sync_to_async(nothing.delay)}


async def bare(count: int) -> dict[str, Submit]:
    """One LPUSH of a message of Celery's size: no record, no join, no limit."""
    import redis.asyncio

    client: Any = redis.asyncio.Redis.from_url(os.environ["BENCH_STORE"])

    async def push(n: int) -> None:
        await client.lpush("bench:pushed", b"x" * 700)

    return {"a bare LPUSH by redis-py": push}


async def main(count: int) -> None:
    figures: dict[str, tuple[float, float]] = {}
    for made in (millpond, celery, bare):
        for name, submit in (await made(_WARM + count + AT_ONCE * _rounds(count))).items():
            figures[name] = await measure(submit, count)
    from asgi_app import wiring

    await wiring.stop_node()
    print(json.dumps(figures))


async def measure(submit: Submit, count: int) -> tuple[float, float]:
    """CPU µs of the loop's thread for one submit, medians: one after the other, and `AT_ONCE` at once."""
    number = iter(range(1_000_000_000))
    for _ in range(_WARM):
        await submit(next(number))
    alone, together = [], []
    for _ in range(count):
        began = time.thread_time_ns()
        await submit(next(number))
        alone.append(time.thread_time_ns() - began)
    for _ in range(_rounds(count)):
        began = time.thread_time_ns()
        await asyncio.gather(*(submit(next(number)) for _ in range(AT_ONCE)))
        together.append((time.thread_time_ns() - began) / AT_ONCE)
    return median(alone) / 1000, median(together) / 1000


def _rounds(count: int) -> int:
    return max(5, count // AT_ONCE)


if __name__ == "__main__":
    import django

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.submitting")
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asgi_app.settings")
    django.setup()
    uvloop.run(main(options.count))
