"""The replay: each flight departs again once, 52 weeks later, however the ticks fall, and old ones go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from asgi_app.demo import load, replay
from asgi_app.demo.models import REPLAY_START, Flight, ReplayClock
from asgi_app.registry import registry

pytestmark = pytest.mark.django_db

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)  # real time, of which the replay knows only differences
DAY = timedelta(days=1)


def flight(departs: datetime, number: int = 1, delay: int | None = 0) -> Flight:
    return Flight(
        departs=departs,
        day=departs.date(),
        hour=departs.hour,
        carrier="UA",
        number=number,
        origin="EWR",
        dest="ORD",
        delay=delay,
    )


def archive(departures: Iterable[datetime], *, speed: int = 600) -> None:
    """A small archive and its clock, which stands at the start of the replay."""
    Flight.objects.bulk_create([flight(departs, number) for number, departs in enumerate(departures, 1)])
    ReplayClock.objects.create(speed=speed, ticked_at=NOW)


def replayed() -> list[tuple[datetime, int]]:
    return list(Flight.objects.filter(replayed=True).order_by("departs", "number").values_list("departs", "number"))


def second_of_january(minutes: int) -> datetime:
    """In the archive, on the day that departs again at the start of the replay."""
    return datetime(2013, 1, 2, tzinfo=UTC) + timedelta(minutes=minutes)


def value(name: str) -> Any:
    return registry.resource(name).function()


def test_a_tick_lets_those_depart_whose_time_has_come() -> None:
    """From the last simulated time on, up to but without the new one; everything but the time is as it was."""
    archive(second_of_january(minutes) for minutes in (0, 19, 20, 21))
    Flight.objects.filter(number=2).update(delay=None)
    assert replay.tick(NOW + timedelta(seconds=2)) == (2, 0)
    assert ReplayClock.current().now == REPLAY_START + timedelta(minutes=20)
    again = Flight.objects.get(number=2, replayed=True)
    assert (again.departs, again.day, again.hour) == (REPLAY_START + timedelta(minutes=19), REPLAY_START.date(), 0)
    assert (again.carrier, again.origin, again.dest, again.delay) == ("UA", "EWR", "ORD", None)
    assert Flight.objects.filter(replayed=False).count() == 4


def test_however_the_ticks_fall_every_flight_departs_once_a_year() -> None:
    """Over a year and a half of replay in steps of any length: each flight 364 days on, then 728, and nothing twice."""
    days = [second_of_january(720) + DAY * 7 * week for week in range(52)]
    archive([*days, datetime(2013, 1, 1, 12, tzinfo=UTC)], speed=36_000)  # 1 January is the day too many for 52 weeks
    random, now, written = Random(5), NOW, 0
    end = REPLAY_START + 1.5 * replay.CYCLE
    seen: set[tuple[datetime, int]] = set()
    while ReplayClock.current().now < end:
        now += timedelta(seconds=random.choice([0, 0.02, 1, 2, 2.4, 60]))
        written += replay.tick(now).written
        seen.update(replayed())
    reached = ReplayClock.current().now
    expected = {
        (departs + cycle * replay.CYCLE, number)
        for number, departs in enumerate(days, 1)
        for cycle in (1, 2)
        if departs + cycle * replay.CYCLE < reached
    }
    assert seen == expected
    assert written == len(expected)


def test_a_long_pause_is_not_made_up_for() -> None:
    """After a week without a tick the replay goes on by a day, not by years."""
    archive((second_of_january(0), second_of_january(0) + 1.5 * DAY), speed=36_000)
    assert replay.tick(NOW + timedelta(days=7)).written == 1
    assert ReplayClock.current().now == REPLAY_START + DAY
    assert replay.tick(NOW + timedelta(days=7)).written == 0


def test_a_clock_set_back_does_not_bring_flights_back() -> None:
    """The replay stands for that tick, and goes on from there."""
    archive([second_of_january(5), second_of_january(15)])
    replay.tick(NOW + timedelta(seconds=1))
    assert replay.tick(NOW - timedelta(hours=1)) == (0, 0)
    assert replay.tick(NOW - timedelta(hours=1) + timedelta(seconds=1)).written == 1
    assert [number for _, number in replayed()] == [1, 2]


def test_replayed_flights_older_than_60_days_go_and_the_archive_stays() -> None:
    """A tick deletes what it left behind, so that the table does not grow."""
    archive(second_of_january(0) + DAY * day for day in range(80))
    for day in range(80):
        replay.tick(NOW + DAY * (day + 1))
    oldest, *_, newest = [departs for departs, _ in replayed()]
    assert (oldest, newest) == (REPLAY_START + 20 * DAY, REPLAY_START + 79 * DAY)
    assert Flight.objects.filter(replayed=False).count() == 80


def test_speed_0_pauses_and_the_pause_is_not_replayed() -> None:
    """Time before a change of speed counts at the old speed, time in the pause not at all."""
    archive(second_of_january(minutes) for minutes in (5, 25, 35))
    replay.set_speed(0, NOW + timedelta(seconds=2))
    assert [number for _, number in replayed()] == [1]
    assert value("flights.clock")["paused"] is True
    assert replay.tick(NOW + timedelta(seconds=60)) == (0, 0)
    replay.set_speed(60, NOW + timedelta(seconds=100))
    replay.tick(NOW + timedelta(seconds=110))
    assert ReplayClock.current().now == REPLAY_START + timedelta(minutes=30)
    assert [number for _, number in replayed()] == [1, 2]


def test_without_an_archive_nothing_departs() -> None:
    """Ticks are harmless before the load, the resources are empty, and a speed cannot be set."""
    assert replay.tick(NOW) == (0, 0)
    assert value("flights.clock")["flights"] == 0
    assert value("flights.board")["rows"] == []
    assert value("flights.delays_by_carrier")["rows"] == []
    with pytest.raises(replay.NotLoaded, match="loaddemo"):
        replay.set_speed(60, NOW)


def test_an_interrupted_load_leaves_nothing_and_the_next_starts_over() -> None:
    """What stops it half way undoes it: no flight, and no clock that would vouch for one."""

    def interrupt(done: int, total: int) -> None:
        assert 0 < done < total
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            load.load(interrupt)
        assert not Flight.objects.exists()
        assert not ReplayClock.objects.exists()


@pytest.mark.parametrize("change", [lambda: replay.tick(NOW + timedelta(seconds=9)), lambda: replay.set_speed(1, NOW)])
def test_a_change_outdates_the_flights_once_after_its_commit(
    change: Callable[[], object], django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[list[Any]]]
) -> None:
    """However many rows it wrote, the tag is invalidated by one call."""
    archive(second_of_january(minutes) for minutes in range(9))
    with django_capture_on_commit_callbacks() as callbacks:
        change()
    assert [callback.__self__.outdated.tags for callback in callbacks] == [{"flights"}]


def test_the_board_shows_the_newest_departures_and_24_hours() -> None:
    """Twelve rows, newest first, and every hour up to the clock's, also those without a flight."""
    archive(second_of_january(60 * hour) for hour in range(16))
    Flight.objects.filter(number=15).update(delay=None)
    Flight.objects.filter(number=14).update(delay=33)
    replay.tick(NOW + timedelta(seconds=87))
    board = value("flights.board")
    assert board["now"] == "2014-01-01T14:30:00"
    assert [row["flight"] for row in board["rows"]] == list(range(15, 3, -1))
    assert board["rows"][0] == {
        "time": "2014-01-01T14:00:00",
        "carrier": "UA",
        "flight": 15,
        "origin": "EWR",
        "dest": "ORD",
        "delay": None,
        "cancelled": True,
    }
    hours = {row["hour"]: row for row in board["per_hour"]}
    assert len(hours) == 24
    assert list(hours) == sorted(hours)
    assert hours["2013-12-31T15:00:00"] == {"hour": "2013-12-31T15:00:00", "flights": 0, "delay": None}
    assert hours["2014-01-01T13:00:00"] == {"hour": "2014-01-01T13:00:00", "flights": 1, "delay": 33}
    assert hours["2014-01-01T14:00:00"] == {"hour": "2014-01-01T14:00:00", "flights": 1, "delay": None}


def test_the_last_30_days_move_with_the_clock() -> None:
    """From the midnight 30 days before the simulated today, up to the simulated now."""
    archive(second_of_january(0) + DAY * day for day in range(40))
    for day in range(40):
        replay.tick(NOW + DAY * (day + 1))
    replay.tick(NOW + DAY * 40 + timedelta(seconds=6))
    found = registry.resource("flights.cancellations").function()
    assert (found["from"], found["to"]) == ("2014-01-11T00:00:00", "2014-02-10T01:00:00")
    assert [row["day"] for row in found["rows"]][::29] == ["2014-01-11", "2014-02-09"]
