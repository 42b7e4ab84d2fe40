"""Publications as differences: what a subscription that asked for it is told instead of the whole payload each time.

Such a subscription gets every publication as a JSON string, which is the payload's text or a delta of it (`fossil`).
Invariant: `Subscription.base` is the text its client holds, which is that of the last publication written to it, of
whatever kind; or "" where that is not known or too long, and then the next publication is told in whole.  Texts are
ASCII, since a delta cuts them anywhere and a part of a character is no text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from consumers import fossil

if TYPE_CHECKING:
    from consumers.channel import News, Subscription

#: Characters up to which a text is worth a delta: it is made on the event loop, once for all with the same base.
LONGEST = 262_144
#: Bases from which one publication is told.  Subscriptions that keep up have all the same; the slow get it in whole.
BASES = 3
#: Characters that tell of a delta in a publication: `"delta":true,`.
_FLAG = 13
_NOT_ASCII = re.compile("[^\0-\x7f]+")

#: (the holder's name of the topic, the publication, its `data` as JSON, whether that is a delta) -> a frame.
Make = Callable[[str, "News", bytes, bool], str]


class Step:
    """A publication as it is told to those who hold one base; each frame of it is made once."""

    __slots__ = ("data", "delta", "frames", "text")

    def __init__(self, text: str, data: bytes, *, delta: bool) -> None:
        #: The text a client has then.
        self.text = text
        #: A JSON string.
        self.data = data
        self.delta = delta
        #: By the holder's name of the topic.
        self.frames: dict[str, str] = {}


def begin(subscription: Subscription, told: Sequence[News]) -> list[bytes]:
    """From now on publications are told as deltas, the first one of the last that is `told` in the reply.

    The data of these, as the reply has to tell them.
    """
    subscription.delta = True
    subscription.base = ""
    if not told:
        return []
    last = _step(told[-1], "")
    subscription.base = _base(last.text)
    return [*(_quoted(_ascii(news.payload)) for news in told[:-1]), last.data]


def frame(subscription: Subscription, news: News, make: Make) -> str:
    """The frame for a publication, which has to be written after all frames made before, or the connection ends.

    Should it fail, the next publication is told in whole, whatever became of frames before.
    """
    base, subscription.base = subscription.base, ""
    step = _step(news, base)
    made = step.frames.get(subscription.name)
    if made is None:
        made = step.frames[subscription.name] = make(subscription.name, news, step.data, step.delta)
    subscription.base = _base(step.text)
    return made


def _step(news: News, base: str) -> Step:
    step = news.steps.get(base)
    if step is None and base and len(news.steps) > BASES:
        return _step(news, "")
    if step is None:
        step = news.steps[base] = _shorter(news, base) if base else _whole(news)
    return step


def _whole(news: News) -> Step:
    text = _ascii(news.payload)
    return Step(text, _quoted(text), delta=False)


def _shorter(news: News, base: str) -> Step:
    """The delta, unless it is the longer one."""
    full = _step(news, "")
    if len(full.text) > LONGEST:
        return full
    delta = fossil.encode(base.encode("ascii"), full.text.encode("ascii"))
    data = _quoted(delta.decode("ascii"))
    return Step(full.text, data, delta=True) if len(data) + _FLAG < len(full.data) else full


def _base(text: str) -> str:
    return text if len(text) <= LONGEST else ""


def _quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


def _ascii(payload: bytes) -> str:
    """The same JSON in ASCII.  Other characters stand in strings only, where they may be escaped."""
    text = payload.decode()
    return text if text.isascii() else _NOT_ASCII.sub(lambda run: json.dumps(run[0])[1:-1], text)
