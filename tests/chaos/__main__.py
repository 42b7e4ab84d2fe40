"""`python -m tests.chaos`: the whole service at work, one fault a round, the books checked after each.

    start -> watchers, readers, writers -> [fault -> nobody writes -> all agree -> jobs are over]* -> stop, nothing left

Prints the seed, a line for each round and the books.  Exit code 1, with every broken promise in one line and where the
logs are, unless all were kept.  The same seed draws the same faults; what they meet differs from run to run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.chaos.books import Books
from tests.chaos.faults import Crew, Fault, draw
from tests.chaos.load import Load, put
from tests.support.service import Service

SUMMARY = "The whole service at work, one fault a round, the books checked after each."
NAMES = ("ash", "birch", "cedar", "elm", "fir")
#: Seconds within which everything is as it was after a fault, and every job at its end after that.  A store that was
#: killed is started again in 0.5 s or more, a lost message is rung again after 20 s, a stock client tries again after
#: 20 s at the most.
HEALED_WITHIN, JOBS_WITHIN = 45.0, 45.0
#: Seconds the service works before a fault and after it.
CALM = 2.0
#: Broken promises that are printed.
_SHOWN = 60


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=SUMMARY)
    parser.add_argument("--seed", type=int, help="draw the faults of an earlier run again")
    parser.add_argument("--rounds", type=int, default=8, help="faults, one a round (8)")
    parser.add_argument("--seconds-limit", type=float, default=240, help="no round begins after so many seconds (240)")
    parser.add_argument("--only", default="", metavar="TEXT", help="draw only faults whose name contains TEXT")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped then, too
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    drawn = draw(random.Random(seed), options.rounds, options.only)
    home = Path(tempfile.mkdtemp(prefix="millpond-chaos-"))
    books = Books(NAMES)
    print(f"seed {seed}, {len(drawn)} rounds", flush=True)
    try:
        run(home, books, seed, drawn, options.seconds_limit)
    except BaseException as error:
        books.blame(f"the run ended with {error!r}")
        raise
    finally:
        report(books, home)
    return 1 if books.wrong else 0


def run(home: Path, books: Books, seed: int, drawn: Sequence[Fault], limit: float) -> None:
    """Start the service, let the rounds happen, stop it."""
    settings = {"MILLPOND_WEB_PROCESSES": "2", "MILLPOND_WORKER_CONCURRENCY": "2"}
    service = Service(home, "--no-demo", **settings)
    for name, number in books.written.items():
        put(service, name, number)
    service.start()
    crew = Crew(service)
    try:
        load_token = token(service)
        asyncio.run(_rounds(service, crew, books, load_token, random.Random(f"{seed} load"), drawn, limit))
    finally:
        crew.census()
        books.now("at the end")
        code = service.stop()
        if code != 0:
            books.blame(f"the service ended with exit code {code}")
        for process in crew.left():
            books.blame(f"process {process.pid} was left behind")


async def _rounds(
    service: Service,
    crew: Crew,
    books: Books,
    load_token: str,
    dice: random.Random,
    drawn: Sequence[Fault],
    limit: float,
) -> None:
    began, census = time.monotonic(), crew.census()
    load = Load(service, books, load_token, dice)
    await load.start()
    try:
        for number, fault in enumerate(drawn, 1):
            if time.monotonic() - began > limit:
                print(f"{limit:g} s are over after {number - 1} of {len(drawn)} rounds", flush=True)
                break
            before = books.counts.copy()
            healed = await _round(f"round {number}, {fault.name}", fault, load, crew, dice)
            if (now := crew.census()) != census:
                books.blame(f"the processes are {now}, and were {census}")
            seen = ", ".join(f"{count} {what}" for what, count in sorted((books.counts - before).items()))
            print(f"round {number}: {fault.name}: all agree after {healed:.1f} s; {seen}", flush=True)
    finally:
        books.counts["values told"] = sum(len(watcher.values()) for _, watcher in load.watchers)
        await load.stop()


async def _round(title: str, fault: Fault, load: Load, crew: Crew, dice: random.Random) -> float:
    """One fault, and the books after it.  Returns the seconds from the end of the fault until all agree."""
    books = load.books
    load.resume()
    await asyncio.sleep(CALM)
    await load.ask_for_jobs(title)
    await asyncio.sleep(dice.uniform(0.0, 1.0))
    load.may_cut = fault.cuts
    books.now(title)
    try:
        await fault.inject(crew, books, dice)
    except LookupError as error:
        books.blame(str(error))
    over = time.monotonic()
    await asyncio.sleep(CALM)
    try:
        await asyncio.wait_for(load.rest(), HEALED_WITHIN)
    except TimeoutError:
        books.blame(f"an invalidation did not return within {HEALED_WITHIN:g} s")
    await _until_empty(load.unsettled, HEALED_WITHIN, books)
    healed = time.monotonic() - over

    async def open_jobs() -> list[str]:
        await load.look_at_jobs()
        return [f"job {job_id} was answered 202 and is not over" for job_id in books.open_jobs]

    await _until_empty(open_jobs, JOBS_WITHIN, books)
    books.open_jobs.clear()  # those that were never over are blamed; the next round is not about them
    load.may_cut = False
    for number, (name, watcher) in enumerate(load.watchers):
        books.watched(name, watcher.values(), f"watcher {number}")
    return healed


async def _until_empty(look: Callable[[], Awaitable[list[str]]], within: float, books: Books) -> None:
    """Look until nothing is found; what is still there after `within` seconds is blamed."""
    deadline = time.monotonic() + within
    while found := await look():
        if time.monotonic() > deadline:
            for what in found:
                books.blame(what)
            return
        await asyncio.sleep(0.2)


def token(service: Service) -> str:
    """An API token that may invalidate and refresh."""
    service.command("shell", "-c", "from django.contrib.auth import get_user_model as m; m().objects.create_user('w')")
    return service.command("token", "create", "w", "--scope", "read,run,invalidate").strip()


def report(books: Books, home: Path) -> None:
    """The books, and what is wrong."""
    print("books: " + ", ".join(f"{count} {what}" for what, count in sorted(books.counts.items())))
    if not books.wrong:
        print("every promise was kept")
        shutil.rmtree(home, ignore_errors=True)
        return
    print(f"{len(books.wrong)} broken promises; the logs are in {home}")
    for what, when in list(books.wrong.items())[:_SHOWN]:
        print(f"  {when}: {what}")
    if len(books.wrong) > _SHOWN:
        print(f"  and {len(books.wrong) - _SHOWN} more")


if __name__ == "__main__":
    sys.exit(main())
