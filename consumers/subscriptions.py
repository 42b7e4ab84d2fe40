"""The subscriptions of one session: which stand, which are under way and what waits for them, when they expire.

Pure.  Invariant: what was said of a channel while its subscribe is under way is done after it, in its order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from consumers import commands
from consumers.clock import GRACE
from consumers.commands import Command
from consumers.frames import Code, Errors
from consumers.limits import CHANNEL_LENGTH


@dataclass(frozen=True, slots=True)
class Pending:
    """A subscribe under way, and the commands for the same channel that came after it."""

    command: Command
    waiting: deque[Command] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscription."""

    #: The server made it by itself.
    by_server: bool = False
    #: It stands on a token of its own, which may be renewed.
    refreshable: bool = False


class Subscriptions:
    """By the name that the client uses."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[str, Pending | Standing] = {}
        self._expire_at: dict[str, float] = {}

    @property
    def crowded(self) -> bool:
        """Something waits for a subscribe under way."""
        return any(isinstance(one, Pending) and one.waiting for one in self._of.values())

    def refusal(self, wanted: commands.Subscribe) -> tuple[Code, str | None] | None:
        """Why a subscribe cannot even be tried."""
        if len(wanted.channel) > CHANNEL_LENGTH:
            return Errors.BAD_REQUEST, f"a channel's name has at most {CHANNEL_LENGTH} characters"
        if wanted.channel in self._of:
            return Errors.ALREADY_SUBSCRIBED, None
        if len(self._of) >= self._most:
            return Errors.LIMIT_EXCEEDED, f"at most {self._most} subscriptions"
        if wanted.type:
            return Errors.NOT_AVAILABLE, None
        if wanted.tf is not None:
            return Errors.BAD_REQUEST, "filters by tags are not available"
        return None

    def begin(self, channel: str, command: Command) -> None:
        self._of[channel] = Pending(command)

    def wait_for(self, channel: str, command: Command) -> bool:
        """Whether the command has to wait for a subscribe under way; then it does."""
        pending = self._of.get(channel)
        if not isinstance(pending, Pending):
            return False
        pending.waiting.append(command)
        return True

    def under_way(self, channel: str) -> Pending | None:
        found = self._of.get(channel)
        return found if isinstance(found, Pending) else None

    def standing(self, channel: str) -> Standing | None:
        found = self._of.get(channel)
        return found if isinstance(found, Standing) else None

    def stand(self, channel: str, *, by_server: bool = False, refreshable: bool = False) -> None:
        """The subscribe has succeeded."""
        self._of[channel] = Standing(by_server, refreshable)

    def expire(self, channel: str, at: float | None) -> None:
        """When its token expires; None: never."""
        if at is None:
            self._expire_at.pop(channel, None)
        else:
            self._expire_at[channel] = at + GRACE

    def forget(self, channel: str) -> bool:
        """It has ended; whether there was one."""
        self._expire_at.pop(channel, None)
        return self._of.pop(channel, None) is not None

    def clear(self) -> None:
        self._of.clear()
        self._expire_at.clear()

    @property
    def next_expiry(self) -> float | None:
        return min(self._expire_at.values(), default=None)

    def expired(self, now: float) -> Iterable[str]:
        """The channels whose time is over."""
        return [channel for channel, at in self._expire_at.items() if now >= at]
