"""The Python API from plain code, threads and event loops of its own; each case in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.store import StoreServer

SETUP = """
import asyncio, threading
import django; django.setup()
from asgi_app import ainvalidate, aread, invalidate, read
from asgi_app import wiring
"""

CASES = {
    "several event loops, one after the other": """
for _ in range(4):
    asyncio.run(ainvalidate("a"))
invalidate("a")
""",
    "threads and loops at once": """
invalidate("a")
def work():
    for _ in range(5):
        invalidate("a")
        asyncio.run(ainvalidate("a"))
failed = []
threading.excepthook = lambda args: failed.append(args.exc_value)
threads = [threading.Thread(target=work) for _ in range(6)]
[t.start() for t in threads]; [t.join() for t in threads]
assert not failed, failed
""",
    "a web process whose code invalidated at import": """
invalidate("a")
async def main():
    node = await wiring.start_node()
    assert node.loop is asyncio.get_running_loop()
    await ainvalidate("a")
    await asyncio.to_thread(invalidate, "a")
    assert wiring.node() is node
    await wiring.stop_node()
asyncio.run(main())
""",
    "the synchronous function on the loop is refused": """
async def main():
    await wiring.start_node()
    try:
        invalidate("a")
    except RuntimeError as error:
        assert "ainvalidate" in str(error)
    else:
        raise AssertionError("it was not refused")
    await wiring.stop_node()
asyncio.run(main())
""",
}


@pytest.mark.parametrize("case", CASES)
def test_the_api_works_from(case: str, store_server: StoreServer, tmp_path: Path) -> None:
    """It neither hangs, nor uses a closed loop, nor that of somebody else."""
    environment = {**os.environ, "MILLPOND_HOME": str(tmp_path), "MILLPOND_REDIS_URL": store_server.url}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SETUP + CASES[case]],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
