"""`millpond up`: the whole service on one machine, started in order, kept running, stopped in order.

    lock on home -> port -> store -> migrations -> demo data -> web, worker, scheduler -> all of them answer -> ready

Invariant: whatever happens on the way, what was started is stopped again, the last one first, and the way out says why.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from asgi_app.env import Env
from asgi_app.running import embedded
from asgi_app.running.part_log import PartLog, Terminal, prefixed
from asgi_app.running.processes import Keeper, Part, StartFailed, finish, own_command, spawn, stop_ordered
from asgi_app.running.readiness import Probe, roles_probe, store_probe

DEMO = "asgi_app.demo"
#: seconds store, migrations, demo data and the three roles may take to get ready; generous, for small, busy machines
STORE_DEADLINE, MIGRATE_DEADLINE, DEMO_DEADLINE, READY_DEADLINE = 15.0, 300.0, 600.0, 120.0
#: seconds each part gets to stop: the web drains its sockets, the worker ends the jobs it runs
STORE_GRACE, WEB_GRACE, WORKER_GRACE, SCHEDULER_GRACE, STEP_GRACE = 5.0, 20.0, 25.0, 5.0, 5.0
#: seconds between two words about what is being waited for
PATIENCE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line of `millpond up` says."""

    host: str
    port: int
    demo: bool


class Crew:
    """The parts that run, in the order they were started; stopped in the opposite order."""

    def __init__(self, environ: Mapping[str, str], logs: Path, write: Callable[[str], None]) -> None:
        self._environ, self._logs, self._write = environ, logs, write
        self._keepers: list[Keeper] = []
        #: set when the operator asks for the second time: every wait for a part becomes short
        self.hurry = asyncio.Event()

    async def start(self, *parts: Part, probe: Probe, deadline: float) -> None:
        """Start parts and return when `probe` misses nothing.

        Raises StartFailed when one ends, or the deadline passes.
        """
        keepers = [Keeper(part, self._environ, self._log(part.name), self._say) for part in parts]
        self._keepers += keepers
        for keeper in keepers:
            keeper.start()
        await self._answering(keepers, probe, deadline)
        for keeper in keepers:
            keeper.settled = True

    async def _answering(self, keepers: list[Keeper], probe: Probe, deadline: float) -> None:
        began = said = time.monotonic()
        while missing := await probe():
            for keeper in keepers:
                keeper.raise_if_ended()
            waiting = ", ".join(f"{name} ({reason})" for name, reason in sorted(missing.items()))
            now = time.monotonic()
            if now - began > deadline:
                raise StartFailed(f"not ready after {deadline:g} s, still missing: {waiting}; see {self._logs}")
            if now - said > PATIENCE:
                said = now
                self._say(f"waiting for {waiting}")
            await asyncio.sleep(0.1)
        for keeper in keepers:
            keeper.raise_if_ended()  # a part may have answered and died since

    async def step(self, name: str, *command: str, deadline: float, captured: bool = True) -> None:
        """Run a command to its end.  Raises StartFailed when it fails or takes too long; stopped when cancelled."""
        log = self._log(name)
        process = await spawn(command, self._environ, output=await log.open() if captured else None)
        try:
            async with asyncio.timeout(deadline):
                code = await process.wait()
        except TimeoutError:
            raise StartFailed(f"{name} was not done after {deadline:g} s") from None
        finally:
            await finish(process, STEP_GRACE, self.hurry)
            await log.drained()
            log.close()
        if code:
            tail = ["; its last lines:", *log.tail] if captured else [", as it said above"]
            raise StartFailed(f"{name} failed with exit code {code}" + "\n  ".join(tail))

    async def stop(self) -> None:
        """Stop every part, the last one first.  Nothing is left behind."""
        for keeper in reversed(self._keepers):
            self._say(f"stopping {keeper.part.name}")
            await keeper.stop(self.hurry)

    def _log(self, name: str) -> PartLog:
        return PartLog(name, self._logs, self._write)

    def _say(self, line: str) -> None:
        self._write(prefixed("millpond", line))


def up(env: Env, options: Options) -> int:
    """Run the service until it is told to stop.  Returns the exit code: 0 after a stop, 1 when it could not start."""
    terminal = Terminal()
    try:
        with _lock(env.home):
            port = free_port(options.host, options.port)
            asyncio.run(_until_stopped(env, replace(options, port=port), terminal.say))
        return 0
    except (StartFailed, embedded.NoStore) as error:
        terminal.say(f"millpond cannot start: {error}")
        return 1
    finally:
        terminal.close()


async def _until_stopped(env: Env, options: Options, write: Callable[[str], None]) -> None:
    """Start everything, wait for the order to stop, stop everything."""
    crew = Crew(_environ_of_parts(env, options), env.home / "logs", write)
    stop = stop_ordered(crew.hurry)
    starting = asyncio.create_task(_bring_up(crew, env, options))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            print(f"millpond is ready: http://{_bracketed(options.host)}:{options.port}", flush=True)
            await stopping
    finally:
        stopping.cancel()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await crew.stop()


async def _bring_up(crew: Crew, env: Env, options: Options) -> None:
    await _store(crew, env)
    await crew.step("migrate", *own_command("migrate", "--no-input"), deadline=MIGRATE_DEADLINE)
    if options.demo:
        # not captured: it draws a progress bar when stderr is a terminal
        await crew.step("loaddemo", *own_command("loaddemo"), deadline=DEMO_DEADLINE, captured=False)
    where = ("--host", options.host, "--port", str(options.port))
    await crew.start(
        Part(name="web", command=own_command("web", *where), grace=WEB_GRACE),
        Part(name="worker", command=own_command("worker"), grace=WORKER_GRACE),
        Part(name="scheduler", command=own_command("scheduler"), grace=SCHEDULER_GRACE),
        probe=roles_probe(options.host, options.port, env.allowed_hosts[0]),
        deadline=READY_DEADLINE,
    )


async def _store(crew: Crew, env: Env) -> None:
    """The store of somebody else has to answer; ours is started."""
    probe = store_probe(env.store_url)
    if env.redis_url:
        await crew.start(probe=probe, deadline=STORE_DEADLINE)
        return
    server = await asyncio.to_thread(embedded.find_server)
    command = tuple(embedded.command(server, env.store_socket))
    await crew.start(Part(name="store", command=command, grace=STORE_GRACE), probe=probe, deadline=STORE_DEADLINE)


def _environ_of_parts(env: Env, options: Options) -> dict[str, str]:
    apps = (DEMO, *env.apps) if options.demo and DEMO not in env.apps else env.apps
    return {**os.environ, "MILLPOND_HOME": str(env.home), "MILLPOND_APPS": ",".join(apps)}


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """One `millpond up` per home.  The kernel lets go of the lock however this process ends."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(home / "up.pid", os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartFailed(f"process {file.read().strip()} already runs millpond up on {home}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def free_port(host: str, port: int) -> int:
    """The port, when it can be had; port 0 means any.  Raises StartFailed before anything is started."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = (
            "is taken: stop what listens there, or choose another with --port" if taken else f"cannot be used: {error}"
        )
        raise StartFailed(f"port {port} on {host} {reason}") from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
