"""`millpond up`: starts everything in order, keeps it running, and leaves nothing behind however it ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from asgi_app.running import embedded, processes
from asgi_app.running.embedded import NoStore
from asgi_app.running.part_log import LINE_BYTES, PartLog
from asgi_app.running.processes import Keeper, Part, StartFailed, backoff
from asgi_app.running.readiness import missing_parts
from asgi_app.running.supervisor import Crew, free_port

SLEEPER = "import time; print('here', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
)
FAMILY = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); print('here', flush=True); time.sleep(600)"


def until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait for something to become true, with a message when it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)


async def auntil(true: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """The same on an event loop."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


def part(name: str, code: str, grace: float = 5.0, fatal_code: int | None = None) -> Part:
    return Part(name=name, command=(sys.executable, "-c", code), grace=grace, fatal_code=fatal_code)


async def nothing_missing() -> dict[str, str]:
    return {}


def alive(pid: int | None) -> bool:
    """Whether a process runs; one that ended and was not yet collected by its parent does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


class TestCrew:
    """The machinery, with parts that do nothing."""

    @pytest.fixture
    def said(self) -> list[str]:
        return []

    @pytest.fixture
    async def crew(self, tmp_path: Path, said: list[str]) -> AsyncIterator[Crew]:
        crew = Crew(os.environ, tmp_path / "logs", said.append)
        yield crew
        await crew.stop()

    async def test_a_part_that_dies_is_started_again_and_that_is_said(self, crew: Crew, said: list[str]) -> None:
        """The line names part, exit and delay."""
        await crew.start(part("web", SLEEPER), probe=nothing_missing, deadline=5)
        (keeper,) = crew._keepers
        await auntil(lambda: "here" in "".join(said), "the part runs")
        first = keeper.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await auntil(lambda: keeper.pid not in (None, first), "another process took over")
        assert "millpond  | web was killed by SIGKILL; starting it again in 0.5 s" in said

    async def test_what_a_dead_part_has_left_behind_is_ended(self, crew: Crew, said: list[str]) -> None:
        """The children of a worker that was killed must not work on."""
        await crew.start(part("worker", FAMILY), probe=nothing_missing, deadline=5)
        (keeper,) = crew._keepers
        await auntil(lambda: "here" in "".join(said), "the part runs")
        parent = psutil.Process(keeper.pid)
        (child,) = parent.children()
        parent.kill()
        await auntil(lambda: not alive(child.pid), "the child is gone")

    async def test_a_part_that_ends_before_it_is_ready_fails_the_start(self, crew: Crew) -> None:
        """With its last words, and without trying again."""

        async def never() -> dict[str, str]:
            return {"web": "no answer"}

        with pytest.raises(StartFailed, match=r"web exited with code 7 before it was ready(.|\n)*no such table"):
            await crew.start(part("web", "print('no such table'); exit(7)"), probe=never, deadline=20)

    async def test_a_start_that_takes_too_long_says_what_is_missing(self, crew: Crew) -> None:
        """By name, with the reason."""

        async def never() -> dict[str, str]:
            return {"worker": "not heard of yet"}

        with pytest.raises(StartFailed, match=r"not ready after 0.3 s, still missing: worker \(not heard of yet\)"):
            await crew.start(part("worker", SLEEPER), probe=never, deadline=0.3)

    async def test_a_step_that_fails_is_reported_with_its_last_lines(self, crew: Crew) -> None:
        """Also one that does not come to an end."""
        with pytest.raises(StartFailed, match=r"migrate failed with exit code 2(.|\n)*table is locked"):
            await crew.step("migrate", sys.executable, "-c", "print('table is locked'); exit(2)", deadline=20)
        with pytest.raises(StartFailed, match=r"migrate was not done after 0\.5 s"):
            await crew.step("migrate", sys.executable, "-c", SLEEPER, deadline=0.5)

    async def test_parts_stop_in_the_opposite_order(self, crew: Crew, said: list[str]) -> None:
        """Who depends on whom stops first."""
        await crew.start(part("store", SLEEPER), probe=nothing_missing, deadline=5)
        await crew.start(part("web", SLEEPER), part("worker", SLEEPER), probe=nothing_missing, deadline=5)
        await crew.stop()
        assert [line for line in said if "stopping" in line] == [
            f"millpond  | stopping {name}" for name in ("worker", "web", "store")
        ]
        assert all(keeper.pid is None for keeper in crew._keepers)

    async def test_a_part_that_ignores_the_order_is_ended_by_force(self, crew: Crew, said: list[str]) -> None:
        """After its grace, not later."""
        await crew.start(part("web", STUBBORN, grace=0.4), probe=nothing_missing, deadline=5)
        (keeper,) = crew._keepers
        await auntil(lambda: "here" in "".join(said), "the part ignores signals")
        pid = keeper.pid
        await crew.stop()
        assert not alive(pid)

    async def test_a_second_order_hurries(self, crew: Crew, said: list[str]) -> None:
        """A part with a long grace is ended within a second or so."""
        await crew.start(part("web", STUBBORN, grace=600), probe=nothing_missing, deadline=5)
        await auntil(lambda: "here" in "".join(said), "the part ignores signals")
        async with asyncio.timeout(10):
            stopping = asyncio.create_task(crew.stop())
            await asyncio.sleep(0)
            crew.hurry.set()
            await stopping

    async def test_a_keeper_may_be_stopped_before_it_was_started(self, tmp_path: Path) -> None:
        """And twice."""
        keeper = Keeper(part("web", SLEEPER), os.environ, PartLog("web", tmp_path, print), print)
        await keeper.stop(asyncio.Event())
        keeper.start()
        await keeper.stop(asyncio.Event())
        await keeper.stop(asyncio.Event())
        assert keeper.pid is None

    async def test_a_hopeless_part_is_given_up(self, tmp_path: Path) -> None:
        """An exit code can say that another try would end the same way."""
        keeper = Keeper(part("web-1", "exit(3)", fatal_code=3), os.environ, PartLog("web-1", tmp_path, print), print)
        keeper.settled = True
        keeper.start()
        async with asyncio.timeout(15):
            await keeper.ended()
        await keeper.stop(asyncio.Event())

    async def test_a_program_that_is_not_there_is_tried_again(self, tmp_path: Path) -> None:
        """A virtual environment may be swapped under a running service."""
        said: list[str] = []
        missing = Part(name="store", command=(str(tmp_path / "nothing"),), grace=1)
        keeper = Keeper(missing, os.environ, PartLog("store", tmp_path, print), said.append)
        keeper.settled = True
        keeper.start()
        await auntil(lambda: said, "it is said")
        await keeper.stop(asyncio.Event())
        assert said[0].startswith("store could not be started (No such file or directory)")

    async def test_output_is_prefixed_kept_and_bounded(self, crew: Crew, said: list[str], tmp_path: Path) -> None:
        """On the terminal with the part's name, in a file without; a line without an end does not fill the memory."""
        code = "print('first'); print('x' * 100_000); print('last', end='')"
        await crew.step("migrate", sys.executable, "-c", code, deadline=20)
        assert said[0] == "migrate   | first"
        assert said[-1] == "migrate   | last"
        assert max(len(line) for line in said) < LINE_BYTES + 100
        assert (tmp_path / "logs" / "migrate.log").read_text().startswith("first\n")


def test_delays_grow_and_stay_bounded() -> None:
    """Doubling from half a second to half a minute, for ever."""
    assert [backoff(failures) for failures in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert backoff(10_000) == processes.LAST_DELAY


@pytest.mark.parametrize(
    ("status", "body", "missing"),
    [
        (200, {"checks": {"store": "ok", "worker": "ok", "scheduler": "ok"}}, {}),
        (200, {"checks": {"store": {"status": "ok"}, "worker": True, "scheduler": {"status": "ok"}}}, {}),
        (
            503,
            {"checks": {"store": "ok", "worker": {"status": "down", "detail": "no sign of life"}, "scheduler": "ok"}},
            {"worker": "no sign of life"},
        ),
        (200, {"checks": {"store": "ok"}}, {"worker": "not heard of yet", "scheduler": "not heard of yet"}),
        (503, {"checks": {"worker": "ok", "scheduler": "ok"}}, {"web": "503"}),
        (404, "nothing", {"web": "/readyz answered 404"}),
    ],
)
def test_readyz_is_read_as_what_is_missing(status: int, body: object, missing: dict[str, str]) -> None:
    """A role nobody speaks of is missing, too."""
    assert missing_parts(status, json.dumps(body).encode()) == missing


class TestStores:
    """Which program is the embedded store."""

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PATH", str(tmp_path))
        return tmp_path

    def program(self, path: Path, name: str, text: str) -> Path:
        (path / name).write_text(f"#!/bin/sh\n{text}\n")
        (path / name).chmod(0o755)
        return path / name

    def test_a_supported_one_on_path_is_taken(self, path: Path) -> None:
        """The system's own gets security fixes from the system."""
        found = self.program(path, "redis-server", "echo 'Redis server v=7.2.5 sha=00000000:0 bits=64'")
        assert embedded.find_server() == embedded.Server(found, (7, 2, 5))

    @pytest.mark.parametrize(
        "text", ["echo 'pyenv: redis-server: command not found' >&2; exit 127", "echo hello", "exit 0"]
    )
    def test_what_only_looks_like_one_is_passed_over(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        """A shim or a broken script."""
        monkeypatch.setattr(embedded, "_bundled", lambda: iter(()))
        self.program(path, "redis-server", text)
        with pytest.raises(NoStore, match="MILLPOND_REDIS_URL"):
            embedded.find_server()

    def test_an_old_one_is_the_last_choice(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before the bundled one comes none without security fixes, but it is better than none."""
        old = self.program(path, "redis-server", "echo 'Redis server v=6.2.14 sha=0'")
        bundled = self.program(path, "bundled", "echo 'Valkey server v=8.1.8 sha=0'")
        monkeypatch.setattr(embedded, "_bundled", lambda: iter([bundled]))
        assert embedded.find_server().path == bundled
        monkeypatch.setattr(embedded, "_bundled", lambda: iter(()))
        assert embedded.find_server().path == old

    def test_one_too_old_for_celery_is_not_taken(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Redis 6.0 lacks commands."""
        monkeypatch.setattr(embedded, "_bundled", lambda: iter(()))
        self.program(path, "redis-server", "echo 'Redis server v=6.0.16 sha=0'")
        with pytest.raises(NoStore):
            embedded.find_server()

    def test_the_directory_of_the_socket_is_private(self, tmp_path: Path) -> None:
        """Whoever can enter it could read every value; one that is no directory of ours is refused."""
        directory = tmp_path / "run"
        directory.mkdir(mode=0o755)
        embedded.command(embedded.Server(Path("/bin/true"), (8, 0, 0)), directory / "store.sock")
        assert directory.stat().st_mode & 0o777 == 0o700
        (tmp_path / "link").symlink_to(directory)
        with pytest.raises(NoStore, match="belongs to you"):
            embedded.command(embedded.Server(Path("/bin/true"), (8, 0, 0)), tmp_path / "link" / "store.sock")


def test_a_port_that_is_taken_is_said() -> None:
    """Before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartFailed, match=f"port {port} on 127.0.0.1 is taken"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port
    assert free_port("127.0.0.1", 0) > 0


class TestLifeline:
    """A child ends with its parent."""

    PARENT = """
        import os, subprocess, sys, time
        from asgi_app.running import lifeline
        environ = os.environ | {{lifeline.PARENT: str(os.getpid())}}
        child = subprocess.Popen([sys.executable, "-c", {child!r}], env=environ)
        print(child.pid, flush=True)
        time.sleep(600)
    """
    TIED = "from asgi_app.running import lifeline; lifeline.tie_to_parent(); print('tied', flush=True); " + SLEEPER
    UNHELPED = "from asgi_app.running import lifeline; lifeline._ask_kernel = lambda: False; " + TIED

    @pytest.mark.parametrize("child", [TIED, UNHELPED], ids=["by the kernel", "by watching"])
    def test_a_killed_parent_takes_its_child_along(self, child: str) -> None:
        """With the kernel's help, and where there is none."""
        code = textwrap.dedent(self.PARENT).format(child=child)
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout
            words = [parent.stdout.readline().strip() for _ in range(2)]
            pid = int(next(word for word in words if word.isdigit()))
            assert alive(pid)
            parent.kill()
            until(lambda: not alive(pid), "the child is gone", 10)

    def test_a_parent_that_died_early_is_noticed(self) -> None:
        """Between the start of the child and the tie."""
        code = "from asgi_app.running import lifeline; lifeline.tie_to_parent(); print('went on')"
        environ = os.environ | {"MILLPOND_PARENT": "1" if os.getpid() != 1 else "2"}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


ROOT = Path(__file__).parents[2]


def environ(**settings: str) -> dict[str, str]:
    """The environment without the settings of this test run, with others."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MILLPOND_")} | settings


class Service:
    """A real `millpond up` in a process of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.stderr = (home.parent / "stderr.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asgi_app", "up", "--home", str(home), "--no-demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            cwd=ROOT,
            env=environ(MILLPOND_WEB_PROCESSES="2"),
            start_new_session=True,
        )

    def ready(self) -> str:
        """The address, once the service says it is ready."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("millpond is ready: http://"), f"{line!r}\n{self.told()}"
        return line.removeprefix("millpond is ready: ").strip()

    def told(self) -> str:
        self.stderr.flush()
        return Path(self.stderr.name).read_text()

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def role(self, role: str) -> psutil.Process:
        return next(child for child in psutil.Process(self.process.pid).children() if role in child.cmdline())

    def close(self) -> None:
        left = self.processes() if self.process.poll() is None else []
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        self.stderr.close()


@pytest.mark.timeout(240)
class TestUp:
    """The whole service."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[Service]:
        service = Service(tmp_path / "home", "--port", "0")
        yield service
        service.close()

    def test_it_gets_ready_refuses_a_second_and_stops_clean(self, service: Service) -> None:
        """Every role shows in `ps`; SIGTERM ends all of them, exit code 0; state and logs stay in home."""
        address = service.ready()
        with urllib.request.urlopen(f"{address}/readyz", timeout=10) as answer:
            assert answer.status == 200
        everyone = service.processes()
        for role in ("web", "worker", "scheduler"):
            assert alive(service.role(role).pid)

        second = Service(service.home, "--port", "0")
        assert second.process.wait(60) == 1
        assert f"process {service.process.pid} already runs millpond up" in second.told()
        second.close()

        service.process.terminate()
        assert service.process.wait(60) == 0, service.told()
        assert not [process for process in everyone if alive(process.pid)]
        assert (service.home / "logs" / "web.log").exists()
        assert not (service.home / "run" / "store.sock").exists()

    def test_a_web_that_was_killed_comes_back(self, service: Service) -> None:
        """And the terminal says so."""
        address = service.ready()
        killed = service.role("web")
        killed.kill()
        until(lambda: "web was killed by SIGKILL; starting it again" in service.told(), "the restart is said")

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return bool(urllib.request.urlopen(f"{address}/livez", timeout=2).status == 200)
            return False

        until(answers, "the web answers again")
        assert service.role("web").pid != killed.pid

    def test_other_commands_find_the_running_service(self, service: Service) -> None:
        """Given the same home: `check` is content, a token is printed alone, and an unknown user is an error."""
        service.ready()

        def command(*arguments: str) -> subprocess.CompletedProcess[str]:
            own = environ(MILLPOND_HOME=str(service.home), DJANGO_SUPERUSER_PASSWORD="never used")
            line = [sys.executable, "-m", "asgi_app", *arguments]
            return subprocess.run(line, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60)

        check = command("check")
        assert (check.returncode, "WRONG" in check.stdout) == (0, False), check.stdout
        assert "coherent by tracking" in check.stdout
        unknown = command("token", "create", "ada")
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert "there is no user 'ada'" in unknown.stderr
        made = command("createsuperuser", "--no-input", "--username", "ada", "--email", "ada@example.org")
        assert made.returncode == 0, made.stderr
        token = command("token", "create", "ada", "--days", "3", "--scope", "read,run")
        assert len(token.stdout.split()) == 1, token.stdout
        assert len(token.stdout.strip()) > 20

    def test_a_killed_supervisor_leaves_no_orphan(self, service: Service) -> None:
        """Not the store, not the roles, not the worker's own children."""
        service.ready()
        everyone = service.processes()
        assert len(everyone) >= 7  # store, web with two of its own, worker with its pool, scheduler
        service.process.kill()
        until(lambda: not [process for process in everyone if alive(process.pid)], "all of them are gone", 15)

    def test_a_killed_worker_takes_its_children_along(self, service: Service) -> None:
        """Celery's pool processes must not go on with work that somebody else takes over."""
        service.ready()
        worker = service.role("worker")
        pool = worker.children()
        assert pool
        worker.kill()
        until(lambda: not [child for child in pool if alive(child.pid)], "the pool is gone", 10)

    def test_a_start_that_fails_says_why_and_stops_what_was_started(self, tmp_path: Path) -> None:
        """Here the database is no database."""
        home = tmp_path / "home"
        home.mkdir()
        (home / "millpond.sqlite3").write_bytes(b"not a database, by any reading" * 100)
        service = Service(home, "--port", "0")
        assert service.process.wait(90) == 1
        assert "millpond cannot start: migrate failed" in service.told()
        assert "file is not a database" in service.told()
        assert not (home / "run" / "store.sock").exists()
        service.close()

    def test_a_taken_port_is_said_before_anything_starts(self, tmp_path: Path) -> None:
        """Exit code 1, and no store was started for nothing."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            service = Service(tmp_path / "home", "--port", str(taken.getsockname()[1]))
            assert service.process.wait(60) == 1
        assert "is taken" in service.told()
        assert not (tmp_path / "home" / "run").exists()
        service.close()
