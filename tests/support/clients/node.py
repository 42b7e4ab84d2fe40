"""The JavaScript clients in Node.

Invariant: the process ends when its stdin does, so that it outlives no test run.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

from tests.support.clients import fetching
from tests.support.clients.javascript import PATIENCE, JavaScript


class Node(JavaScript):
    """A process with a driver; `with Node(version) as node`."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self._ready = threading.Event()
        self._writing = threading.Lock()

    def __enter__(self) -> Node:
        command = [fetching.node(), str(fetching.HERE / "node.js"), str(fetching.packages())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reading = threading.Thread(target=self._read, name="node", daemon=True)
        self._reading.start()
        assert self._ready.wait(PATIENCE), "Node did not start"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(PATIENCE) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._reading.join(PATIENCE)
            self._process.stdout.close()

    def send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._writing:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "ready" in message:
                self._ready.set()
            else:
                self.take(message)
