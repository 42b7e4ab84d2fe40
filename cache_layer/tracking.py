"""Being told by the store what changes, for as long as the process lives: one `Line` at a time, on a thread of its own.

Invariant: `open` says yes only while every change that the store made up to `max_staleness` seconds ago was told here.
Whatever breaks or delays the connection (a cut, silence, a stopped process) closes this gate by time alone, and the end
of a connection is told as a change of everything.
"""

from __future__ import annotations

import logging
import random
import threading
from contextlib import AbstractContextManager

from cache_layer.line import LOST, Line, Refused, Route, Told, now

__all__ = ["CONNECTING", "REFUSED", "TRACKING", "Refused", "Route", "Tracking"]

log = logging.getLogger(__name__)

#: What `Tracking.mode` says; after REFUSED comes what the store said.
TRACKING, CONNECTING, REFUSED = "tracking", "connecting", "refused: "
#: Seconds between attempts to connect, growing, and until a store that refused is asked again.
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_REFUSED_PAUSE = 60.0
#: Seconds that `stop` waits for the thread: it may be connecting.
_JOIN = 5.0
#: Proofs of life within max_staleness: the gate stays open on the last but one, and they travel.
_PROOFS = 4
#: After how many times max_staleness without an answer a connection is given up.
_SILENCE = 4
#: Seconds within which the socket is not looked into again: the look is a system call, and hits come in bursts.
_DRAIN_EVERY = 0.0001


class Tracking:
    """Connects until it is stopped.  Started once, stopped once."""

    def __init__(self, route: Route, told: Told, *, max_staleness: float, lock: AbstractContextManager[object]) -> None:
        """`told` is called with the lock held, on whatever thread found out."""
        self.mode = CONNECTING
        self._route = route
        self._told = told
        self._max_staleness = max_staleness
        self._lock = lock
        self._line: Line | None = None
        self._lost_by = ""
        self._warned_of = ""
        self._drained = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="near", daemon=True)

    def start(self) -> None:
        """Returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End connection and thread, within a deadline; nothing is told any more.  To be called without the lock."""
        with self._lock:
            self._stopping.set()
            self._lose("stopped")
        if self._thread.is_alive():
            self._thread.join(_JOIN)

    def abandon(self) -> None:
        """Instead of `stop` in a forked child, where the thread is not, and the connection is the parent's."""
        if self._line is not None:
            self._line.close()

    def open(self, time: float) -> bool:
        """Whether every change up to `max_staleness` before this time (of `now`) was told."""
        line = self._line
        return line is not None and time - line.confirmed <= self._max_staleness

    def drain(self, time: float) -> bool:
        """Take in what has already arrived, so that nothing is served that the thread is just late to hear of.

        False: not `open`, or there is more than can be taken in at once.  To be called with the lock.
        """
        if not self.open(time):
            return False
        if time - self._drained < _DRAIN_EVERY:
            return True
        self._drained = time
        return self._read()

    def adopt(self, line: Line) -> None:
        """From now on this is the connection.  To be called with the lock."""
        self._line, self.mode, self._warned_of = line, TRACKING, ""

    def _run(self) -> None:
        pause = _PAUSE
        while not self._stopping.is_set():
            began = now()
            try:
                self._session()
                pause = _PAUSE if now() - began > _LONGEST_PAUSE else min(_LONGEST_PAUSE, pause * 2)
                self._warn(CONNECTING, self._lost_by)
                self._stopping.wait(pause * random.uniform(0.5, 1.0))
            except Refused as error:
                self._warn(f"{REFUSED}{error}", f"the store refused it: {error}")
                self._stopping.wait(_REFUSED_PAUSE)

    def _warn(self, mode: str, why: str) -> None:
        """Once, not at every attempt."""
        self.mode = mode
        if mode != self._warned_of and not self._stopping.is_set():
            self._warned_of = mode
            log.warning("no tracking, so no near copies: %s", why)

    def _session(self) -> None:
        """Connect, and follow until the connection is lost; `_lost_by` says by what.  Raises Refused."""
        try:
            line = self._route.connect(self._told)
        except LOST as error:
            self._lost_by = _text(error)
            return
        try:
            with self._lock:
                if not self._stopping.is_set():
                    self.adopt(line)
            self._follow(line)
        finally:
            with self._lock:
                self._lose("a fault of ours")  # if it was not lost already
                line.close()

    def _follow(self, line: Line) -> None:
        wait = 0.0
        while self._line is line:
            line.wait(wait)
            with self._lock:
                if self._line is line:
                    wait = self._turn(line)

    def _turn(self, line: Line) -> float:
        """Listen, and ask for a proof of life if one is due; the seconds until the next turn."""
        if not self._read():
            return 0.0
        try:
            return line.prove(self._max_staleness / _PROOFS, self._max_staleness * _SILENCE)
        except LOST as error:
            self._lose(_text(error))
            return 0.0

    def _read(self) -> bool:
        assert self._line is not None
        try:
            return self._line.read()
        except LOST as error:
            self._lose(_text(error))
            return False
        except BaseException:  # of a signal handler: part of what arrived is gone
            self._lose("interrupted")
            raise

    def _lose(self, why: str) -> None:
        line, self._line = self._line, None
        if line is not None:
            self.mode, self._lost_by = CONNECTING, why
            line.hang_up()
            if not self._stopping.is_set():
                self._told(None)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
