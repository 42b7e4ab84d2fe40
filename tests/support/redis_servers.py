"""Redis or Valkey servers of the tests' own on loopback: plain, over TLS, and a pair that sentinels watch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from asgi_app.running import embedded, lifeline
from tests.support.service import free_port, until


class RedisServer:
    """A child process on a port of its own."""

    def __init__(self, directory: Path, *flags: str, client: dict[str, Any] | None = None, tls: bool = False) -> None:
        """`flags`: for the server; `client`: for who connects to it."""
        self.port = free_port()
        self._directory = directory
        port = ("--port", "0", "--tls-port") if tls else ("--port",)
        self._flags = (*port, str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *flags)
        self._client = {"ssl": tls, **(client or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For Celery and for redis-py."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """A connection of the test's own, to be closed by it."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, **self._client)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._process = _server(self._directory / f"{self.port}.log", *self._flags, "--dir", str(self._directory))
        until(self.answers, "the server answers", within=10)

    def answers(self) -> bool:
        """Whether it does; skips the test where the program knows no TLS."""
        assert self._process is not None
        if self._process.poll() is not None:
            said = (self._directory / f"{self.port}.log").read_text()
            assert "tls" in said, said
            pytest.skip("the store's program was built without TLS")
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def freeze(self) -> None:
        """It stays connected and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """May be called twice."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait(10)


class WatchedPair:
    """A master, its replica and a sentinel that knows them as `mymaster`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.master = RedisServer(directory / "one")
        self.other = RedisServer(
            directory / "two", "--replicaof", f"127.0.0.1 {self.master.port}", "--repl-diskless-sync-delay", "0"
        )
        self.sentinel_port = free_port()
        self._sentinel: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The broker, as the setting names it."""
        return f"sentinel://127.0.0.1:{self.sentinel_port}/0?master_name=mymaster"

    def __enter__(self) -> WatchedPair:
        self.master.start()
        self.other.start()
        configuration = self._directory / "sentinel.conf"
        configuration.write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\ndir {self._directory}\n"
            f"sentinel monitor mymaster 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n"
        )
        self._sentinel = _server(self._directory / "sentinel.log", str(configuration), "--sentinel")
        until(lambda: self._knows("slaves"), "the sentinel knows the replica", within=30)
        return self

    def __exit__(self, *_: object) -> None:
        if self._sentinel is not None:
            self._sentinel.kill()
            self._sentinel.wait(10)
        self.other.stop()
        self.master.stop()

    def promoted(self) -> bool:
        """Whether the sentinel names the other as master."""
        with redis.Redis(host="127.0.0.1", port=self.sentinel_port) as sentinel:
            found = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        return bool(int(found[1]) == self.other.port)

    def _knows(self, what: str) -> bool:
        try:
            with redis.Redis(host="127.0.0.1", port=self.sentinel_port) as sentinel:
                return bool(sentinel.execute_command("SENTINEL", what.upper(), "mymaster"))
        except redis.RedisError:
            time.sleep(0.05)
            return False


def _server(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A process that ends with this one; the program becomes it, so its pid is the server's."""
    command = [sys.executable, "-I", lifeline.__file__, str(embedded.find_server().path), *arguments]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, lifeline.PARENT: str(os.getpid())}
        )


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """An authority of the test's own, and a certificate for 127.0.0.1 with its key."""
    directory.mkdir(parents=True, exist_ok=True)
    authority, certificate, key = (directory / name for name in ("ca.pem", "server.pem", "server.key"))

    def openssl(*arguments: str) -> None:
        program = shutil.which("openssl")
        assert program is not None, "there is no openssl"
        subprocess.run([program, *arguments], check=True, cwd=directory, capture_output=True, timeout=30)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        *("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    )
    openssl(*("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1"))
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signing)
    return authority, certificate, key
