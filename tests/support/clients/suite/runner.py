"""Runs the tests of centrifuge-python in a process of its own.

Invariant: the tests are theirs but for `CHANGES`, each of which is found where it is expected.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tests.support.sources import source_or_skip

#: Seconds the tests may take.
_PATIENCE = 100

#: Their text, ours, and why.
CHANGES = (
    ("ws://localhost:8000/", "{websocket}/", "the address"),
    ("(False, True)", "(False,)", "Protobuf is not spoken here"),
    (
        'payload = {"sub": user}\n',
        'payload = {"sub": user} if channel else {"sub": user, "channels": ["#42"]}\n',
        "their server is told to subscribe everybody to `#` and the user's id; ours is told by the token",
    ),
    (
        "            subscribed_future.set_result(ctx.channel)\n",
        "            if ctx.channel == channel:\n                subscribed_future.set_result(ctx.channel)\n",
        "here the user's inbox is subscribed, too",
    ),
)

#: The files that talk to a server, rather than to one of their own making.
_FILE = "test_client.py"


def their_source() -> Path:
    """The folder of the source.  Where it cannot be had the test is skipped, and in CI it fails."""
    pinned = version("centrifuge-python")
    return source_or_skip("centrifuge-python", pinned, f"centrifuge_python-{pinned}")


def outcome(port: int, directory: Path) -> tuple[int, str]:
    """How many of their tests were run against a service on that port of loopback, and what was said of them.

    Raises AssertionError when one of them fails.
    """
    tests = directory / "tests"
    shutil.copytree(their_source() / "tests", tests)
    text = (tests / _FILE).read_text()
    for theirs, ours, why in CHANGES:
        assert theirs in text, f"no longer to be changed: {why}"
        text = text.replace(theirs, ours.format(websocket=f"ws://127.0.0.1:{port}") if "{websocket}" in ours else ours)
    (tests / _FILE).write_text(text)
    api = tests / "centrifugo.py"
    api.write_text(api.read_text().replace("http://localhost:8000", f"http://127.0.0.1:{port}"))
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", f"tests.{Path(_FILE).stem}"],
        cwd=directory,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        timeout=_PATIENCE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[max(0, done.stderr.find("=" * 70)) :]  # without the log of the client
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert ran, done.stderr[-2000:]
    return int(ran[1]), done.stderr
