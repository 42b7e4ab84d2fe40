"""What the demo declares is what its page asks for."""

from __future__ import annotations

import pytest

from asgi_app.demo import resources
from asgi_app.demo.flights import airlines
from asgi_app.errors import BadParameters
from asgi_app.registry import Resource, registry

TABLES = ("delays_by_carrier", "delays_by_hour", "delays_by_route", "cancellations")


def demo_resource(name: str) -> Resource:
    found = registry.resource(name)
    assert found.function.__module__ == resources.__name__
    return found


@pytest.mark.parametrize("name", ["clock", "board", *TABLES])
def test_what_shows_the_replay_is_kept_fresh_while_watched(name: str) -> None:
    """One tag outdates them all, and somebody watching has them recomputed."""
    found = demo_resource(f"flights.{name}")
    assert found.tag_names(found.parse({}, text=False)) == ("flights",)
    assert found.refresh == "watched"


def test_the_slow_one_outlives_the_ticks() -> None:
    """It takes longer than the time between two ticks, so no tick may outdate it."""
    found = demo_resource("flights.delay_confidence")
    assert found.tag_names(found.parse({}, text=False)) == ()
    assert found.wants_progress


@pytest.mark.parametrize("name", TABLES)
def test_defaults_are_left_out_of_the_topic(name: str) -> None:
    """All airports, the last 30 days: the bare name."""
    found = demo_resource(f"flights.{name}")
    assert found.topic(found.parse_query("origin=all&month=0")) == f"flights.{name}"
    assert found.topic(found.parse_query("origin=JFK&month=7")) == f"flights.{name}?month=7&origin=JFK"


@pytest.mark.parametrize("query", ["origin=SFO", "month=13", "month=-1", "carrier=UAL", "carrier=u1", "carrier="])
def test_parameters_are_bounded(query: str) -> None:
    """A parameter out of its range is refused by name."""
    with pytest.raises(BadParameters, match=query.partition("=")[0]):
        demo_resource("flights.delays_by_hour").parse_query(query)


def test_the_speed_has_a_limit_and_the_replay_a_schedule() -> None:
    """At the highest speed two seconds are less than the longest step of a tick."""
    speed = registry.action("demo.speed")
    assert speed.dump(speed.parse({"speed": 36_000}, text=False)) == {"speed": 36_000}
    for wrong in (-1, 36_001):
        with pytest.raises(BadParameters, match="speed"):
            speed.parse({"speed": wrong}, text=False)
    assert registry.action("demo.replay").schedule == 2


def test_every_carrier_has_a_name() -> None:
    """Sixteen of them."""
    assert len(airlines()) == 16
    assert airlines()["UA"] == "United Air Lines Inc."
