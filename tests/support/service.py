"""The whole service, started as users start it, on loopback, in a home of its own."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`millpond up` as a child process."""

    def __init__(self, home: Path, *flags: str, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.websocket = f"ws://127.0.0.1:{self.port}/connection/websocket"
        self._flags = flags
        #: Where its commands are started, and how.
        self.directory = ROOT
        self.program = [sys.executable, "-m", "asgi_app"]
        self._settings = {"MILLPOND_APPS": "tests.support.app", **settings}
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    @property
    def environment(self) -> dict[str, str]:
        """What its commands are started with."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MILLPOND_", "DJANGO_"))}
        return {**inherited, "MILLPOND_HOME": str(self.home), **self._settings}

    def start(self, within: float = 60.0) -> Service:
        """Returns at the ready line; raises with the log when it does not come."""
        self.home.mkdir(parents=True, exist_ok=True)
        log = (self.home / "up.log").open("w")
        command = [*self.program, "up", "--port", str(self.port), *self._flags]
        self._process = subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        log.close()
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        try:
            line = self._lines.get(timeout=within)
        except queue.Empty:
            line = ""
        if line.strip() != f"millpond is ready: {self.url}":
            self.stop()
            raise AssertionError(f"no ready line but {line!r}:\n{self.log()[-4000:]}")
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as Ctrl-C or SIGTERM does; the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        try:
            code = self._process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
        return code

    def kill(self) -> None:
        """kill -9, as the machine would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What it said on stderr."""
        return (self.home / "up.log").read_text()

    def ledger(self) -> list[str]:
        """What its functions noted."""
        file = self.home / "ledger"
        return file.read_text().splitlines() if file.exists() else []

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET a path; header names with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(self.url + path, headers=named, timeout=40)

    def command(self, *arguments: str) -> str:
        """Run another `millpond` command of the same home; its stdout."""
        done = subprocess.run(
            [*self.program, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                self._lines.put(line)
        except ValueError:
            pass  # closed while we read


def until(condition: object, message: str, within: float = 20.0) -> None:
    """Poll a callable until it is true; fails with `message` after `within` seconds."""
    assert callable(condition)
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)
