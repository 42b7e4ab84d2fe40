"""A store of the tests' own, which may be stopped, frozen and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import redis
import redis.asyncio

from asgi_app.running import embedded, lifeline


class StoreServer:
    """A child process; `url` is stable over restarts."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.url = f"unix://{socket}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers; raises within ten seconds."""
        command = embedded.command(embedded.find_server(), self.socket)
        tied = {**os.environ, lifeline.PARENT: str(os.getpid())}
        self._process = subprocess.Popen(command, env=tied, stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        client.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        """It stays connected and answers nothing."""
        self._signal_server(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_server(signal.SIGCONT)

    def kill(self) -> None:
        """As a power failure: nothing it held remains."""
        self._signal_server(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """May be called twice."""
        if self._process is not None:
            process, self._process = self._process, None
            process.terminate()
            process.wait(10)

    async def eternal_keys(self, pattern: str) -> list[str]:
        """Keys that would never go away by themselves."""
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            return [key.decode() async for key in client.scan_iter(pattern) if await client.pttl(key) == -1]
        finally:
            await client.aclose()

    def _signal_server(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
