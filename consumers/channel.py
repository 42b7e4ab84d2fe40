"""One topic as this process knows it: the newest value, the signals since, and who holds a subscription.

Pure state: no event loop, no store.  Two sources feed it, live publications and reads, and they may overtake each
other.  Invariants: within an epoch the position never goes back; a signal older than the newest value is never handed
out; what a subscription still has to be told is found by reference, so that a slow holder costs a flag and no queue.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from cache_layer.position import Position
from consumers.effects import Held

if TYPE_CHECKING:
    from asgi_app.access import Identity
    from asgi_app.topics import Snapshot, Source
    from consumers.delta import Step
    from consumers.effects import HeldLog
    from consumers.ring import Ring
    from consumers.transport import Port

Form = TypeVar("Form", str, bytes)

#: Epochs a channel has left and remembers: a publication of one of them comes late and is worth nothing.
_RETIRED = 4
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
#: Seconds after a failure until a watched value is tried again, where the error does not say.
RETRY = 5.0


class News:
    """A value or a signal on its way to subscribers.  Each form of it is made once and shared by all who get it."""

    __slots__ = ("_forms", "info", "kind", "order", "payload", "position", "steps", "tags")

    def __init__(
        self,
        kind: str,
        payload: bytes,
        position: Position | None,
        order: int,
        *,
        info: bytes = b"",
        tags: bytes = b"",
    ) -> None:
        #: value, progress, error or stale; of a log: publication, join, leave, or lost: the subscription cannot go on.
        self.kind = kind
        #: JSON without raw newlines, which separate frames and events; in JSON they are blanks outside of strings.
        self.payload = payload if not (b"\n" in payload or b"\r" in payload) else payload.translate(_ONE_LINE)
        #: Of what is kept; None for what is not.
        self.position = position
        #: Number of this event in its channel.
        self.order = order
        #: Who published it, and names and texts: JSON, or nothing.
        self.info, self.tags = info, tags
        self._forms: dict[tuple[Any, str], Any] = {}
        #: What those are told who hold a base (`consumers.delta`).
        self.steps: dict[str, Step] = {}

    def form(self, make: Callable[[str, News], Form], name: str) -> Form:
        """`make(name, self)`, made once."""
        made: Form | None = self._forms.get((make, name))
        if made is None:
            made = self._forms[make, name] = make(name, self)
        return made


#: The end of a subscription to a log that was overrun, or whose epoch is over.
LOST = News("lost", b"null", None, 0)


class Holder(Protocol):
    """Whoever holds subscriptions."""

    @property
    def identity(self) -> Identity:
        """On whose behalf; the same for all its subscriptions."""

    def touch(self, subscription: Subscription) -> None:
        """There may be news for this subscription.  Must not block or raise."""

    def expel(self, subscription: Subscription, error: Exception) -> None:
        """The subscription has ended; `error` says whether for good.  Must not block or raise."""


class Subscription:
    """One name under which one holder follows a channel, and how far it has been told."""

    __slots__ = (
        "base",
        "channel",
        "delta",
        "epoch",
        "heard",
        "hidden",
        "holder",
        "name",
        "older",
        "port",
        "sent",
        "source",
    )

    def __init__(self, channel: Channel | Ring, source: Source, holder: Holder, name: str) -> None:
        self.channel = channel
        #: The topic as this holder may see it.
        self.source = source
        self.holder = holder
        #: Nobody looks at what it brings: it keeps no value fresh.
        self.hidden = False
        #: The short way to the holder's client, for what is the same for many; None: it is told by the holder.
        self.port: Port | None = None
        #: The holder's own spelling of the topic; one text for all who spell it alike.
        self.name = sys.intern(name)
        #: Position of the last value or publication handed out.
        self.sent: Position | None = None
        #: Order of the last event handed out.
        self.heard = 0
        #: The epoch the holder was told, where its door tells it only once; "" where it tells it with each value.
        self.epoch = ""
        #: Whether publications are told as deltas, and of what (`consumers.delta`).
        self.delta, self.base = False, ""
        #: Of a log: what was read for this subscription alone.
        self.older: list[News] = []

    def take(self, since: Position | None, now: float) -> Held | HeldLog:
        """What the holder has to be told first: the newest value, or what a log has told since a position.

        Handed out hereby; signals stay for `catch_up`.
        """
        older, self.older = self.older, []
        held = self.channel.begin(self, since, older, now)
        self.epoch = held.position.epoch
        return held

    def catch_up(self) -> list[News]:
        """What has not been handed out yet, oldest first, a portion of it: see `behind`.  Handed out hereby."""
        return self.channel.news_for(self)

    @property
    def behind(self) -> bool:
        """Whether there is more to hand out."""
        return self.heard != self.channel.count


class Channel:
    """What is known of one `Source.key`."""

    def __init__(self) -> None:
        self.subscriptions: dict[Subscription, None] = {}
        #: Newest position known; the value may be gone (expired) while its position stays.
        self.position: Position | None = None
        self.value: News | None = None
        #: Signals newer than the value, the newest of each kind, oldest first.
        self.signals: dict[str, News] = {}
        #: Events so far.
        self.count = 0
        #: fresh, stale, pending or failed.
        self.state = "pending"
        self.job: str | None = None
        self.retry_after = RETRY
        self.fresh_until = 0.0
        self._born = 0.0
        self._retired: deque[str] = deque(maxlen=_RETIRED)
        self._live = 0

    @property
    def waiting(self) -> bool:
        """A computation is under way, or should be."""
        return self.state in ("pending", "stale")

    def age(self, now: float) -> float:
        """Seconds since the value was computed; 0 without one."""
        return max(0.0, now - self._born) if self.value is not None else 0.0

    # What a subscription is told

    def begin(self, subscription: Subscription, since: Position | None, older: list[News], now: float) -> Held:
        """What a new subscription is told first; a value of its own is enough, whatever it has seen before.

        While there is none, the one that it holds may become valid again: it is not told that anew.
        """
        value = self.value
        subscription.sent = value.position if value is not None else since if since == self.position else None
        state = "pending" if value is None else "fresh" if self.state == "fresh" else "stale"
        return Held(
            position=self.position or Position("0", 0),
            value=value,
            state=state,
            age=self.age(now),
            job=self.job,
        )

    def news_for(self, subscription: Subscription) -> list[News]:
        """The newest value, then the signals since, as far as they were not told; told hereby."""
        value = self.value
        news: list[News] = []
        if value is not None and value.position != subscription.sent:
            news.append(value)
            subscription.sent = value.position
        if self.signals:
            news += [signal for signal in self.signals.values() if signal.order > subscription.heard]
        subscription.heard = self.count
        return news

    def after(self, heard: int) -> Sequence[News] | None:
        """All that is new for who has heard so many events; None: it is too much at once, or not the same for all."""
        value = self.value
        if heard == self.count:
            return ()
        return (value,) if value is not None and value.order == self.count else None

    # Live publications

    def published(self, position: Position, payload: bytes, *, fresh: float, now: float) -> bool:
        """A value was just stored and is fresh for `fresh` seconds.  True: there is something to tell."""
        if self._outdated(position):
            return False
        self._live += 1
        changed = self._accept(position, payload)
        self._settle("fresh", age=0.0, fresh_for=fresh, job=None, now=now)
        return changed

    def _outdated(self, position: Position) -> bool:
        if self.position is None:
            return False
        if position.epoch != self.position.epoch:
            return position.epoch in self._retired
        return position.offset < self.position.offset

    def signalled(self, kind: str, data: bytes) -> None:
        """Something worth a word happened that is no value; there is something to tell."""
        if kind == "error":
            self.state, self.job, self.retry_after = "failed", None, _retry_after(data)
        if kind == "stale":
            self.state, self.fresh_until = "stale", 0.0
        self._signal(kind, data)

    def _signal(self, kind: str, data: bytes) -> None:
        self.count += 1
        self.signals.pop(kind, None)
        self.signals[kind] = News(kind, data, None, self.count)

    # Reads

    def mark(self) -> int:
        """To be taken before a read begins, and given to `read` with its result."""
        return self._live

    def read(self, snapshot: Snapshot, mark: int, *, now: float) -> tuple[bool, bool]:
        """The result of a read.  (there is something to tell, it has to be read again).

        A live publication that came during the read is not outdone by it: of one epoch the larger offset counts, and
        of two epochs nobody can tell which came first, so it is read again.
        """
        here, there, overtaken = self.position, snapshot.position, self._live != mark
        if overtaken and (snapshot.payload is None or here is None or here.epoch != there.epoch):
            return False, True
        if overtaken and here is not None and here.offset >= there.offset:
            return False, False
        changed = self._lost(there) if snapshot.payload is None else self._found(there, snapshot.payload)
        self._settle(snapshot.state, age=snapshot.age, fresh_for=snapshot.fresh_for, job=snapshot.job, now=now)
        return self._failure(snapshot) or changed, False

    def _lost(self, there: Position) -> bool:
        """There is no value (any more).  The position stays: a placeholder without history must not outdo it."""
        self.value = None
        if self.position is None or (self.position.epoch == there.epoch and there.offset > self.position.offset):
            self.position = there
        return False

    def _found(self, there: Position, payload: bytes) -> bool:
        here = self.position
        if here is not None and here.epoch == there.epoch and here.offset > there.offset:
            return False
        return self._accept(there, payload)

    def _failure(self, snapshot: Snapshot) -> bool:
        if snapshot.state != "failed" or snapshot.error is None:
            return False
        data = msgspec.json.encode(snapshot.error)
        self.retry_after = _retry_after(data)
        told = self.signals.get("error")
        if told is not None and _same_json(told.payload, data):
            return False
        self._signal("error", data)
        return True

    # Both

    def _accept(self, position: Position, payload: bytes) -> bool:
        if self.value is not None and self.value.position == position:
            return False
        if self.position is not None and self.position.offset and self.position.epoch != position.epoch:
            self._retired.append(self.position.epoch)
        if position.epoch in self._retired:
            self._retired.remove(position.epoch)
        self.position = position
        self.count += 1
        self.value = News("value", payload, position, self.count)
        self.signals.clear()
        return True

    def _settle(self, state: str, *, age: float, fresh_for: float, job: str | None, now: float) -> None:
        self.state, self.job = state, job
        self._born = now - age
        self.fresh_until = now + fresh_for if state == "fresh" else 0.0
        holds = _STILL_TRUE[state]
        self.signals = {kind: signal for kind, signal in self.signals.items() if kind in holds}


#: Signals that remain true when a value is found in a state.
_STILL_TRUE: dict[str, tuple[str, ...]] = {
    "fresh": (),
    "stale": ("progress",),
    "pending": ("progress",),
    "failed": ("error",),
}


def _retry_after(problem: bytes) -> float:
    try:
        value = msgspec.json.decode(problem)["retry_after"]
        return min(60.0, max(1.0, float(value)))
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return RETRY


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
    except msgspec.MsgspecError:
        return False
