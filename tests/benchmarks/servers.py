"""The servers under measurement: child processes on loopback that end with the comparison.

Invariant: leaving a `with` block leaves no process behind.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from tests.support.service import ROOT, Service, free_port

#: Seconds a server may take until it answers.
_READY_WITHIN = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    url: str
    #: Those that accept and answer requests.
    processes: tuple[psutil.Process, ...]

    def cpu(self) -> float:
        """CPU seconds its processes have taken so far."""
        times = [process.cpu_times() for process in self.processes]
        return sum(taken.user + taken.system for taken in times)


@contextmanager
def serving(command: list[str], url: str) -> Iterator[Server]:
    """A program that serves at `url`."""
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(url, child)
        yield Server(url=url, processes=(psutil.Process(child.pid),))
    finally:
        _end(child)


@contextmanager
def uvicorn(application: str, *, processes: int = 1, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """An ASGI application served as Millpond serves its own: uvloop, httptools, no access log."""
    port = free_port()
    flags = ("--port", str(port), "--workers", str(processes), "--no-access-log", "--no-server-header")
    command = [sys.executable, "-m", "uvicorn", application, *flags, "--log-level", "warning"]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(environ or {})})
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, child)
        root = psutil.Process(child.pid)
        workers = [kid for kid in root.children() if "spawn_main" in " ".join(kid.cmdline())]
        yield Server(url=url, processes=tuple(workers) if processes > 1 else (root,))
    finally:
        _end(child)


@contextmanager
def millpond(home: Path, *, processes: int, **environ: str) -> Iterator[Server]:
    """The whole service, with `processes` web processes and these settings."""
    service = Service(
        home,
        "--no-demo",
        MILLPOND_APPS="tests.benchmarks.declared",
        MILLPOND_WEB_PROCESSES=str(processes),
        MILLPOND_WORKER_CONCURRENCY="2",
        **environ,
    ).start()
    try:
        children = psutil.Process(service.pid).children(recursive=True)
        words = "--listener" if processes > 1 else "web"
        found = tuple(child for child in children if words in child.cmdline())
        yield Server(url=service.url, processes=found)
    finally:
        service.stop()


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:  # thousands of consumers leave their group
        child.kill()
        child.wait()


def _wait_for(url: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while True:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _wait_for_port(url: str, child: subprocess.Popen[bytes]) -> None:
    parts = urlsplit(url)
    deadline = time.monotonic() + _READY_WITHIN
    while True:
        try:
            socket.create_connection((parts.hostname or "", parts.port or 0), 1.0).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
