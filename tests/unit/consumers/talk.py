"""A conversation with a session, for its tests: frames and time in, replies and effects out."""

from __future__ import annotations

import json
from typing import Any

from cache_layer.position import Position
from consumers.channel import News
from consumers.effects import Close, Effect, Held, HeldLog, Send
from consumers.frames import Code
from consumers.limits import Limits
from consumers.session import Session

LIMITS = Limits(subscriptions=3, command_rate=50, message=2000, replies=100)
FIVE = News("value", b'{"x":5}', Position("e", 5), 1)
VALUE = Held(position=Position("e", 5), value=FIVE, state="fresh", age=0.5, job=None)
NOTHING = Held(position=Position("e", 0), value=None, state="pending", age=0.0, job="j")


class Talk:
    """A session with the test at both ends: `say` is the client, `does` what came out besides frames."""

    def __init__(self, *, limits: Limits = LIMITS, luck: float = 0.0, **how: Any) -> None:
        self.session = Session(client="c1", version="v", limits=limits, now=0.0, luck=luck, **how)
        self.frames: list[dict[str, Any]] = []
        self.does: list[Effect] = []

    def say(self, *commands: dict[str, Any] | str, now: float = 0.0) -> Talk:
        text = "\n".join(c if isinstance(c, str) else json.dumps(c) for c in commands)
        return self.took(self.session.receive(text, now))

    def took(self, effects: list[Effect]) -> Talk:
        for effect in effects:
            if isinstance(effect, Send):
                self.frames.append(json.loads(effect.frame if isinstance(effect.frame, str) else effect.frame()))
            else:
                self.does.append(effect)
        return self

    def connected(self, **how: Any) -> Talk:
        self.say({"id": 1, "connect": {}})
        how = {"now": 0.0, "expires_in": None, "refreshable": False, **how}
        self.took(self.session.authenticated(**how))
        self.frames.clear()
        self.does.clear()
        return self

    def subscribed(self, channel: str = "a", held: Held | HeldLog = VALUE, *, now: float = 0.0, **how: Any) -> Talk:
        """The client subscribes, and the outside answers."""
        self.say({"id": 2, "subscribe": {"channel": channel}}, now=now)
        self.took(self.session.subscribed(channel, held, now=now, **how))
        self.does.clear()
        return self

    def resubscribed(self, held: Held | HeldLog, **fields: Any) -> dict[str, Any]:
        """The result, or the error, of a subscribe with these fields."""
        self.say({"id": 2, "subscribe": {"channel": "a", **fields}})
        self.took(self.session.subscribed("a", held, now=0.0))
        result: dict[str, Any] = self.last["subscribe" if "subscribe" in self.last else "error"]
        return result

    def tick(self, now: float) -> Talk:
        return self.took(self.session.tick(now))

    @property
    def closed(self) -> Code | None:
        return next((effect.code for effect in self.does if isinstance(effect, Close)), None)

    @property
    def last(self) -> dict[str, Any]:
        return self.frames[-1]

    @property
    def error(self) -> tuple[int, str]:
        error = self.last["error"]
        return error["code"], error["message"]


def subscribe(channel: str, **fields: Any) -> dict[str, Any]:
    return {"id": 9, "subscribe": {"channel": channel, **fields}}


def publications(first: int, last: int) -> list[News]:
    """What a log of epoch "e" holds from one offset to another."""
    return [News("publication", b"%d" % n, Position("e", n), n, info=b'{"user":"u"}') for n in range(first, last + 1)]


def log(top: int, missed: list[News] | None = None, *, recoverable: bool = True) -> HeldLog:
    """A log topic at its newest publication."""
    return HeldLog(position=Position("e", top), missed=missed, recoverable=recoverable)
