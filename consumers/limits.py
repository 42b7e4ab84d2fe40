"""How much one client may want.  Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

#: Characters of a channel's name.
CHANNEL_LENGTH = 255
#: Calls of one connection under way at once.
CALLS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    #: Subscriptions at once.
    subscriptions: int
    #: Commands a second; bursts of twice that.
    command_rate: float
    #: Bytes of one frame of the client.
    message: int
    #: Bytes of the answers to calls that wait to be written; one alone may be larger.
    replies: int


class Bucket:
    """A token bucket: `rate` a second, bursts of twice that."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._tokens, self._at = rate, 2 * rate, now

    def take(self, now: float) -> bool:
        self._tokens = min(2 * self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
