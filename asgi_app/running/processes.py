"""Child processes: started, watched, started again, stopped.

Invariant: a `Keeper` that was stopped has left no process behind, and a process never outlives the one that started it.
Every child leads a session of its own: the terminal's Ctrl-C reaches only us, and a stop reaches its whole group.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asgi_app.running.lifeline import PARENT
from asgi_app.running.part_log import PartLog

#: seconds before a part that died is started again: doubled each time, and from the start again after a calm run
FIRST_DELAY, LAST_DELAY, CALM = 0.5, 30.0, 60.0
#: seconds a part gets once the operator is in a hurry
HURRIED = 1.0


class StartFailed(Exception):
    """The service cannot start; the message says why and what a person can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process that is to run all the time."""

    name: str
    command: tuple[str, ...]
    #: seconds between the order to stop and its end by force
    grace: float
    #: exit code that says: starting again would end the same way
    fatal_code: int | None = None
    #: file descriptors it inherits
    pass_fds: tuple[int, ...] = ()


async def spawn(
    command: Iterable[str], environ: Mapping[str, str], *, output: int | None = None, pass_fds: tuple[int, ...] = ()
) -> asyncio.subprocess.Process:
    """Start `command` in a session of its own and tell it whom it belongs to.

    `output`: descriptor both its outputs go to, closed here afterwards; None: our stderr, for our own stdout carries
    only what was promised there.
    """
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stderr if output is None else output,
            stderr=sys.stderr if output is None else output,
            env={**environ, PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            pass_fds=pass_fds,
        )
    finally:
        if output is not None:
            os.close(output)


def signal_group(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal to the process and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def finish(process: asyncio.subprocess.Process, grace: float, hurry: asyncio.Event) -> None:
    """Ask a process to stop, wait at most `grace` seconds (one, in a hurry), then end its group by force."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        hurried = asyncio.ensure_future(hurry.wait())
        ended = asyncio.ensure_future(process.wait())
        await asyncio.wait({hurried, ended}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if hurry.is_set():
            await asyncio.wait({ended}, timeout=min(grace, HURRIED))
        hurried.cancel()
    signal_group(process, signal.SIGKILL)  # also what a process that ended has left behind
    await process.wait()


class Keeper:
    """Keeps one part running from `start()` to `stop()`.  What it does on its own it says."""

    def __init__(self, part: Part, environ: Mapping[str, str], log: PartLog | None, say: Callable[[str], None]) -> None:
        """`log`: where the part's output goes; None: it writes to our own stderr."""
        self.part = part
        self._environ, self._log, self._say = environ, log, say
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[str] | None = None
        #: while False an end of the part is final, and for `raise_if_ended` to report
        self.settled = False

    @property
    def pid(self) -> int | None:
        """The process that runs now, if one does."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Begin.  Returns at once; a part that ends before `settled` is set is not started again."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.part.name}")

    def raise_if_ended(self) -> None:
        """Raise StartFailed when the part ended for good."""
        if self._task and self._task.done():
            tail = ["; its last lines:", *self._log.tail] if self._log else []
            raise StartFailed(f"{self.part.name} {self._task.result()} before it was ready" + "\n  ".join(tail))

    async def ended(self) -> None:
        """Return when the part ended for good."""
        if self._task:
            await asyncio.wait({self._task})

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop the part for good.  May be called twice, or before `start()`."""
        if self._task:
            self._task.cancel()
            await self.ended()
        if self._process:
            await finish(self._process, self.part.grace, hurry)
            self._process = None
        if self._log:
            await self._log.drained()
            self._log.close()

    async def _keep(self) -> str:
        """Run the part again and again.  Returns how it ended when it is not to be started again."""
        failures = 0
        while True:
            began = time.monotonic()
            ending, fatal = await self._run()
            if fatal or not self.settled:
                return ending
            failures = 1 if time.monotonic() - began > CALM else failures + 1
            delay = backoff(failures)
            self._say(f"{self.part.name} {ending}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)

    async def _run(self) -> tuple[str, bool]:
        """One life of the part.

        Returns how it ended, once nothing of it is left, and whether another try is pointless.
        """
        output = await self._log.open() if self._log else None
        try:
            process = await spawn(self.part.command, self._environ, output=output, pass_fds=self.part.pass_fds)
        except OSError as error:
            return f"could not be started ({error.strerror})", False
        self._process = process
        code = await process.wait()
        self._process = None
        signal_group(process, signal.SIGKILL)
        if self._log:
            await self._log.drained()
        return _ended(code), code == self.part.fatal_code


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(LAST_DELAY, FIRST_DELAY * 2.0 ** max(0, min(failures, 10) - 1))


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited with code {code}"


def stop_ordered(hurry: asyncio.Event) -> asyncio.Event:
    """The event that Ctrl-C, SIGTERM and a closed terminal set.  The second time they set `hurry`."""
    stop = asyncio.Event()

    def order() -> None:
        (hurry if stop.is_set() else stop).set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, order)
    return stop


def own_command(*arguments: str) -> tuple[str, ...]:
    """The command line of another `millpond` command, through the same door this process came in by.

    That door matters: `python -m` puts the current directory first on the path, where a user's own `tasks` hides ours.
    """
    script = Path(sys.argv[0]).absolute()
    door = (str(script),) if script.name == "millpond" and script.exists() else ("-m", "asgi_app")
    return (sys.executable, *door, *arguments)
