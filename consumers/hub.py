"""This process's fan-out: one subscription to the store per topic, shared by all who follow it here.

Invariants: a channel is subscribed, and the store has confirmed it, before its snapshot is read, so nothing falls
between the two; whatever may have been missed is read again once per channel, not once per subscriber; there is one
timer per channel, and no holder can slow another one down; every subscriber is judged anew, each for itself, whenever
the value is looked at again or comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from asgi_app.access import Identity
from asgi_app.errors import Denied, MillpondError, TooManyRequests
from asgi_app.registry import Principal
from asgi_app.topics import Source
from asgi_app.wiring import Node, node
from cache_layer import metrics
from cache_layer.errors import StoreUnavailable
from cache_layer.feed import Feed
from cache_layer.history import LogPage
from cache_layer.outdated import Outdated
from cache_layer.position import Position
from cache_layer.watching import Watching
from consumers.channel import Holder, Subscription
from consumers.connections import Connections
from consumers.judging import FINAL, JUDGED_FOR, Judge
from consumers.line import LOOK_AGAIN, Line, LogLine, ValueLine, line_of
from consumers.ring import as_news
from consumers.telling import tell
from consumers.transport import Port

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds a subscribe may take before it is refused as unavailable (clients give up after 5).
JOIN_WITHIN = 2.0
#: Seconds a channel is kept, and kept fresh, after its last subscriber left.
GRACE = 10.0
#: Seconds over which all channels are read again after a gap.
_GAP_SPREAD = 1.0
#: Reads at once, in all and in the background: thousands may join at once, and the store serves others as well.
_READS = 48
_READS_BEHIND = 16
#: Repetitions of a read that was overtaken, before others get their turn, and the seconds of that turn.
_REPEATS = 3
_TURN = 0.1
#: Seconds a read in the background waits for the judgement of its subscribers.
_JUDGED_WITHIN = 1.0
#: Seconds of one slice of a broadcast; other connections get their turn in between.
_SLICE = 0.002
#: Holders told at once, without slices, and between two looks at the clock.
_SMALL = 64
_PORTION = 16


class Hub:
    """The channels of one event loop.  Works as soon as it is made; `stop` ends what it began."""

    def __init__(self, feed: Feed, invalidations: str, connections: Connections) -> None:
        """`invalidations`: the channel of the feed that carries invalidated tags."""
        self.connections = connections
        self._feed = feed
        self._invalidations = invalidations
        self._hearing: asyncio.Task[None] | None = None
        self._lines: dict[str, ValueLine | LogLine] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reads = asyncio.Semaphore(_READS)
        self._reads_behind = asyncio.Semaphore(_READS_BEHIND)
        self.judge = Judge()
        #: Where it is written down what identified users follow.
        self.watching: Watching | None = None
        feed.on_gap.append(self._gap)

    @property
    def lines(self) -> tuple[ValueLine | LogLine, ...]:
        """All that is followed here, or was a moment ago."""
        return tuple(self._lines.values())

    # Joining and leaving

    async def join(self, source: Source, holder: Holder, name: str, since: Position | None = None) -> Subscription:
        """Follow `source` under `name`.  When this returns, `Subscription.take` is what the holder has to be told, and
        everything newer will be announced by `holder.touch`.  `since`: what a log has told since then is wanted.

        Never waits for a computation.  Raises StoreUnavailable within `JOIN_WITHIN` seconds, and what reading raises.
        """
        line = self._lines.get(source.key)
        if line is None:
            line = self._lines[source.key] = line_of(source, time.monotonic())
        subscription = Subscription(line, source, holder, name)
        line.seats[subscription] = None
        try:
            async with asyncio.timeout(JOIN_WITHIN):
                await self._current(line)
                if since is not None and line.overtaken_by(since, time.monotonic()):
                    await asyncio.shield(self._read_soon(line))
                if since is not None and isinstance(line, LogLine) and line.lacks(since):
                    subscription.older = as_news(await self._older(line, since.offset))
            if subscription not in line.seats:
                raise Denied("access was lost")
        except TimeoutError:
            self.leave(subscription)
            raise StoreUnavailable("the store did not answer in time") from None
        except BaseException:
            self.leave(subscription)
            raise
        line.subscriptions[subscription] = None
        self._keep_or_end(line)
        self._follows(subscription, True)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Stop following; may be called twice."""
        line = subscription.channel
        subscription.port = None
        if subscription in line.subscriptions:
            del line.subscriptions[subscription]
            self._follows(subscription, False)
        if isinstance(line, Line):
            line.seats.pop(subscription, None)
            self._keep_or_end(line)
            if line.seats and not line.watched:
                self._plan(line)

    def shorten(self, subscription: Subscription, port: Port | None) -> None:
        """From now on what is new may be told past the holder, which has told all before."""
        if subscription in subscription.channel.subscriptions:
            subscription.port = port

    def _follows(self, subscription: Subscription, does: bool) -> None:
        """Jobs and values: who follows one sees its end, and is not notified of it once more."""
        user_id, source = subscription.holder.identity.principal.user_id, subscription.source
        if self.watching is not None and user_id and source.kind == "value":
            (self.watching.add if does else self.watching.discard)(user_id, source.key)

    def hide(self, subscription: Subscription, hidden: bool) -> None:
        """Nobody looks at what a subscription brings, or somebody does again: who looks has the newest value soon."""
        line = subscription.channel
        if subscription.hidden is hidden or not isinstance(line, ValueLine):
            return
        before, subscription.hidden = line.watched, hidden
        if line.watched and not before and not (line.state == "fresh" and time.monotonic() < line.fresh_until):
            self._read_behind(line)
        elif line.watched is not before:
            self._plan(line)

    def _keep_or_end(self, line: Line) -> None:
        if line.end is not None:
            line.end.cancel()
            line.end = None
        if line.idle and not line.closed:
            delay = GRACE if line.open else 0.0
            line.end = asyncio.get_running_loop().call_later(delay, self._end, line)

    def _end(self, line: Line) -> None:
        if not line.idle or line.closed:
            return
        line.closed = True
        self._feed.unsubscribe(line.source.channel, self._listener(line))
        if line.timer is not None:
            line.timer.cancel()
        if self._lines.get(line.source.key) is line:
            del self._lines[line.source.key]

    async def stop(self) -> None:
        """Let go of all channels; may be called twice."""
        for line in list(self._lines.values()):
            line.subscriptions.clear()
            line.seats.clear()
            if line.end is not None:
                line.end.cancel()
            self._end(line)
        if self._gap in self._feed.on_gap:
            self._feed.on_gap.remove(self._gap)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._feed.unsubscribe(self._invalidations, self._invalidated)

    # Reading

    async def _current(self, line: Line) -> None:
        """Wait until what the line holds may be shown to a new subscriber."""
        if not (self._feed.healthy and line.shows(time.monotonic())):
            await asyncio.shield(self._read_soon(line))

    def _read_soon(self, line: Line) -> asyncio.Task[None]:
        """The read under way, or a new one: one per channel at a time."""
        if line.reading is None:
            line.reading = self._spawn(self._read(line))
        return line.reading

    async def _read(self, line: Line) -> None:
        try:
            await self._open(line)
            for _ in range(_REPEATS):
                if not await self._read_once(line):
                    break
        except BaseException as error:
            # While the feed hears the store it was a connection that failed, and the next one may be a good one.
            line.look_again = getattr(error, "retry_after", None) or (1.0 if self._feed.healthy else LOOK_AGAIN[1])
            line.reading = None
            self._plan(line)
            raise
        line.reading = None
        if line.suspect:
            self._read_behind(line, _TURN)
        else:
            self._plan(line)

    async def _read_once(self, line: Line) -> bool:
        """One read; True: it was overtaken by events, read again."""
        line.suspect = False
        mark = line.mark()
        try:
            answer = await self._answer(line)
        except BaseException:
            line.suspect = True
            raise
        line.read_at = time.monotonic()
        changed, conflict = line.found(answer, mark, line.read_at)
        if changed:
            self._tell(line)
        line.suspect |= conflict
        return line.suspect

    async def _older(self, line: LogLine, offset: int) -> LogPage:
        """What a log has told since an offset; who come back with the same one share the read."""
        reading = line.reading_older.get(offset)
        if reading is None:
            reading = line.reading_older[offset] = self._spawn(self._read_older(line, offset))
            reading.add_done_callback(lambda _: line.reading_older.pop(offset, None))
        return await asyncio.shield(reading)

    async def _read_older(self, line: LogLine, offset: int) -> LogPage:
        source = line.source
        assert source.kind == "log"
        async with self._reads:
            return await source.read_log(offset, line.kept)

    async def _answer(self, line: Line) -> Any:
        """Read through any of the line's sources: who lost access loses the subscription, whose quota is spent does not
        count, and the others go on.  Raises TooManyRequests only when it is true of all of them."""
        spent: set[Principal] = set()
        refusal: TooManyRequests | None = None
        while True:
            seat = next((one for one in line.seats if one.holder.identity.principal not in spent), None)
            if seat is None and refusal is not None:
                raise refusal
            try:
                async with self._reads:
                    return await line.question(seat.source if seat is not None else line.source)
            except FINAL as error:
                if seat is not None:
                    self._expel(line, seat, error)
                if not line.seats:
                    raise
            except TooManyRequests as error:
                if seat is None:
                    raise
                spent.add(seat.holder.identity.principal)
                refusal = error

    async def _open(self, line: Line) -> None:
        await self._hear_invalidations()
        if not line.open:
            await self._feed.subscribe(line.source.channel, self._listener(line))
            line.open = True
            if line.closed:  # everybody left meanwhile
                self._feed.unsubscribe(line.source.channel, self._listener(line))

    async def _hear_invalidations(self) -> None:
        """Wait until the store has confirmed it; all who come meanwhile share the one subscription."""
        hearing = self._hearing
        if hearing is None or (hearing.done() and (hearing.cancelled() or hearing.exception() is not None)):
            hearing = self._hearing = self._spawn(self._feed.subscribe(self._invalidations, self._invalidated))
        await asyncio.shield(hearing)

    def _read_behind(self, line: Line, delay: float = 0.0) -> None:
        """Read without anybody waiting; what goes wrong is tried again by the line's timer."""
        line.suspect = True
        if line.open and line.reading is None and not line.queued:
            line.queued = True
            self._spawn(self._read_in_turn(line, delay))

    async def _read_in_turn(self, line: Line, delay: float) -> None:
        await asyncio.sleep(delay)
        await asyncio.wait({self._judge_soon(line)}, timeout=_JUDGED_WITHIN)
        async with self._reads_behind:
            line.queued = False
            if not line.closed and line.suspect:
                await asyncio.shield(self._read_soon(line))

    def _plan(self, line: Line) -> None:
        """Set the one timer of the line for its next look at the value."""
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        delay = line.next_look(time.monotonic(), random.random())
        if delay is not None and line.open and not line.closed:
            line.timer = asyncio.get_running_loop().call_later(delay, self._read_behind, line)

    # Judging

    def _judge_soon(self, line: Line) -> asyncio.Task[None]:
        """The judgement under way, or a new one: one per channel at a time."""
        if line.judging is None:
            line.judging = self._spawn(self._judge(line))
        return line.judging

    async def _judge(self, line: Line) -> None:
        """Whoever may not see the topic any more loses the subscription.  Once per identity, in slices."""
        try:
            found: dict[Identity, Exception | None] = {}
            pause_at = time.perf_counter() + _SLICE
            for number, seat in enumerate(tuple(line.seats)):
                identity = seat.holder.identity
                if identity not in found:
                    found[identity] = await self.judge.verdict(seat)
                error = found[identity]
                if error is not None and seat in line.seats:
                    self._expel(line, seat, error)
                if number % 16 == 15 and time.perf_counter() >= pause_at:
                    await asyncio.sleep(0)
                    pause_at = time.perf_counter() + _SLICE
            line.judged_at = time.monotonic()
        finally:
            line.judging = None

    # What the feed says

    def _listener(self, line: Line) -> Any:
        return _Listener(self, line)

    def hear(self, line: Line, message: bytes) -> None:
        """A message on the channel of `line`."""
        now = time.monotonic()
        told, again = line.heard(line.source.parse(message), now)
        if again:
            self._read_behind(line)
        if told and now < line.judged_at + JUDGED_FOR:
            self._tell(line)
        elif told:
            self._spawn(self._tell_judged(line))
        if line.open and not isinstance(line, LogLine):
            self._plan(line)

    async def _tell_judged(self, line: Line) -> None:
        """Tell those who may still see it.  Who cannot be judged in time has not lost anything."""
        await asyncio.wait({self._judge_soon(line)}, timeout=_JUDGED_WITHIN)
        self._tell(line)

    def _invalidated(self, message: bytes) -> None:
        outdated = Outdated.from_json(message)
        if outdated is None:
            log.warning("foreign bytes on the channel of invalidations")
            return
        for line in tuple(self._lines.values()):
            if line.source.outdated_by(outdated):
                self._outdate(line)

    def _outdate(self, line: Line) -> None:
        if line.watched or line.reading is not None:
            self._read_behind(line)
        elif line.outdate():
            self._tell(line)

    def _gap(self) -> None:
        for line in tuple(self._lines.values()):
            self._read_behind(line, random.uniform(0.0, _GAP_SPREAD))

    # Telling

    def _tell(self, line: Line) -> None:
        metrics.pushes["told"] += len(line.subscriptions)
        if len(line.subscriptions) <= _SMALL:
            tell(line, tuple(line.subscriptions))
        elif line.sweeping:
            line.sweep_again = True
        else:
            line.sweeping = True
            self._spawn(self._sweep(line))

    async def _sweep(self, line: Line) -> None:
        """Tell many holders in slices; news that comes meanwhile is what the rest of them get."""
        try:
            line.sweep_again = True
            while line.sweep_again:
                line.sweep_again = False
                pause_at = time.perf_counter() + _SLICE
                everybody = tuple(line.subscriptions)
                for begin in range(0, len(everybody), _PORTION):
                    tell(line, everybody[begin : begin + _PORTION])
                    if time.perf_counter() >= pause_at:
                        await asyncio.sleep(0)
                        pause_at = time.perf_counter() + _SLICE
        finally:
            line.sweeping = False

    def _expel(self, line: Line, seat: Subscription, error: Exception) -> None:
        stands = seat in line.subscriptions
        self.leave(seat)
        if stands:
            seat.holder.expel(seat, error)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, (StoreUnavailable, MillpondError)):
            log.error("reading a topic failed", exc_info=error)


class _Listener:
    """What the feed calls for a line; equal for the same line, so that it can be taken back."""

    __slots__ = ("hub", "line")

    def __init__(self, hub: Hub, line: Line) -> None:
        self.hub, self.line = hub, line

    def __call__(self, message: bytes) -> None:
        self.hub.hear(self.line, message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Listener) and other.line is self.line

    def __hash__(self) -> int:
        return id(self.line)


_hubs: WeakKeyDictionary[Node, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of this process's Node, made at its first use.  Raises RuntimeError outside of a started Node."""
    here = node()
    if here not in _hubs:
        connections = Connections(here.env.max_connections, here.env.max_connections_per_principal)
        _hubs[here] = Hub(here.feed, here.cache.invalidations_channel, connections)
        _hubs[here].watching = here.watching
    return _hubs[here]
