"""`millpond shell`, once for many pieces of code: starting it takes longer than most tests.

Invariant: one piece of code at a time, each with names of its own; the process ends when its stdin does.
"""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

from tests.support.service import Service

#: Seconds its start, and a piece of code, may take.
_PATIENCE = 60.0
_LOOP = """
import contextlib, io, json, sys, traceback
for line in sys.stdin:
    said, failed = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(said):
            exec(json.loads(line), {})
    except Exception:
        failed = traceback.format_exc()
    print("SAID", json.dumps([said.getvalue(), failed]), flush=True)
"""


class Shell:
    """`with Shell(service) as shell`; starts with its first piece of code."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._one = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        try:
            self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise

    def run(self, code: str) -> str:
        """What it printed.  Raises AssertionError with the traceback of what it raised."""
        with self._one:
            process = self._process = self._process or self._start()
            overdue = threading.Timer(_PATIENCE, process.kill)
            overdue.start()
            try:
                said, failed = self._ask(process, code)
            finally:
                overdue.cancel()
        assert not failed, failed
        return said

    def _start(self) -> subprocess.Popen[str]:
        service = self._service
        return subprocess.Popen(
            [*service.program, "shell", "-v", "0", "-c", _LOOP],
            cwd=service.directory,
            env=service.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def _ask(process: subprocess.Popen[str], code: str) -> tuple[str, str]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(code) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("SAID "):
                answer: list[Any] = json.loads(line.removeprefix("SAID "))
                return answer[0], answer[1]
        raise AssertionError("the shell has ended")
