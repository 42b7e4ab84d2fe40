"""Where figures were measured: the machine, how busy it was, and the versions that were compared."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from asgi_app.env import available_cores
from asgi_app.running import embedded

_PACKAGES = ("Django", "uvicorn", "uvloop", "httptools", "redis", "hiredis", "celery", "msgspec", "websockets")
_RIVALS = ("channels", "channels_redis", "fastapi", "pydantic", "cashews", "coredis", "valkey-glide")


def describe() -> str:
    """Some lines of text."""
    load = "/".join(f"{average:.1f}" for average in os.getloadavg())
    store = embedded.find_server()
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    rivals = ", ".join(f"{name} {version(name)}" for name in _RIVALS)
    machine = f"{_processor()}, {available_cores()} cores for us, {platform.system()} {platform.machine()}"
    return "\n".join(
        (
            f"* {machine}; load averages at the start {load}",
            f"* Python {platform.python_version()}, {packages}",
            f"* compared with: {rivals}",
            f"* store: {store.path.name} {'.'.join(map(str, store.version))} on a unix socket, without persistence",
        )
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
