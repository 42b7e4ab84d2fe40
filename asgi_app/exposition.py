"""What this process counts, in the text format of Prometheus.

Invariant: a scrape changes nothing; it shows the process that answered, which `process` names, since several web
processes share one port and each has counts of its own; and the queues, which are the same for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from asgi_app.wiring import Node
from cache_layer import metrics
from cache_layer.near import Near
from cache_layer.queues import Statistics

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
#: What other rooms count.
also: list[Callable[[], Iterable[Metric]]] = []
#: What `Near.mode` says without the reason.
NEAR_MODES = ("tracking", "connecting", "refused", "stopped", "off")


def exposition(node: Node, queues: Statistics | None = None) -> bytes:
    """All metrics of this process, and of the queues when they are known."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Process(node))
    if queues is not None:
        registry.register(_Jobs(queues))
    return generate_latest(registry)


def near_mode(near: Near | None) -> str:
    """One of `NEAR_MODES`."""
    return "off" if near is None else near.mode.partition(":")[0]


class _Process(Collector):
    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        yield _counts("millpond_cache_lookups", "look-ups of values by where they ended", "result", metrics.lookups)
        yield _counts("millpond_cache_events", "what the cache did beside look-ups", "event", metrics.events)
        yield _counts("millpond_layer_messages", "messages of the channel layer by their end", "end", metrics.layer)
        kept = self._node.invalidator.kept
        yield _gauge("millpond_invalidations_kept", "1: invalidations wait for the store to come back", int(bool(kept)))
        mode = near_mode(self._node.near)
        modes = GaugeMetricFamily("millpond_near_mode", "1 at the mode of the near tier", labels=["process", "mode"])
        for known in NEAR_MODES:
            modes.add_metric([_me(), known], int(known == mode))
        yield modes
        if self._node.near is not None:
            yield from _near(self._node.near)
        for counted in also:
            yield from counted()


class _Jobs(Collector):
    def __init__(self, queues: Statistics) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("millpond_jobs_waiting", "jobs that wait for their turn", labels=["queue"])
        for queue, count in self._queues.waiting.items():
            waiting.add_metric([queue], count)
        yield waiting
        yield GaugeMetricFamily("millpond_jobs_due", "jobs that wait for their time", value=self._queues.due)
        yield GaugeMetricFamily("millpond_jobs_lost", "jobs whose worker died, so far", value=self._queues.losses)
        yield GaugeMetricFamily("millpond_workers", "workers with a lease", value=self._queues.workers)
        happened = CounterMetricFamily("millpond_jobs", "what happened to jobs, in the whole cluster", labels=["what"])
        for what, count in self._queues.happened.items():
            happened.add_metric([what], count)
        yield happened


def _near(near: Near) -> Iterator[Metric]:
    stats = near.stats
    yield _gauge("millpond_near_open", "1: copies are given out, the store has proven that it tells", int(near.open))
    yield _gauge("millpond_near_bytes", "bytes of the copies", stats.bytes)
    yield _gauge("millpond_near_entries", "copies", stats.entries)
    told = {"names": stats.pushes, "everything": stats.flushes}
    yield _counts("millpond_near_told", "what the store told of changes", "what", told)
    done = {"kept": stats.kept, "refused": stats.refused_by_token, "evicted": stats.evictions}
    yield _counts("millpond_near_copies", "what became of copies", "what", done)


def _counts(name: str, help_: str, label: str, counts: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(name, help_, labels=["process", label])
    for value, count in counts.items():
        family.add_metric([_me(), value], count)
    return family


def _gauge(name: str, help_: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=["process"])
    family.add_metric([_me()], value)
    return family


def _me() -> str:
    return str(os.getpid())
