"""The tests of the pinned Django: they are in its source distribution only, which pip brings once into build/.

Invariant: a folder that is there is whole; it is unpacked beside and moved.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

_BUILD = Path(__file__).parents[3] / "build"
#: Seconds pip may take.
_PATIENCE = 240


class NotFetched(Exception):
    """pip could not bring the source; the message is what it said."""


def tests_of_django() -> Path:
    """The folder of `runtests.py`.  Raises NotFetched."""
    name = f"django-{version('Django')}"
    folder = _BUILD / name
    if not folder.exists():
        _BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_BUILD) as aside:
            _unpack(_download(Path(aside)), Path(aside))
            try:
                shutil.move(Path(aside, name), folder)
            except OSError:
                if not folder.exists():  # else somebody was faster
                    raise
    return folder / "tests"


def _download(into: Path) -> Path:
    what = ["--no-deps", "--no-binary", "Django", "--dest", str(into), f"Django=={version('Django')}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *what]
    try:
        subprocess.run(command, check=True, timeout=_PATIENCE, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise NotFetched(error.stderr.strip()[-500:]) from error
    except subprocess.TimeoutExpired as error:
        raise NotFetched(f"pip took more than {_PATIENCE} s") from error
    return next(into.glob("*.tar.gz"))


def _unpack(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as source:
        source.extractall(into, filter="data")
