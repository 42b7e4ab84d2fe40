"""One connection on which the store tells what changes (CLIENT TRACKING in broadcast mode, RESP3): handshake and bytes.

Invariant: every change made before `Line.confirmed` has been told, in order; what the connection cannot make sure of
ends it with an exception.  The one thing the store changes without telling is SWAPDB (seen with Redis 7.0).
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import hiredis
import redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.retry import Retry

#: What ends a connection, or keeps it from being made.
LOST = (OSError, redis_errors.RedisError, hiredis.HiredisError)
#: Takes the names of keys that changed; None: all of them may have.
Told = Callable[[Sequence[str] | None], None]

#: Seconds that connecting may take, and all answers of the handshake together.
_PATIENCE = 2.0
#: Bytes taken at once, and how often in one go, so that a flood of changes does not hold up who looks into the socket.
_CHUNK, _CHUNKS = 65536, 16
_NO_MORE = object()
#: Boot time counts also while the machine sleeps; not every system has it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Refused(Exception):
    """The store answers and will not track; the message is what it said."""


def now() -> float:
    """Seconds on the clock by which connections are judged."""
    return time.clock_gettime(_CLOCK)


class Line:
    """A connection.  Not thread-safe, save `wait`."""

    def __init__(self, sock: socket.socket, told: Told, *, since: float) -> None:
        """`since`: before tracking was switched on, on the clock of `now`."""
        sock.setblocking(False)
        self._sock = sock
        self._told = told
        # Keys are text here; a foreign one that is not must not end the connection.
        self._reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape", notEnoughData=_NO_MORE)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        #: Every change made before this time has been told.
        self.confirmed = since
        # When the newest proof of life was asked for, and the one before it.
        self._asked = self._asked_before = since
        self._answered = True

    def wait(self, seconds: float) -> None:
        """Return when something arrives, at the latest after so many seconds."""
        self._poll.poll(max(0.0, seconds) * 1000)

    def read(self) -> bool:
        """Take in what has arrived, without waiting; False: there is more than is taken in one go.

        Raises one of LOST at the end of the connection.
        """
        for _ in range(_CHUNKS):
            arrived = self._receive()
            while (message := self._reader.gets()) is not _NO_MORE:
                self._take(message)
            if not arrived:
                return True
        return False

    def prove(self, every: float, silence: float) -> float:
        """Ask for a proof of life if one is due; returns the seconds until this should be called again.

        Raises OSError when the last one was not answered for `silence` seconds.
        """
        time_ = now()
        if not self._answered:
            if time_ - self._asked > silence:
                raise TimeoutError(f"the store was silent for {silence:g} s")
            return every
        if time_ - self._asked >= every:
            self._asked_before, self._asked, self._answered = self._asked, time_, False
            self._send(("PING",))
        return self._asked + every - time_

    def begin(self, prefixes: Sequence[str]) -> None:
        """Switch tracking on.  Raises Refused, or one of LOST."""
        watched = [word for prefix in prefixes for word in ("PREFIX", prefix)]
        name = ("CLIENT", "SETNAME", "millpond-near")
        self._send(("HELLO", "3"), name, ("CLIENT", "TRACKING", "ON", "BCAST", *watched))
        hello, _, tracking = self._answers(3)  # nothing depends on the name
        for answer in (hello, tracking):
            if isinstance(answer, hiredis.ReplyError):
                raise Refused(str(answer))

    def hang_up(self) -> None:
        """End the connection and wake who waits.  The descriptor stays: its number must not come to mean another."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back.  A forked child does so without a word to the store."""
        self._sock.close()

    def _send(self, *commands: tuple[str, ...]) -> None:
        text = b"".join(hiredis.pack_command(command) for command in commands)  # type: ignore[arg-type]
        if self._sock.send(text) != len(text):  # it fits unless nothing was read at the other end for long
            raise ConnectionAbortedError("the store does not read")

    def _answers(self, count: int) -> list[Any]:
        answers: list[Any] = []
        until = now() + _PATIENCE
        while len(answers) < count:
            answer = self._reader.gets()
            if answer is not _NO_MORE:
                answers.append(answer)
            elif now() < until:
                self.wait(until - now())
                self._receive()
            else:
                raise TimeoutError("the store did not answer the handshake")
        return answers

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        if not data:
            raise ConnectionResetError("the store closed the connection")
        self._reader.feed(data)
        return True

    def _take(self, message: Any) -> None:
        if isinstance(message, hiredis.PushNotification):
            if message[0] == "invalidate":
                self._told(message[1])
        elif message == "PONG":
            # The store tells a change at the end of the turn of its loop in which it was made, after that turn's
            # answers.  So this answer proves only that the turn that answered the proof before has told everything,
            # which is all that was made until that one was asked for.
            self.confirmed, self._answered = self._asked_before, True
        else:
            raise hiredis.ProtocolError(f"unexpected on a tracking connection: {message!r:.100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where the store is, and the prefixes of the names that are watched there."""

    url: str
    prefixes: tuple[str, ...]

    def connect(self, told: Told) -> Line:
        """A connection with tracking on, within seconds.  Raises Refused, or one of LOST."""
        line = Line(self._socket(), told, since=now())
        try:
            line.begin(self.prefixes)
        except BaseException:
            line.close()
            raise
        return line

    def _socket(self) -> socket.socket:
        """An authenticated socket.  redis-py knows URLs, TLS and AUTH; its reading and its retries are not wanted."""
        pool = redis.ConnectionPool.from_url(
            self.url,
            protocol=2,
            socket_connect_timeout=_PATIENCE,
            socket_timeout=_PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        connection: Any = pool.make_connection()
        try:
            connection.connect()
        except (redis_errors.AuthenticationError, redis_errors.ResponseError) as error:
            raise Refused(str(error)) from error
        sock: socket.socket = connection._sock
        connection._sock = None  # or the connection closes it when it is collected
        return sock
