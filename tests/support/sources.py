"""Source distributions, for the tests that only they hold: pip brings each once into build/.

Invariant: a folder that is there is whole; it is unpacked beside and moved.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

_BUILD = Path(__file__).parents[2] / "build"
#: Seconds pip may take.
_PATIENCE = 240


class NotFetched(Exception):
    """pip could not bring the source; the message is what it said."""


def source_or_skip(package: str, version: str, folder: str) -> Path:
    """As `source`.  Where it cannot be had the test is skipped, and in CI it fails."""
    try:
        return source(package, version, folder)
    except NotFetched as error:
        missing = f"the source of {package} cannot be had: {error}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


def source(package: str, version: str, folder: str) -> Path:
    """The folder of a version's source, which is what its archive holds by that name.  Raises NotFetched."""
    whole = _BUILD / folder
    if not whole.exists():
        _BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_BUILD) as aside:
            with tarfile.open(_download(package, version, Path(aside))) as archive:
                archive.extractall(aside, filter="data")
            try:
                Path(aside, folder).rename(whole)
            except OSError:
                if not whole.exists():  # else somebody was faster
                    raise
    return whole


def _download(package: str, version: str, into: Path) -> Path:
    what = ["--no-deps", "--no-binary", package, "--dest", str(into), f"{package}=={version}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *what]
    try:
        subprocess.run(command, check=True, timeout=_PATIENCE, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise NotFetched(error.stderr.strip()[-500:]) from error
    except subprocess.TimeoutExpired as error:
        raise NotFetched(f"pip took more than {_PATIENCE} s") from error
    return next(into.glob("*.tar.gz"))
