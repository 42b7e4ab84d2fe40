"""When a connection has to be heard of, and how long it lives: pings, pongs, its connect, its end.

Pure: time (seconds, monotonic) is an argument.  Invariant: a ping is never left out because of other traffic.
"""

from __future__ import annotations

from consumers.frames import Closes, Code

#: Seconds between pings, and until a pong must be there.
PING = 25
PONG_WITHIN = 10.0
#: Seconds until the connect command must be there.
CONNECT_WITHIN = 10.0
#: Seconds an expired connection or subscription lives on: clients refresh at the very second of the expiry.
GRACE = 25.0


class Clock:
    """The deadlines of one connection."""

    def __init__(self, *, now: float, luck: float, pong: bool) -> None:
        """`luck` in [0, 1) spreads the first ping; `pong`: pings are to be answered."""
        self._luck = luck
        self._pong = pong
        self._connect_by: float | None = now + CONNECT_WITHIN
        self._ping_at: float | None = None
        self._pong_by: float | None = None
        self._expired_at: float | None = None

    def connecting(self) -> None:
        """The connect command is there."""
        self._connect_by = None

    def connected(self, now: float) -> None:
        self._ping_at = now + PING * (0.5 + self._luck / 2)

    def refused(self, now: float) -> None:
        """The connection is of no use any more."""
        self._expired_at = now + CONNECT_WITHIN

    def expire(self, at: float | None, *, grace: float) -> None:
        """When the credentials end, None for never; it lives on for the grace."""
        self._expired_at = None if at is None else at + grace

    def ponged(self) -> bool:
        """The client answers; False: nobody has asked."""
        asked, self._pong_by = self._pong_by is not None, None
        return asked

    @property
    def next(self) -> float | None:
        """When there is something to do at the latest."""
        deadlines = (self._connect_by, self._ping_at, self._pong_by, self._expired_at)
        return min((at for at in deadlines if at is not None), default=None)

    def over(self, now: float) -> Code | None:
        """Why the connection has to end now."""
        for deadline, code in (
            (self._connect_by, Closes.STALE),
            (self._pong_by, Closes.NO_PONG),
            (self._expired_at, Closes.EXPIRED),
        ):
            if deadline is not None and now >= deadline:
                return code
        return None

    def ping(self, now: float) -> bool:
        """Whether it is time for a ping, which then counts as sent."""
        if self._ping_at is None or now < self._ping_at:
            return False
        self._ping_at = max(self._ping_at, now - PING / 2) + PING
        if self._pong:
            self._pong_by = self._pong_by or now + PONG_WITHIN
        return True
