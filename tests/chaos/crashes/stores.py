"""The store, which is the broker too, dies or hangs while jobs wait and run; no worker dies.

Invariant: what was accepted runs, each action once, for nobody that runs one has died.
"""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil

from tests.chaos.crashes.books import Books, Job
from tests.chaos.crashes.injection import read_lines
from tests.chaos.crashes.load import Users
from tests.support.redis_servers import RedisServer
from tests.support.service import Service

#: Jobs that wait or run when the store dies.
_JOBS = 40
#: Seconds the store is silent; seconds a request may be held meanwhile (one, and a busy machine), and between two.
SILENCE, HELD, _ASK_EVERY = 30.0, 2.0, 0.5
#: Seconds after which everything is over.
_SETTLED_WITHIN = 90.0

Say = Callable[[str], None]


async def run(home: Path, dice: random.Random, start: Callable[..., Service], say: Say) -> list[str]:
    """All three faults, each with a service of its own; what was wrong.  `start(home, **settings)`."""
    wrong: list[str] = []
    for name, fault in (("empty", _empty), ("kept", _kept), ("frozen", _frozen)):
        books = Books()
        await fault(home / name, books, dice, start, say)
        wrong += [f"store {name}: {what}" for what in books.wrong]
    return wrong


async def _empty(home: Path, books: Books, dice: random.Random, start: Callable[..., Service], say: Say) -> None:
    """kill -9 of the embedded store, which comes back with nothing: actions are in the database."""
    service = await asyncio.to_thread(start, home)

    async def kill() -> None:
        store_of(service).kill()

    await _with_load(service, books, dice, ("line", "row"), kill, "killed, back with nothing", say)


async def _kept(home: Path, books: Books, dice: random.Random, start: Callable[..., Service], say: Say) -> None:
    """kill -9 of a store with an append-only file, started again with its data."""
    with RedisServer(home / "redis", "--appendonly", "yes") as server:
        service = await asyncio.to_thread(start, home, MILLPOND_REDIS_URL=server.url)
        books.outdated = ("value", "coroutine")

        async def kill() -> None:
            psutil.Process(server.pid).kill()
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)

        await _with_load(service, books, dice, (), kill, "killed, back with its append-only file", say)


async def _with_load(
    service: Service,
    books: Books,
    dice: random.Random,
    kinds: tuple[str, ...],
    fault: Callable[[], Awaitable[None]],
    what: str,
    say: Say,
) -> None:
    users = Users(service, books, (), dice)
    try:
        await users.start(looking=False)
        for _ in range(_JOBS):
            await users.ask(dice.choice(kinds) if kinds else "")
        began = time.monotonic()
        await fault()
        await _settle(users, books)
        say(f"store {what}: {_JOBS} jobs over after {time.monotonic() - began:.1f} s")
    finally:
        await users.stop()
        await _audit(service, books)


async def _frozen(home: Path, books: Books, dice: random.Random, start: Callable[..., Service], say: Say) -> None:
    """It is connected and answers nothing: nobody is held for long, and what was accepted runs after the thaw."""
    service = await asyncio.to_thread(start, home)
    users, held = Users(service, books, (), dice), list[float]()
    try:
        await users.start(looking=False)
        known = await users.ask("value")
        await _settle(users, books)
        store = store_of(service)
        store.send_signal(signal.SIGSTOP)
        try:
            await _ask_on(service, books, known, held)
        finally:
            store.send_signal(signal.SIGCONT)
        began = time.monotonic()
        await _settle(users, books)
        say(
            f"store frozen {SILENCE:g} s: {len(held)} requests held {statistics.median(held):.2f} s in the median and "
            f"{max(held):.2f} s at the most, {len(books.jobs) - 1} jobs accepted, over "
            f"{time.monotonic() - began:.1f} s after the thaw"
        )
    finally:
        await users.stop()
        await _audit(service, books)
    if max(held) > HELD:
        books.blame(f"a request was held {max(held):.1f} s")


async def _ask_on(service: Service, books: Books, known: Job, held: list[float]) -> None:
    """Requests of every kind, side by side, until the silence is over."""
    until, number = time.monotonic() + SILENCE, 0
    async with httpx.AsyncClient(base_url=f"{service.url}/api/v1", timeout=30.0) as client:

        async def ask(method: str, path: str, body: object = None) -> httpx.Response:
            began = time.monotonic()
            answer = await client.request(method, path, json=body, headers={"Prefer": "respond-async"})
            held.append(time.monotonic() - began)
            if answer.status_code not in (200, 202, 503):
                books.blame(f"{method} {path} was answered {answer.status_code} {answer.text}")
            return answer

        while time.monotonic() < until:
            number += 1
            name = f"line-frozen-{number}"
            answers = await asyncio.gather(
                ask("POST", "/actions/crash.line", {"name": name, "seconds": 0.01}),
                ask("GET", f"/resources/crash.value?name={known.name}"),
                ask("GET", f"/resources/crash.value?name=new-{number}"),
                ask("GET", f"/jobs/{known.id}"),
                ask("GET", "/jobs"),
            )
            if answers[0].status_code == 202:
                books.submitted(Job(id=answers[0].json()["id"], name=name, kind="line", user=0))
            await asyncio.sleep(_ASK_EVERY)


async def _settle(users: Users, books: Books) -> None:
    deadline = time.monotonic() + _SETTLED_WITHIN
    while (still := books.open()) and time.monotonic() < deadline:
        await users.look(still)
        await asyncio.sleep(0.2)


async def _audit(service: Service, books: Books) -> None:
    from tests.chaos.crashes.__main__ import effects

    rows = await asyncio.to_thread(effects, service)
    books.audit(read_lines(service.home / "ledger"), [], rows)
    code = await asyncio.to_thread(service.stop)
    if code != 0:
        books.blame(f"the service ended with exit code {code}")


def store_of(service: Service) -> psutil.Process:
    """The store that `millpond up` has started.  Raises LookupError."""
    for process in psutil.Process(service.pid).children(recursive=True):
        if any("valkey-server" in word or "redis-server" in word for word in process.cmdline()):
            return process
    raise LookupError("there is no store")
