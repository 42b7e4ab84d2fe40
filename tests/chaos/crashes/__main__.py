"""`python -m tests.chaos.crashes`: workers die at chosen steps of the lives of jobs; then the books are checked.

    start -> jobs under load, an order to die every few of them -> all are over -> each kind of death once, alone
          -> nothing is left in the store, every worker is back -> what ran is held against who was killed

Prints the seed, the recovery times by kind of death, and every broken promise in one line with where the logs are.  The
exit code is 1 unless all were kept.  The same seed draws the same jobs and deaths; what they meet differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import psutil

from tests.chaos.crashes import stores
from tests.chaos.crashes.books import BOUNDS, Books, Recoveries
from tests.chaos.crashes.injection import PAIRS, STEPS, Orders, Step, Victim, read_lines
from tests.chaos.crashes.leftovers import Leftovers
from tests.chaos.crashes.load import OPEN, Pool, Users
from tests.support.service import Service

SUMMARY = "Workers die at chosen steps of the lives of jobs; then the books are checked."
#: Workers of `millpond up` and beside it, processes of each, and how many jobs of one user may run at once: those of a
#: dead worker count until its lease is over, so it is more than one worker has in its hands.
WORKERS, CONCURRENCY, RUNNING = 3, 2, 5
#: How often a victim is drawn: half are processes of a worker.
_VICTIMS: dict[Victim, int] = {"child": 2, "worker": 1, "group": 1}
#: Orders that wait for somebody to come to their step, at most; of them one at a time is to a worker, and only while so
#: many attend: what is measured is how a job gets to another worker, not how long one takes to start.
_ORDERS, _ALIVE = 2, 2
#: Seconds after the last kill until every job is over; until every worker is back (`millpond up` waits ever longer
#: before it starts one again); and until the store is empty (Celery notes for a minute what was not acknowledged).
SETTLED_WITHIN, BACK_WITHIN, EMPTY_WITHIN = 60.0, 60.0, 90.0
_SHOWN = 60


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crashes", description=SUMMARY)
    parser.add_argument("--seed", type=int, help="draw the jobs and deaths of an earlier run again")
    parser.add_argument("--jobs", type=int, default=2000, help="jobs (2000)")
    parser.add_argument("--kills", type=int, default=200, help=f"deaths, of which {len(PAIRS)} happen alone (200)")
    parser.add_argument("--database", default="", help="MILLPOND_DATABASE_URL; by default SQLite")
    parser.add_argument("--no-stores", action="store_true", help="leave out the deaths of the store at the end")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped then, too
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    home, books = Path(tempfile.mkdtemp(prefix="millpond-crashes-")), Books()
    print(f"seed {seed}, {options.jobs} jobs, {options.kills} kills", flush=True)
    try:
        recoveries = run(home, books, random.Random(seed), options)
        report(books, recoveries)
        if not options.no_stores:
            dice = random.Random(f"{seed} stores")
            for what in asyncio.run(stores.run(home, dice, partial(start, database=options.database), print)):
                books.blame(what)
    except BaseException as error:
        books.blame(f"the run ended with {error!r}")
        raise
    finally:
        conclude(books, home, keep=options.keep)
    return 1 if books.wrong else 0


def run(home: Path, books: Books, dice: random.Random, options: argparse.Namespace) -> Recoveries:
    """Start the service, let workers die, stop it; how long jobs waited."""
    service = start(home, options.database)
    try:
        tokens = [token(service, name) for name in ("ash", "birch")]
        asyncio.run(Course(service, books, tokens, dice).run(options.jobs, options.kills))
        ledger, kills = read_lines(home / "ledger"), Orders(home).kills()
        if len(kills) != options.kills:
            books.blame(f"{len(kills)} died, and {options.kills} were to")
        recoveries = books.audit(ledger, kills, effects(service))
        (home / "jobs").write_text("".join(f"{json.dumps(asdict(job))}\n" for job in books.jobs.values()))
        bound(books, recoveries)
        return recoveries
    finally:
        code = service.stop()
        if code != 0:
            books.blame(f"the service ended with exit code {code}")


def start(home: Path, database: str, **more: str) -> Service:
    """A service with the declarations of this package."""
    settings = {
        "MILLPOND_APPS": "tests.chaos.crashes.declared",
        "MILLPOND_WORKER_CONCURRENCY": str(CONCURRENCY),
        "MILLPOND_MAX_RUNNING_PER_PRINCIPAL": str(RUNNING),
        "MILLPOND_KEY_RATE": "1000000",
        **more,
    }
    if database:
        settings["MILLPOND_DATABASE_URL"] = database
    return Service(home, "--no-demo", **settings).start()


class Course:
    """One run."""

    def __init__(self, service: Service, books: Books, tokens: Sequence[str], dice: random.Random) -> None:
        self._service, self._books, self._dice = service, books, dice
        self._orders = Orders(service.home)
        self._users = Users(service, books, tokens, dice)
        self._left = Leftovers(service.environment)
        self._pool: Pool
        self._began = time.monotonic()

    async def run(self, jobs: int, kills: int) -> None:
        """All of it."""
        self._pool = Pool(self._service, WORKERS - 1, CONCURRENCY)
        self._pool.start()
        try:
            await self._until(self._whole, BACK_WITHIN, "the workers have started")
            await self._users.start()
            alone = PAIRS[: min(kills, len(PAIRS))]
            await self._under_load(jobs - len(alone), self._drawn(kills - len(alone)))
            await self._settle("under load")
            for step, victim in alone:
                await self._alone(step, victim)
            await self._settle("alone")
            await self._until(self._whole, BACK_WITHIN, "every worker is back")
            await self._empty()
            await self._users.look(list(self._books.jobs.values()))
            values = [job for job in self._books.jobs.values() if job.result_url]
            await self._users.check_values(self._dice.sample(values, min(300, len(values))))
        finally:
            await self._users.stop()
            await self._pool.stop()
            self._left.close()

    def _drawn(self, kills: int) -> list[tuple[Step, Victim]]:
        weights = [_VICTIMS[victim] for _, victim in PAIRS]
        return self._dice.choices(PAIRS, weights, k=kills)

    async def _under_load(self, jobs: int, kills: Sequence[tuple[Step, Victim]]) -> None:
        """Ask for jobs, and evenly among them let workers die; for more jobs, if need be, until all have died."""
        submitted, given, said = 0, 0, 0
        while submitted < jobs or given < len(kills) or self._orders.open():
            while len(self._books.open()) >= OPEN:
                await asyncio.sleep(0.05)
            await self._users.ask()
            submitted += 1
            while given < len(kills) and given * jobs < submitted * len(kills) and await self._may_die(kills[given][1]):
                self._orders.give(*kills[given])
                given += 1
            if submitted // 200 > said:
                said = submitted // 200
                self._say(f"{submitted} jobs, {len(self._orders.kills())} kills")
            if submitted < jobs and given * jobs < (submitted - 200) * len(kills):
                await asyncio.sleep(0.5)  # the dead are not back yet: jobs wait for their share of deaths
        self._books.counts["jobs"] = submitted

    async def _may_die(self, victim: Victim) -> bool:
        if victim == "child" or self._orders.open():
            return self._orders.open() < _ORDERS and victim == "child"
        return len(await asyncio.to_thread(self._workers)) >= _ALIVE

    async def _alone(self, step: Step, victim: Victim) -> None:
        """One job, whose worker dies; nothing else happens."""
        await self._until(self._whole, BACK_WITHIN, "every worker is back")
        self._orders.give(step, victim)
        job = await self._users.ask("line" if step == "leaving" else "")
        await self._until(lambda: job.over and not self._orders.open(), SETTLED_WITHIN, f"{job.name} is over ({step})")
        self._books.counts["jobs"] += 1
        self._say(f"alone: {step}, {victim}: {job.name} {job.status}")

    async def _settle(self, when: str) -> None:
        """All jobs are over."""

        def over() -> bool:
            return not self._books.open()

        await self._until(over, SETTLED_WITHIN, f"{when}: every job is over")

    async def _empty(self) -> None:
        for what in await asyncio.to_thread(self._left.wait, EMPTY_WITHIN, WORKERS):
            self._books.blame(f"left in the store: {what}")

    async def _until(self, condition: Callable[[], object], within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while not await asyncio.to_thread(condition):
            if time.monotonic() > deadline:
                self._books.blame(f"not so within {within:g} s: {what}")
                return
            await asyncio.sleep(0.1)

    def _workers(self) -> list[psutil.Process]:
        """Workers that have all their processes, and attend."""
        attending, found = self._left.attending(), []
        for process in psutil.Process().children(recursive=True):
            try:
                if process.pid in attending and len(process.children()) >= CONCURRENCY:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _whole(self) -> bool:
        return len(self._workers()) == WORKERS

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s: {what}", flush=True)


def token(service: Service, name: str) -> str:
    """An API token of a new user."""
    code = f"from django.contrib.auth import get_user_model as m; m().objects.create_user('{name}')"
    service.command("shell", "-c", code)
    return service.command("token", "create", name, "--scope", "read,run").strip()


def effects(service: Service) -> dict[str, int]:
    """How many rows each action has left."""
    code = (
        "import json; from collections import Counter; from tests.chaos.crashes.declared.models import Effect; "
        "print(json.dumps(Counter(Effect.objects.values_list('name', flat=True))))"
    )
    found: dict[str, int] = json.loads(service.command("shell", "-v", "0", "-c", code).splitlines()[-1])
    return found


def bound(books: Books, recoveries: Recoveries) -> None:
    """Whether everybody was back in time."""
    for who, times in recoveries.by_victim().items():
        late = [time for time in times if time > BOUNDS[who]]
        if late:
            books.blame(f"{len(late)} of {len(times)} were not back {BOUNDS[who]:g} s after ({who}): {max(late):.1f} s")


def report(books: Books, recoveries: Recoveries) -> None:
    """What happened, and how long jobs waited."""
    print("books: " + ", ".join(f"{count} {what}" for what, count in sorted(books.counts.items())))
    print(f"{'seconds until a job went on, by what was killed':60} {'jobs':>5} {'median':>7} {'95 %':>7} {'most':>7}")
    for what, count, median, most_of, most in recoveries.table():
        who, _, step = what.partition(": ")
        text = f"{who}: {STEPS.get(step, step)}"  # type: ignore[call-overload]
        print(f"{text:60} {count:5} {median:7.2f} {most_of:7.2f} {most:7.2f}")
    print("hit again before that: " + (", ".join(f"{n} {who}" for who, n in recoveries.unfinished.items()) or "none"))


def conclude(books: Books, home: Path, *, keep: bool) -> None:
    """What is wrong, if anything is."""
    if not books.wrong:
        print("every promise was kept")
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
            return
    for what in books.wrong[:_SHOWN]:
        print(f"  {what}")
    print(f"{len(books.wrong)} broken promises; the logs are in {home}")


if __name__ == "__main__":
    sys.exit(main())
