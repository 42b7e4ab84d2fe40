"""The JavaScript clients, as they are published: npm brings them once into build/, checked against the lock file.

Invariant: a folder that is there is whole, and of this very lock file; it is filled beside and moved.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_BUILD = HERE.parents[2] / "build"
_MANIFESTS = ("package.json", "package-lock.json")
#: Seconds npm may take.
_PATIENCE = 240


def node() -> str:
    """Where Node is."""
    return found("node")


def found(*names: str, what: str = "") -> str:
    """The path of the first of these programs that is there.  Without any the test is skipped, and in CI it fails."""
    program = next(filter(None, map(shutil.which, names)), None)
    if program is not None:
        return program
    missing = f"no {what or names[0]} on PATH"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def packages() -> Path:
    """The folder that holds their node_modules."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in _MANIFESTS)).hexdigest()[:16]
    folder = _BUILD / f"stock-clients-{digest}"
    if not folder.exists():
        _BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_BUILD) as aside:
            _bring(Path(aside, "whole"))
            try:
                Path(aside, "whole").rename(folder)
            except OSError:
                if not folder.exists():  # else somebody was faster
                    raise
    return folder


def _bring(into: Path) -> None:
    into.mkdir()
    for name in _MANIFESTS:
        shutil.copy(HERE / name, into)
    command = [found("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--silent"]
    done = subprocess.run(command, cwd=into, timeout=_PATIENCE, capture_output=True, text=True)
    assert done.returncode == 0, f"npm could not bring the clients: {(done.stdout + done.stderr).strip()[-1000:]}"
