"""Who watches what, in all web processes together: their reports, read and added up.

Invariants: nobody is named here but slow readers, by their user's id; a topic is known from what its watchers' process
said at most `cache_layer.watchers.LIFE` ago, and every process names only its most watched ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from asgi_app.wiring import Node
from cache_layer.watchers import Watchers

#: Topics a process names, the most watched ones, and slow readers.
TOPICS, READERS = 200, 20
#: Characters of an error.
ERROR = 200


class Topic(msgspec.Struct, frozen=True):
    """A topic as one process knows it."""

    topic: str
    #: value, job, log or inbox.
    kind: str
    watchers: int
    #: Of them nobody looks at the moment.
    hidden: int
    #: A minute: what was told, and what was computed of it (also to the same bytes).
    told: float
    computed: float
    #: fresh, stale, pending or failed; "" for a log.
    #: Seconds of a computation, the median of the latest ones; None where none is known.
    seconds: float | None = None
    state: str = ""
    error: str = ""


class Reader(msgspec.Struct, frozen=True):
    """A client that does not take what is written to it."""

    user: str
    transport: str
    #: Seconds a write is stuck, and the connection is open.
    stuck: float
    age: float


class Report(msgspec.Struct, frozen=True):
    """What one process says."""

    process: str
    host: str
    pid: int
    draining: bool
    #: Whether it hears the store.
    feed: bool
    #: Seconds: the longest the loop kept somebody waiting lately.
    lag: float
    connections: dict[str, int]
    subscriptions: int
    #: Topics in all, of which the most watched ones follow.
    watched: int
    topics: tuple[Topic, ...] = ()
    slow: tuple[Reader, ...] = ()


_DECODER = msgspec.json.Decoder(Report)


async def overview(node: Node) -> dict[str, Any]:
    """All that is watched, the most watched topics first, and who serves it.  Raises StoreUnavailable."""
    reports = list(_decoded(await Watchers(node.store).read()))
    return {
        "processes": [_process(report) for report in sorted(reports, key=lambda one: (one.host, one.pid))],
        "topics": added_up(reports),
        "omitted": sum(report.watched - len(report.topics) for report in reports),
        "slow": [msgspec.structs.asdict(reader) for report in reports for reader in report.slow],
    }


def added_up(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Each topic once: watchers are added, and of what every process hears the largest count is the right one.

    Of its state the process with the most watchers knows best.
    """
    found: dict[str, dict[str, Any]] = {}
    for report in reports:
        for topic in report.topics:
            row = found.setdefault(
                topic.topic, {**msgspec.structs.asdict(topic), "watchers": 0, "hidden": 0, "most": -1}
            )
            row["told"], row["computed"] = max(row["told"], topic.told), max(row["computed"], topic.computed)
            row["watchers"] += topic.watchers
            row["hidden"] += topic.hidden
            if topic.watchers > row["most"]:
                row |= {"most": topic.watchers, "state": topic.state}
            row["error"] = row["error"] or topic.error
            row["seconds"] = topic.seconds if row["seconds"] is None else row["seconds"]
    for row in found.values():
        del row["most"]
    return sorted(found.values(), key=lambda row: (-row["watchers"], row["topic"]))


def _process(report: Report) -> dict[str, Any]:
    row = msgspec.structs.asdict(report)
    del row["topics"], row["slow"]
    return row


def _decoded(bodies: Iterable[bytes]) -> Iterable[Report]:
    for body in bodies:
        try:
            yield _DECODER.decode(body)
        except msgspec.MsgspecError:
            continue  # of a process of another version, or foreign
