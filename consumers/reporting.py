"""What this process tells of what is watched here, and counts of its connections for `/metrics`.

Invariants: a report is made of what is there anyway, every few seconds, and costs a delivery nothing; while the store
is away nothing is told and nothing piles up.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from statistics import median
from weakref import WeakKeyDictionary

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from asgi_app import exposition, watching
from asgi_app.watching import Reader, Report, Topic
from asgi_app.wiring import Node, node
from cache_layer import metrics
from cache_layer.errors import StoreUnavailable
from cache_layer.watchers import Watchers
from consumers.hub import Hub, hub
from consumers.line import Line, LogLine, ValueLine

log = logging.getLogger(__name__)

#: Seconds between two reports, and between two looks at how late the loop is.
_EVERY, _LOOK = 5.0, 0.25
#: Seconds after which a write that is under way makes a slow reader.
_SLOW = 2.0


class Reporter:
    """Of one event loop."""

    def __init__(self, here: Node, hub: Hub) -> None:
        self.process = secrets.token_hex(8)
        #: Seconds the loop kept somebody waiting: since the last report, and in all of the one before.
        self.lag, self._lag = 0.0, 0.0
        self._node, self._hub = here, hub
        self._watchers = Watchers(here.store)
        #: Topic -> counts of what was told and computed, and when (monotonic).
        self._before: dict[str, tuple[int, int, float]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; may be called twice."""
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._feel(), name="lag"),
                loop.create_task(self._report_again_and_again(), name="reports"),
            ]

    async def stop(self) -> None:
        """Say nothing any more; may be called twice, or before `start`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            self._tasks = []
            try:
                await self._watchers.leave(self.process)
            except StoreUnavailable:
                log.debug("the store is away: the last report is believed a little longer")

    async def report(self) -> None:
        """Tell once, now.  Raises StoreUnavailable."""
        await self._watchers.report(self.process, msgspec.json.encode(self._made()))

    async def _report_again_and_again(self) -> None:
        while True:
            try:
                await self.report()
            except StoreUnavailable:
                log.debug("the store is away: what is watched is not told")
            except Exception:
                log.exception("what is watched cannot be told")
            await asyncio.sleep(_EVERY)

    async def _feel(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LOOK
            await asyncio.sleep(_LOOK)
            self._lag = max(self._lag, loop.time() - due)

    def _made(self) -> Report:
        self.lag, self._lag = self._lag, 0.0
        lines = [line for line in self._hub.lines if line.seats]
        most = heapq.nlargest(watching.TOPICS, lines, key=lambda line: len(line.seats))
        now = time.monotonic()
        topics = tuple(self._topic(line, now) for line in most)
        counted = {line.source.topic: (line.count, line.mark(), now) for line in most}
        self._before = counted
        connections = self._hub.connections
        return Report(
            process=self.process,
            host=socket.gethostname(),
            pid=os.getpid(),
            draining=connections.draining,
            feed=self._node.feed.healthy,
            lag=round(self.lag, 4),
            connections={name: count for name, count in connections.transports.items() if count},
            subscriptions=sum(len(line.seats) for line in lines),
            watched=len(lines),
            topics=topics,
            slow=tuple(heapq.nlargest(watching.READERS, self._slow(), key=lambda reader: reader.stuck)),
        )

    def _topic(self, line: ValueLine | LogLine, now: float) -> Topic:
        told, computed, at = self._before.get(line.source.topic, (line.count, line.mark(), now))
        minutes = max(1e-3, now - at) / 60
        return Topic(
            topic=line.source.topic,
            kind=_kind(line),
            watchers=len(line.seats),
            hidden=sum(seat.hidden for seat in line.seats),
            # A line that was made anew in between has begun to count anew.
            told=round(max(0, line.count - told) / minutes, 1),
            computed=round(max(0, line.mark() - computed) / minutes, 1),
            seconds=_median(line),
            state=line.state if isinstance(line, ValueLine) else "",
            error=_error(line),
        )

    def _slow(self) -> Iterator[Reader]:
        connections = self._hub.connections
        for connection in connections.all():
            stuck = connection.stuck
            if stuck > _SLOW:
                identity = connections.identity(connection)
                user = (identity.principal.user_id if identity is not None else None) or ""
                age = round(connections.age(connection), 1)
                yield Reader(user=user, transport=connection.transport, stuck=round(stuck, 1), age=age)


def _kind(line: ValueLine | LogLine) -> str:
    topic = line.source.topic
    if isinstance(line, LogLine):
        return "inbox" if topic.startswith("inbox#") else "log"
    return "job" if topic.startswith("job:") else "value"


def _median(line: Line) -> float | None:
    return round(median(line.costs), 4) if isinstance(line, ValueLine) and line.costs else None


def _error(line: Line) -> str:
    """The last error, while it is what is known of the value."""
    told = line.signals.get("error") if isinstance(line, ValueLine) else None
    if told is None:
        return ""
    try:
        problem = msgspec.json.decode(told.payload)
        text = problem.get("detail") or problem.get("title") or "failed"
        return str(text)[: watching.ERROR]
    except (msgspec.MsgspecError, AttributeError):
        return "failed"


_reporters: WeakKeyDictionary[Node, Reporter] = WeakKeyDictionary()


def start() -> Reporter:
    """The reporter of this process's Node, at work.  Raises RuntimeError outside of a started Node."""
    here = node()
    if here not in _reporters:
        _reporters[here] = Reporter(here, hub())
        exposition.also.append(_metrics)
    _reporters[here].start()
    return _reporters[here]


def _metrics() -> Iterable[Metric]:
    """Of the connections of this process."""
    try:
        connections, lines = hub().connections, hub().lines
        lag = _reporters[node()].lag
    except (RuntimeError, KeyError):
        return
    process = str(os.getpid())
    opened = GaugeMetricFamily("millpond_connections", "open connections", labels=["process", "transport"])
    for transport, count in connections.transports.items():
        opened.add_metric([process, transport], count)
    yield opened
    for name, help_, value in (
        ("millpond_subscriptions", "subscriptions of all connections", sum(len(line.seats) for line in lines)),
        ("millpond_watched_topics", "topics that are followed here", len(lines)),
        ("millpond_loop_lag_seconds", "the longest the loop kept somebody waiting lately", lag),
    ):
        gauge = GaugeMetricFamily(name, help_, labels=["process"])
        gauge.add_metric([process], value)
        yield gauge
    pushed = CounterMetricFamily("millpond_pushes", "what became of news", labels=["process", "what"])
    for what, count in metrics.pushes.items():
        pushed.add_metric([process, what], count)
    yield pushed
    closed = CounterMetricFamily("millpond_closes", "connections ended by the server", labels=["process", "code"])
    for code, count in metrics.closes.items():
        closed.add_metric([process, str(code)], count)
    yield closed
