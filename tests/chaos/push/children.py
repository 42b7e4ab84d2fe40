"""Processes of a run that are told what to do by lines of JSON, and answer each with one.

Invariant: leaving a `with` block leaves no process behind; one whose parent dies ends as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from asgi_app.running.lifeline import PARENT, tie_to_parent
from tests.support.service import ROOT

#: Seconds an answer may take, beyond what was asked to wait for.
_PATIENCE = 120.0


class Child:
    """`async with Child("tests.chaos.push.fleet", ...) as child: await child.ask("add", count=3)`."""

    def __init__(self, module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None) -> None:
        """`log`: what it says on stderr is added there."""
        self._log = log
        self._command = (sys.executable, "-m", module, *arguments)
        self._environment = {**(environment or os.environ), PARENT: str(os.getpid())}
        self._process: asyncio.subprocess.Process
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Child:
        pipe = asyncio.subprocess.PIPE
        with self._log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, cwd=ROOT, env=self._environment, stdin=pipe, stdout=pipe, stderr=log, limit=1 << 26
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def ask(self, do: str, **what: Any) -> Any:
        """What it answers.  Raises RuntimeError when it has ended."""
        async with self._turn, asyncio.timeout(_PATIENCE + what.get("within", 0.0)):
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
            line = await self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self._command[2]} has ended")
            return json.loads(line)


def serve(make: Callable[[], Awaitable[Mapping[str, Callable[..., Awaitable[Any]]]]]) -> None:
    """The child's side: what can be done, by name, until nobody asks any more."""
    tie_to_parent()
    uvloop.run(_serve(make))


async def _serve(make: Callable[[], Awaitable[Mapping[str, Callable[..., Awaitable[Any]]]]]) -> None:
    able = await make()
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        wanted = json.loads(line)
        answer = await able[wanted.pop("do")](**wanted)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
