"""A value over HTTP, for the view and for the front before Django alike: its headers, and what clients hold.  Pure.

Invariant: an answer says `public` only for a resource that is public and the same for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.utils.http import parse_etags

from asgi_app.env import env
from asgi_app.http_caching import age, cache_control, cache_status
from asgi_app.reading import Reading
from asgi_app.registry import Resource
from cache_layer.position import Position


def value_headers(resource: Resource, topic: str, reading: Reading) -> list[tuple[str, str]]:
    """Those that describe the value and its freshness, in their order; `topic` is the canonical one."""
    entry = reading.entry
    assert entry is not None
    computed = datetime.fromtimestamp(entry.computed_at, UTC).isoformat(timespec="milliseconds")
    return [
        ("ETag", reading.position.etag()),
        ("Age", str(age(reading))),
        ("Cache-Control", cache_control("public" if for_everybody(resource) else "private", reading, resource.policy)),
        ("Cache-Status", cache_status(reading)),
        ("Millpond-Topic", topic),
        ("Millpond-Computed", computed.replace("+00:00", "Z")),
    ]


def vary(resource: Resource) -> list[str]:
    """What of a request has a say in the answer."""
    return ["Accept", "Prefer"] if for_everybody(resource) else ["Accept", "Authorization", "Cookie", "Prefer"]


def for_everybody(resource: Resource) -> bool:
    """Whether a cache between us and the reader may show the value to anybody (RFC 9111, section 3.5)."""
    return resource.access == "public" and resource.vary is None and env().anonymous


@dataclass(frozen=True, slots=True)
class Holding:
    """What a client says it has."""

    anything: bool
    tags: frozenset[str]

    def matches(self, position: Position) -> bool:
        return self.anything or str(position) in self.tags

    @property
    def position(self) -> Position | None:
        return next((found for tag in sorted(self.tags) if (found := Position.parse(tag))), None)


def holding(header: str) -> Holding:
    """Read an If-None-Match header; weak tags match as well."""
    tags = parse_etags(header)
    return Holding(tags == ["*"], frozenset(tag.removeprefix("W/").strip('"') for tag in tags))
