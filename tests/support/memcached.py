"""A memcached of the tests' own, which may be stopped and started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time

import pytest

from tests.support.service import free_port


class Memcached:
    """A child process on one port of loopback; what it holds is lost when it stops."""

    def __init__(self) -> None:
        """Skips the test where there is no memcached, except where all has to be there."""
        self._program = shutil.which("memcached")
        if self._program is None:
            assert not os.environ.get("CI"), "memcached is not installed"
            pytest.skip("memcached is not installed")
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Memcached:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it accepts connections."""
        assert self._program is not None
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        self._process = subprocess.Popen([self._program, "-l", "127.0.0.1", "-p", str(self._port), "-m", "32", *user])
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "memcached does not start"
                time.sleep(0.02)

    def stop(self) -> None:
        """May be called twice."""
        if self._process is not None:
            process, self._process = self._process, None
            process.terminate()
            process.wait(10)
