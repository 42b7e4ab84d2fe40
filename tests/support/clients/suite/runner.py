"""Brings the source of centrifuge-python once into build/, and runs its tests in a process of its own.

Invariant: the tests are theirs but for `CHANGES`, each of which is found where it is expected; a folder that is there
is whole.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).parents[4]
#: Seconds pip, and the tests, may take.
_PIP, _TESTS = 240, 100

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


class NotFetched(Exception):
    """pip could not bring the source; the message is what it said."""


def their_source() -> Path:
    """The folder of the source.  Raises NotFetched."""
    build, name = _ROOT / "build", f"centrifuge_python-{version('centrifuge-python')}"
    if not (build / name).exists():
        build.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=build) as aside:
            with tarfile.open(_download(Path(aside))) as source:
                source.extractall(aside, filter="data")
            try:
                Path(aside, name).rename(build / name)
            except OSError:
                if not (build / name).exists():  # else somebody was faster
                    raise
    return build / name


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
    helper = tests / "centrifugo.py"
    helper.write_text(helper.read_text().replace("http://localhost:8000", f"http://127.0.0.1:{port}"))
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", f"tests.{Path(_FILE).stem}"],
        cwd=directory,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        timeout=_TESTS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[max(0, done.stderr.find("=" * 70)) :]  # without the log of the client
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert ran, done.stderr[-2000:]
    return int(ran[1]), done.stderr


def _download(into: Path) -> Path:
    wanted = f"centrifuge-python=={version('centrifuge-python')}"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "centrifuge-python"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(into), wanted]
    try:
        subprocess.run(command, check=True, timeout=_PIP, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise NotFetched(error.stderr.strip()[-500:]) from error
    except subprocess.TimeoutExpired as error:
        raise NotFetched(f"pip took more than {_PIP} s") from error
    return next(into.glob("*.tar.gz"))
