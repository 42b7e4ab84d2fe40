"""Reports of several processes, added up."""

from __future__ import annotations

from typing import Any

import msgspec

from asgi_app import watching
from asgi_app.watching import Report, Topic


def topic(name: str, watchers: int, **more: Any) -> Topic:
    head: dict[str, Any] = {"topic": name, "kind": "value", "watchers": watchers}
    return Topic(**head | {"hidden": 0, "told": 0.0, "computed": 0.0} | more)


def report(*topics: Topic) -> Report:
    head = {"process": "p", "host": "h", "pid": 1, "draining": False, "feed": True, "lag": 0.0, "connections": {}}
    return Report(**head, subscriptions=0, watched=len(topics), topics=topics)  # type: ignore[arg-type]


def test_watchers_are_added_and_what_all_hear_is_not() -> None:
    """Every process hears each publication; of the state whoever has most watchers knows best."""
    rows = watching.added_up(
        [
            report(topic("a", 2, told=30.0, hidden=1, state="stale", error="no luck"), topic("b", 9, state="fresh")),
            report(topic("a", 8, told=28.0, computed=4.0, hidden=2, state="fresh", seconds=1.5)),
        ]
    )
    assert [row["topic"] for row in rows] == ["a", "b"]
    assert rows[0] == msgspec.structs.asdict(
        topic("a", 10, told=30.0, computed=4.0, hidden=3, state="fresh", error="no luck", seconds=1.5)
    )


def test_what_is_no_report_is_skipped() -> None:
    """Of another version, or foreign."""
    known = report(topic("a", 1))
    assert list(watching._decoded([b"", b"{}", b"[]", b"\xff", msgspec.json.encode(known)])) == [known]
