"""What parts say: on the terminal with the part's name in front, in files without it.

Invariant: nothing here blocks the event loop on a terminal, and no output of a part fills memory or disk.
"""

import asyncio
import contextlib
import logging
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

#: bytes a log file may have; one older file is kept beside it
LOG_BYTES = 10 * 2**20
#: bytes of a line that are kept: one without an end must not fill the memory
LINE_BYTES = 16 * 2**10
#: lines shown when a part fails to start
TAIL = 15


class Terminal:
    """Lines for stderr, written by a thread of their own: a terminal that is paused must not stop the service."""

    def __init__(self, waiting: int = 10_000) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Write a line, or drop it when thousands are waiting."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self) -> None:
        """Write what is waiting, for at most a second."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(1.0)

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            while (line := self._lines.get()) is not None:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()


def prefixed(name: str, line: str) -> str:
    """A line as the terminal shows it."""
    return f"{name:<9} | {line}"


class PartLog:
    """The output of one part: to the terminal after its name, to a bounded file, and its last lines for a report."""

    def __init__(self, name: str, directory: Path, write: Callable[[str], None]) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._name, self._write = name, write
        self._file = RotatingFileHandler(
            directory / f"{name}.log", maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True
        )
        self._copying: asyncio.Task[None] | None = None
        self.tail: deque[str] = deque(maxlen=TAIL)

    async def open(self) -> int:
        """A descriptor to write to; everything written there is copied until its last holder closes it.

        A pipe of our own, not asyncio's: with that one a process counts as running as long as anybody holds its output.
        """
        read, write = os.pipe()
        stream = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stream)
        pipe = os.fdopen(read, "rb", 0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        self._copying = asyncio.create_task(self._copy(stream, transport), name="copy output")
        return write

    async def drained(self) -> None:
        """Wait, at most a second, until everything written before has been copied."""
        if self._copying:
            await asyncio.wait({self._copying}, timeout=1.0)
            self._copying.cancel()
            await asyncio.wait({self._copying})
            await asyncio.sleep(0)  # the transport closes its pipe in the loop's next turn

    async def _copy(self, stream: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        rest = b""
        with contextlib.closing(transport):
            while chunk := await stream.read(2**16):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._line(line)
        if rest:
            self._line(rest)

    def _line(self, raw: bytes) -> None:
        line = raw[:LINE_BYTES].decode(errors="replace").rstrip("\r")
        self.tail.append(line)
        self._file.emit(logging.LogRecord("", logging.INFO, "", 0, line, None, None))
        self._write(prefixed(self._name, line))

    def close(self) -> None:
        self._file.close()
