"""News as the websocket's clients get them.

Invariant: what is the same for all who get it is made once and shared: by `News.form`, or by `delta.frame`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consumers import delta, frames
from consumers.channel import News, Subscription

#: Of value topics: told apart from values by their tags.
_SIGNALS = ("progress", "error", "stale")
_PRESENCES = ("join", "leave")


def frame(subscription: Subscription, news: News) -> str:
    """The frame of news for one subscription, written after all that were made before it."""
    if subscription.delta and news.kind not in _PRESENCES:
        return delta.frame(subscription, news, _push_as)
    return news.form(push, subscription.name)


def framed(name: str, news: News) -> bytes:
    """The same as a whole text message of a websocket (RFC 6455, section 5.2), unmasked as a server sends it."""
    text = push(name, news).encode()
    size = len(text)
    if size < 126:
        head = bytes((0x81, size))
    elif size < 65_536:
        head = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x81\x7f" + size.to_bytes(8, "big")
    return head + text


def push(name: str, news: News) -> str:
    """The frame of news for who follows the topic under this name."""
    if news.kind in _PRESENCES:
        return frames.push(name, news.kind, b'{"info":%b}' % news.payload)
    return frames.push(name, "pub", _publication(news, news.payload))


def _push_as(name: str, news: News, data: bytes, is_delta: bool) -> str:
    return frames.push(name, "pub", _publication(news, data, is_delta))


def replayed(missed: Iterable[News]) -> list[bytes]:
    """The publications of a reply, in their order."""
    return [_publication(news, news.payload) for news in missed]


def replayed_in_whole(subscription: Subscription, missed: Sequence[News]) -> list[bytes]:
    """The same for one that is told deltas from then on; called when the reply is written."""
    return [_publication(news, data) for news, data in zip(missed, delta.begin(subscription, missed), strict=True)]


def _publication(news: News, data: bytes, is_delta: bool = False) -> bytes:
    offset = news.position.offset if news.position is not None else 0
    tags = b'{"kind":"%b"}' % news.kind.encode() if news.kind in _SIGNALS else news.tags
    return frames.publication(data, offset, info=news.info, tags=tags, delta=is_delta)
