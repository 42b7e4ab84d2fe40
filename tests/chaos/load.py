"""Users of the service while it is broken: writers, HTTP readers, watchers with the stock client.

Invariant: whatever they are told goes into the books; nothing here forgives an answer that a promise forbids.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from urllib.parse import quote

import httpx

from tests.chaos.books import Books
from tests.support.service import Service
from tests.support.watcher import Watcher

RESOURCE = "/api/v1/resources/test.watched"
READERS, WATCHERS = 6, 20
#: Seconds no request may take, whatever is broken: what a reader waits for at the most (2 s), and a busy machine.
_PATIENCE = 15.0
#: Seconds between two writes to one source, and between two tries of an invalidation that was refused.
_WRITE_EVERY, _TRY_AGAIN = (0.2, 0.8), 0.05
#: Seconds between two requests of a reader, and how often it takes a new connection, maybe to another web process.
_READ_EVERY, _MOVES = 0.05, 0.1
_PREFERENCES: tuple[dict[str, str], ...] = ({}, {"Prefer": "wait=2"}, {"Prefer": "respond-async"})


class Load:
    """All users of one service; `start`, then `rest` and `resume` the writers, then `stop`."""

    def __init__(self, service: Service, books: Books, token: str, dice: random.Random) -> None:
        """`token`: of a user who may invalidate and refresh."""
        self.service, self.books, self.dice = service, books, dice
        #: Whether connections may be cut at the moment: only a killed web process is a reason.
        self.may_cut = False
        self._authorized = {"Authorization": f"Bearer {token}"}
        self._auditor = self._client()
        names = list(books.written)
        self.watchers = [(names[n % len(names)], Watcher(service.websocket)) for n in range(WATCHERS)]
        self._writing = asyncio.Event()
        self._resting = {name: asyncio.Event() for name in names}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect the watchers, begin to read and to write."""
        for name, watcher in self.watchers:
            await watcher.client.connect()
            await watcher.watch(f"test.watched?name={name}")
        self._writing.set()
        writers = [self._write(name) for name in self.books.written]
        readers = [self._read_on(number) for number in range(READERS)]
        self._tasks = [asyncio.create_task(work) for work in (*writers, *readers)]

    async def stop(self) -> None:
        """Everybody leaves.  Raises what a user died of."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, watcher in self.watchers:
            await watcher.leave()
        await self._auditor.aclose()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def rest(self) -> None:
        """Stop writing; returns when every invalidation has returned, however long that takes."""
        self._writing.clear()
        await asyncio.gather(*(event.wait() for event in self._resting.values()))

    def resume(self) -> None:
        self._writing.set()

    async def ask_for_jobs(self, title: str) -> None:
        """Two jobs nobody else asks for again: a slow computation, and a refresh of what is there."""
        slow = f"/api/v1/resources/test.slow?name={quote(title)}&seconds=2"
        refresh = f"{RESOURCE}/refresh?name={self.dice.choice(list(self.books.written))}"
        for method, path in (("GET", slow), ("POST", refresh)):
            headers = {**self._authorized, "Prefer": "respond-async"}
            answer = await self._send(self._auditor, method, path, headers)
            if answer is not None and answer.status_code == 202:
                self.books.accepted(answer.json()["id"])

    async def look_at_jobs(self) -> None:
        """Ask for every open job by its own address."""
        for job_id in list(self.books.open_jobs):
            answer = await self._send(self._auditor, "GET", f"/api/v1/jobs/{job_id}", self._authorized)
            if answer is not None and answer.status_code in (200, 404):
                self.books.job(job_id, answer.json()["status"] if answer.status_code == 200 else None)

    async def unsettled(self) -> list[str]:
        """What is not yet as it should be while nobody writes; empty: everybody has the newest value."""
        ready = await self._send(self._auditor, "GET", "/readyz", {})
        if ready is None or ready.status_code != 200:
            return [f"/readyz answers {'nothing' if ready is None else ready.text}"]
        found: list[str] = []
        for name in self.books.written:
            found += await self._differences(name)
        return found

    async def _differences(self, name: str) -> list[str]:
        """Who has something else than the source of `name`.  Each answer is asked for on a connection of its own."""
        expected, versions, found = str(self.books.written[name]), set(), []
        for _ in range(3):
            answer = await self._send(
                self._auditor, "GET", f"{RESOURCE}?name={name}", {"Prefer": "wait=2", "Connection": "close"}
            )
            if answer is None or answer.status_code != 200:
                return [f"{name} cannot be read: {'cut' if answer is None else answer.text}"]
            versions.add(answer.headers["etag"])
            if answer.json() != expected:
                found.append(f"{name} reads {answer.json()!r}, its source is {expected!r}")
        if len(versions) > 1:
            found.append(f"{name} has several versions: {sorted(versions)}")
        told = Counter(_version(watcher) for watched, watcher in self.watchers if watched == name)
        for (value, version), count in told.items():
            if value != expected or version not in versions:
                found.append(f"{count} watchers of {name} have {value!r} as {version}, HTTP as {sorted(versions)}")
        return found

    def _client(self) -> httpx.AsyncClient:
        """A user of their own: connections of one pool tend to lead to one web process."""
        return httpx.AsyncClient(base_url=self.service.url, timeout=_PATIENCE)

    async def _write(self, name: str) -> None:
        """Change the source of `name` and invalidate it, again and again."""
        async with self._client() as client:
            await self._write_with(client, name)

    async def _write_with(self, client: httpx.AsyncClient, name: str) -> None:
        while True:
            if not self._writing.is_set():
                self._resting[name].set()
                await self._writing.wait()
                self._resting[name].clear()
            number = self.books.written[name] = self.books.written[name] + 1
            put(self.service, name, number)
            while not await self._invalidate(client, name):
                await asyncio.sleep(_TRY_AGAIN)
            self.books.floor[name] = number
            self.books.counts["writes"] += 1
            await asyncio.sleep(self.dice.uniform(*_WRITE_EVERY))

    async def _invalidate(self, client: httpx.AsyncClient, name: str) -> bool:
        tags = {"tags": [f"source.{name}"]}
        answer = await self._send(client, "POST", "/api/v1/invalidate", self._authorized, tags)
        return answer is not None and answer.status_code == 200

    async def _read_on(self, number: int) -> None:
        """Read any of the sources, again and again, in any of the ways a client may ask."""
        async with self._client() as client:
            while True:
                await self._read_once(client, number)
                await asyncio.sleep(_READ_EVERY)

    async def _read_once(self, client: httpx.AsyncClient, number: int) -> None:
        name, headers = self.dice.choice(list(self.books.written)), dict(self.dice.choice(_PREFERENCES))
        if self.dice.random() < _MOVES:
            headers["Connection"] = "close"
        floor = self.books.floor[name]
        answer = await self._send(client, "GET", f"{RESOURCE}?name={name}", headers)
        if answer is not None and answer.status_code == 200:
            self.books.counts["reads"] += 1
            self.books.read(name, answer.json(), floor, f"reader {number}, {_how(answer)}")
        elif answer is not None and answer.status_code == 202:
            self.books.accepted(answer.json()["id"])

    async def _send(
        self, client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], json: object = None
    ) -> httpx.Response | None:
        """One request.  None: the connection was cut.  Anything but an answer, or a 503 with its reason, is wrong."""
        try:
            answer = await client.request(method, path, headers=headers, json=json)
        except httpx.TimeoutException:
            self.books.blame(f"{method} {path} was not answered within {_PATIENCE:g} s")
            return None
        except httpx.TransportError as error:
            self.books.counts["cut"] += 1
            if not self.may_cut:
                self.books.blame(f"{method} {path} was cut ({error!r}), though every web process lives")
            return None
        if answer.status_code == 503:
            self.books.counts["503"] += 1
            if not answer.headers.get("retry-after", "").isdecimal():
                self.books.blame(f"{method} {path} was answered 503 without Retry-After")
        elif answer.status_code not in (200, 202) and not (answer.status_code == 404 and "/jobs/" in path):
            self.books.blame(f"{method} {path} was answered {answer.status_code}: {answer.text}")
        return answer


def put(service: Service, name: str, number: int) -> None:
    """Change a source in one step, so that nobody reads half of it."""
    draft = service.home / f"draft-{name}"
    draft.write_text(str(number))
    os.replace(draft, service.home / f"source-{name}")  # noqa: PTH105  (atomic, and says so)


def _how(answer: httpx.Response) -> str:
    """How an answer came about, as it says itself, without the number that is different each time."""
    return "".join(part for part in answer.headers["cache-status"].split(";") if "ttl" not in part)


def _version(watcher: Watcher) -> tuple[object, str]:
    """The last value a watcher was told, and its version in the form of an ETag."""
    if not watcher.values() or not watcher.subscribed:
        return None, ""
    return watcher.values()[-1], f'"{watcher.subscribed[-1].stream_position.epoch}-{watcher.offsets()[-1]}"'
