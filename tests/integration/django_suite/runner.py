"""Django's runner, that also writes down what became of each test; and what starts it in a process of its own.

Invariant: nothing is written outside the folder that is given.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
import unittest
from collections import defaultdict
from pathlib import Path
from typing import Any

from django.test.runner import DiscoverRunner, ParallelTestSuite, RemoteTestResult, RemoteTestRunner

from tests.integration.django_suite.cases import URL

_REPORT = "MILLPOND_DJANGO_SUITE_REPORT"
_ROOT = Path(__file__).parents[3]
#: Processes: most of the time is spent asleep, by tests of expiry.
_PROCESSES = 6
_SETTINGS = """
DATABASES = {alias: {"ENGINE": "django.db.backends.sqlite3"} for alias in ("default", "other")}
SECRET_KEY = "a secret key of the tests, which is long enough for anything"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "tests.integration.django_suite.runner.Runner"
"""
_MODULES = {"cache": "cache_cases", "sessions_tests": "session_cases"}
_MODULE = "tests_of_ours"
_PROGRAM = "runtests.py"

#: Class -> "passed", "skipped" or "failed" -> what was said of each test.
Outcomes = dict[str, dict[str, list[str]]]


class _Result(unittest.TextTestResult):
    """Class -> outcome -> what was said of each test.

    Not by name: under Python 3.12.1 other processes tell the wrong one of all tests after a skipped one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outcomes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802  (unittest's names)
        super().addSuccess(test)
        self._note(test, "passed", "")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._note(test, "failed", str(err[1]))

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._note(test, "failed", str(err[1]))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", str(err[1]))

    def _note(self, test: unittest.TestCase, outcome: str, said: str) -> None:
        self.outcomes[type(test).__name__][outcome].append(said)


class _FarResult(RemoteTestResult):
    """In the processes that run the tests: tracebacks travel as text, which needs no package of its own."""

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addError(test, _as_text(err))

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addFailure(test, _as_text(err))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err and _as_text(err))


def _as_text(error: Any) -> tuple[type[AssertionError], AssertionError, None]:
    return AssertionError, AssertionError("".join(traceback.format_exception(*error))), None


class _FarRunner(RemoteTestRunner):
    resultclass = _FarResult


class _Suite(ParallelTestSuite):
    runner_class = _FarRunner


class Runner(DiscoverRunner):
    """For Django's `runtests.py`."""

    parallel_test_suite = _Suite

    def get_resultclass(self) -> type[_Result]:
        return _Result

    def suite_result(self, suite: Any, result: Any, **kwargs: Any) -> int:
        Path(os.environ[_REPORT]).write_text(json.dumps(result.outcomes), encoding="utf-8")
        return super().suite_result(suite, result, **kwargs)


def run(tests: Path, store: str, folder: Path) -> tuple[Outcomes, str]:
    """Run all cases: what became of them, and what was printed.  `store` is the URL without a database."""
    tree = _tree(tests, folder)
    report = folder / "report.json"
    env = {**os.environ, URL: store, _REPORT: str(report), "PYTHONPATH": os.pathsep.join([str(folder), str(_ROOT)])}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    labels = [f"{app}.{_MODULE}" for app in _MODULES]
    command = [sys.executable, _PROGRAM, "--settings=settings_of_ours", f"--parallel={_PROCESSES}", *labels]
    done = subprocess.run(command, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert report.exists(), done.stdout[-4000:]
    return json.loads(report.read_text(encoding="utf-8")), done.stdout


def _tree(tests: Path, folder: Path) -> Path:
    """Django's folder of tests, linked, with a module of ours in two of its packages, and the settings beside."""
    (folder / "settings_of_ours.py").write_text(_SETTINGS)
    tree = folder / "tests_of_django"
    _link(tests, tree, without={*_MODULES, _PROGRAM})
    shutil.copy(tests / _PROGRAM, tree)  # Python looks for modules where a program really lies
    for app, cases in _MODULES.items():
        _link(tests / app, tree / app, without={"__pycache__"})
        imported = f"from tests.integration.django_suite.cases import {cases}"
        (tree / app / f"{_MODULE}.py").write_text(f"{imported}\n\nglobals().update({cases}(__name__))\n")
    return tree


def _link(source: Path, target: Path, *, without: set[str]) -> None:
    target.mkdir()
    for path in source.iterdir():
        if path.name not in without:
            (target / path.name).symlink_to(path)
