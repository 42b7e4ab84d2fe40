"""The users of a service whose workers die, and the workers themselves, which are started again at once.

Invariant: what users are answered goes into the books; a worker that was started is gone at the end.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence

import httpx
from centrifuge import PublicationContext, Subscription

from asgi_app.running.lifeline import PARENT
from tests.chaos.crashes.books import Books, Job
from tests.support.service import ROOT, Service
from tests.support.watcher import Watcher

#: What is asked for, and how often: half computations, half actions, and of these half with their effect in the
#: database.
KINDS = {"value": 4, "coroutine": 1, "line": 2, "row": 3}
#: Jobs that are not over at most: fewer than would keep every process busy, so that what is measured is not the queue.
OPEN = 12
#: Seconds a function takes, and seconds between two looks at all open jobs.
_TAKES, _LOOK_EVERY = (0.02, 0.3), 0.3
#: Every so many of the public's jobs is watched.
_WATCHED = 4
_PATIENCE = 20.0


class Pool:
    """Workers beside those of `millpond up`: each a process group, started again as soon as it has died."""

    def __init__(self, service: Service, workers: int, concurrency: int) -> None:
        self._service, self._workers, self._concurrency = service, workers, concurrency
        self._tasks: list[asyncio.Task[None]] = []
        self._log = (service.home / "workers.log").open("a")
        self.started = 0

    def start(self) -> None:
        """Begin."""
        self._tasks = [asyncio.create_task(self._keep()) for _ in range(self._workers)]

    async def stop(self) -> None:
        """Stop them as their supervisor would."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._log.close()

    async def _keep(self) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "asgi_app", "worker", "--concurrency", str(self._concurrency)),
                cwd=ROOT,
                env={**self._service.environment, PARENT: str(os.getpid())},
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
            self.started += 1
            try:
                await process.wait()
            except asyncio.CancelledError:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 30)
                except TimeoutError:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
                raise


class Users:
    """Ask for jobs, look at them, watch some."""

    def __init__(self, service: Service, books: Books, tokens: Sequence[str], dice: random.Random) -> None:
        """`tokens`: of the users beside the public."""
        self._service, self._books, self._dice = service, books, dice
        self._headers: list[dict[str, str]] = [{}, *({"Authorization": f"Bearer {token}"} for token in tokens)]
        self._client = httpx.AsyncClient(base_url=service.url, timeout=_PATIENCE)
        self._watcher = _JobWatcher(service.websocket, books)
        self._watched: dict[str, Subscription] = {}
        self._looking: asyncio.Task[None] | None = None
        self._number = 0

    async def start(self, *, looking: bool = True) -> None:
        """Come; `looking`: at all open jobs, all the time."""
        await self._watcher.client.connect()
        if looking:
            self._looking = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Leave.  Raises what the one who looks at jobs died of."""
        ended: list[BaseException | None] = []
        if self._looking is not None:
            self._looking.cancel()
            ended = [*await asyncio.gather(self._looking, return_exceptions=True)]
        await self._watcher.leave()
        await self._client.aclose()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def ask(self, kind: str = "") -> Job:
        """Ask for one more job, of a kind that is drawn."""
        self._number += 1
        kind = kind or self._dice.choices(list(KINDS), list(KINDS.values()))[0]
        name, seconds = f"{kind}-{self._number}", round(self._dice.uniform(*_TAKES), 3)
        user = self._dice.randrange(len(self._headers))
        job = Job(id=await self._submit(kind, name, seconds, user), name=name, kind=kind, user=user)
        self._books.submitted(job)
        if user == 0 and self._number % _WATCHED == 0:
            self._watched[job.id] = await self._watcher.watch(f"job:{job.id}")
        return job

    async def _submit(self, kind: str, name: str, seconds: float, user: int) -> str:
        headers = {**self._headers[user], "Prefer": "respond-async"}
        for _ in range(40):
            if kind in ("value", "coroutine"):
                path = f"/api/v1/resources/crash.{kind}?name={name}&seconds={seconds}"
                answer = await self._client.get(path, headers=headers)
            else:
                body = {"name": name, "seconds": seconds}
                answer = await self._client.post(f"/api/v1/actions/crash.{kind}", json=body, headers=headers)
            if answer.status_code == 202:
                return str(answer.json()["id"])
            self._books.counts[f"answers {answer.status_code}"] += 1
            if answer.status_code != 503:
                raise AssertionError(f"{kind} was answered {answer.status_code}: {answer.text}")
            await asyncio.sleep(0.5)  # no worker, or the store is away
        raise AssertionError(f"{kind} was refused for 20 s: {answer.text}")

    async def look(self, jobs: Sequence[Job]) -> None:
        """Ask for jobs by their own addresses."""
        for job in jobs:
            answer = await self._client.get(f"/api/v1/jobs/{job.id}", headers=self._headers[job.user])
            if answer.status_code == 200:
                self._books.looked(answer.json())
            elif answer.status_code == 404:
                self._books.blame(f"job {job.id} ({job.name}) is gone")
            else:
                self._books.counts[f"answers {answer.status_code}"] += 1

    async def check_values(self, jobs: Sequence[Job]) -> None:
        """What computations have stored is what their functions returned."""
        for job in jobs:
            answer = await self._client.get(job.result_url or "/")
            if answer.status_code != 200 or answer.json() != {"name": job.name}:
                self._books.blame(f"job {job.id} ({job.name}) has the value {answer.status_code} {answer.text}")

    async def _keep_looking(self) -> None:
        while True:
            await self.look(self._books.open())
            for job_id in [job_id for job_id in self._watched if self._books.jobs[job_id].over]:
                subscription = self._watched.pop(job_id)
                await subscription.unsubscribe()
                self._watcher.client.remove_subscription(subscription)
            await asyncio.sleep(_LOOK_EVERY)


class _JobWatcher(Watcher):
    """Writes what it is told of jobs into the books."""

    def __init__(self, url: str, books: Books) -> None:
        super().__init__(url)
        self._books = books

    async def on_publication(self, ctx: PublicationContext) -> None:
        if not (ctx.pub.tags or {}).get("kind"):
            self._books.told(ctx.pub.data)
