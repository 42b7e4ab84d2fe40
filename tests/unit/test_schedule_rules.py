"""Times of a schedule against a calendar that is searched minute by minute, also where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.declaring.crontab import normal_crontab
from asgi_app.scheduling.rules import Rule, cron, every, missed

quick = settings(max_examples=80, deadline=None)

LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
NAMES = {
    name: number
    for names, first in (("jan feb mar apr may jun jul aug sep oct nov dec", 1), ("sun mon tue wed thu fri sat", 0))
    for number, name in enumerate(names.split(), first)
}
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def field(text: str, low: int, high: int) -> set[int]:
    """The numbers a field stands for; a range may run over the end."""
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        start, end = (NAMES[name] if name in NAMES else int(name) for name in (first, last or first))
        numbers = [start]
        while numbers[-1] != end:
            numbers.append(numbers[-1] + 1 if numbers[-1] < high else low)
        found.update(numbers[:: int(step or 1)])
    return found


class Line:
    """A crontab line as sets of numbers."""

    def __init__(self, line: str) -> None:
        self.minutes, self.hours, self.days, self.months, self.weekdays = (
            field(text, *limits) for text, limits in zip(line.split(), LIMITS, strict=True)
        )

    def on(self, day: datetime) -> bool:
        return day.day in self.days and day.month in self.months and day.isoweekday() % 7 in self.weekdays

    def at(self, wall: datetime) -> bool:
        return self.on(wall) and wall.hour in self.hours and wall.minute in self.minutes


def searched(line: str, moment: datetime) -> datetime:
    """The first minute after `moment` whose five numbers all stand in the line."""
    wanted = Line(line)
    now = moment.replace(second=0, microsecond=0) + MINUTE
    while not wanted.at(now):
        now = now + MINUTE if wanted.on(now) else (now + DAY).replace(hour=0, minute=0)
    return now


def fires(line: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[float]:
    """All firings after one moment and before another, found by looking at the clock on the wall every minute."""
    wanted, found = Line(line), []
    before = begin.astimezone(zone)
    now = begin
    while (now := now + MINUTE) < end:
        wall = now.astimezone(zone)
        if len(wanted.hours) == 24:
            due = wanted.at(wall)
        else:
            skipped = before.replace(tzinfo=UTC) + MINUTE
            due = wall.fold == 0 and wanted.at(wall)
            while skipped < wall.replace(tzinfo=UTC):
                due = due or wanted.at(skipped)
                skipped += MINUTE
        if due:
            found.append(now.timestamp())
        before = wall
    return found


def following(line: str, moment: datetime) -> datetime:
    return datetime.fromtimestamp(cron(line)(moment.timestamp()), UTC)


LINES = [
    "* * * * *",
    "*/5 * * * *",
    "59 23 31 12 *",
    "0 0 29 2 *",
    "0 0 29 2 mon",
    "0 12 31 * *",
    "30 4 1,15 * 5",
    "*/7 */5 */10 */2 */3",
    "15 22-4/2 * * fri-mon",
    "0 0 * * 0",
    "0 0 * nov-feb *",
    "59 23 * * sat",
    "0-10,50 0,23 28-2 * *",
    "1 1 1 1 *",
    "*/59 * 30 */5 *",
]
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2095, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001


@pytest.mark.parametrize("line", LINES)
def test_the_next_time_is_the_one_a_search_finds(line: str) -> None:
    """From moments around the turns of minute, hour, day, month and year, and then from firing to firing."""
    for text in (
        "2024-02-28T23:59:59.999",
        "2024-02-29T00:00:00",
        "2023-12-31T23:59:00",
        "2023-12-31T23:58:59.5",
        "2024-01-01T00:00:00.000001",
        "2025-04-30T12:34:56",
        "2026-10-31T22:00:30",
        "2096-02-29T00:00:00",
    ):
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        for _ in range(5):
            found = following(line, moment)
            assert found == searched(line, moment)
            assert found > moment
            moment = found


def items(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spans = st.just("*") | st.builds("{}-{}".format, number, number)
    return number.map(str) | spans | st.builds("{}/{}".format, spans, st.integers(1, 40))


@st.composite
def lines(draw: st.DrawFn) -> str:
    fields = []
    for low, high in LIMITS:
        several = st.lists(items(low, high), min_size=1, max_size=3).map(",".join)
        fields.append(draw(st.just("*") | several))
    if all(int(day) > 28 for day in field(fields[2], 1, 31)):
        fields[3] = "*"  # some days are in no month, which is refused where it is declared
    return normal_crontab(" ".join(fields))


@quick
@given(lines(), MOMENTS)
def test_any_line_fires_next_when_a_search_says(line: str, moment: datetime) -> None:
    """For every line that can be declared and every moment, the next firing is the first minute that fits."""
    assert following(line, moment) == searched(line, moment)


@quick
@given(st.integers(1, 7 * 10**7), st.sampled_from([1e-6, 3e-7, 1e-3, 0.5]))
def test_a_moment_just_before_a_firing_does_not_skip_it(minute: int, before: float) -> None:
    """However little time is left, the firing that has not come yet is the next one."""
    assert cron("* * * * *")(minute * 60 - before) == minute * 60


@quick
@given(st.integers(0, 2 * 10**9), st.sampled_from([0.5, 0.7, 1.1, 2.0, 3.3, 60.0, 86_400.0]), st.floats(0, 1))
def test_seconds_fire_at_their_multiples(count: int, seconds: float, part: float) -> None:
    """The next time is the first multiple after the moment, even where the moment is a multiple itself."""
    count = count % int(4e9 / seconds)
    rule = every(seconds)
    assert rule(count * seconds) == (count + 1) * seconds
    moment = (count + part) * seconds
    assert moment < rule(moment) <= moment + seconds * (1 + 1e-6)


# --- where clocks are changed

#: Zone, day of a change: an hour and half an hour, both ways, at midnight, a whole day, and none at all.
CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Santiago", "2025-09-07"),
    ("America/Santiago", "2026-04-05"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kathmandu", "2026-01-01"),
]


@st.composite
def lines_of_any_day(draw: st.DrawFn) -> str:
    """Lines whose minutes and hours may be anything, and that fire on most days."""
    minutes = draw(st.lists(items(0, 59), min_size=1, max_size=2).map(",".join))
    hours = draw(st.just("*") | st.lists(items(0, 4) | items(22, 23), min_size=1, max_size=3).map(",".join))
    return normal_crontab(f"{minutes} {hours} * * {draw(st.sampled_from(['*', '*', 'sun', 'sat-mon']))}")


@settings(max_examples=50, deadline=None)
@given(lines_of_any_day(), st.sampled_from(CHANGES), st.floats(0, 36 * 3600))
def test_around_a_change_the_firings_are_those_a_look_at_the_wall_finds(
    line: str, change: tuple[str, str], offset: float
) -> None:
    """From any moment of the days around a change, and then from firing to firing, strictly later each time."""
    name, day = change
    zone, rule = ZoneInfo(name), cron(line, name)
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) - DAY
    end = begin + 3 * DAY
    all_of_them = fires(line, zone, begin, end)
    assert len(set(all_of_them)) == len(all_of_them)
    moment = begin.timestamp() + offset
    found = []
    while (due := rule(moment)) < end.timestamp():
        assert due > moment
        found.append(due)
        moment = due
    assert found == [due for due in all_of_them if due > begin.timestamp() + offset]


def walls(line: str, zone: str, moment: str, most: int) -> list[str]:
    """The next firings, as a clock on the wall shows them."""
    rule, due, found = cron(line, zone), datetime.fromisoformat(moment).timestamp(), []
    for _ in range(most):
        due = rule(due)
        found.append(datetime.fromtimestamp(due, ZoneInfo(zone)).strftime("%d. %H:%M %Z"))
    return found


def test_a_time_that_does_not_exist_fires_once_at_the_change() -> None:
    """In Berlin on 2026-03-29 the clock goes from 02:00 to 03:00; 02:30 of that day is 03:00."""
    before = "2026-03-28T12:00+00:00"
    assert walls("30 2 * * *", "Europe/Berlin", before, 2) == ["29. 03:00 CEST", "30. 02:30 CEST"]
    assert walls("15,45 2,3 * * *", "Europe/Berlin", before, 3) == [
        "29. 03:00 CEST",
        "29. 03:15 CEST",
        "29. 03:45 CEST",
    ]
    assert walls("0 2,3 * * *", "Europe/Berlin", before, 2) == ["29. 03:00 CEST", "30. 02:00 CEST"]


def test_a_time_that_comes_twice_fires_once() -> None:
    """In Berlin on 2026-10-25 the clock goes from 03:00 back to 02:00; 02:30 is the first of both."""
    before = "2026-10-24T12:00+00:00"
    assert walls("30 2 * * *", "Europe/Berlin", before, 2) == ["25. 02:30 CEST", "26. 02:30 CET"]
    between = "2026-10-25T02:10+01:00"
    assert walls("30 2 * * *", "Europe/Berlin", between, 1) == ["26. 02:30 CET"]


def test_what_fires_in_every_hour_goes_by_the_time_that_passes() -> None:
    """Neither is it silent for the hour that comes twice, nor does it make up for the one that does not come."""
    assert walls("*/30 * * * *", "Europe/Berlin", "2026-10-25T01:30+02:00", 5) == [
        "25. 02:00 CEST",
        "25. 02:30 CEST",
        "25. 02:00 CET",
        "25. 02:30 CET",
        "25. 03:00 CET",
    ]
    assert walls("7 * * * *", "Europe/Berlin", "2026-03-29T01:00+01:00", 2) == ["29. 01:07 CET", "29. 03:07 CEST"]


def test_celery_alone_would_not_do() -> None:
    """The reason for arithmetic of our own around a change: once this fails, Celery may be asked with the zone."""
    berlin = Celery("test", set_as_current=False)
    berlin.conf.update(timezone="Europe/Berlin", enable_utc=True)
    second = datetime.fromisoformat("2026-10-25T02:10+01:00")
    start, delta, _ = crontab("30", "2", app=berlin).remaining_delta(second)
    assert (start + delta).timestamp() < second.timestamp() + 24 * 3600 - 3600, "it names the day after"
    start, delta, _ = crontab("*/20", app=berlin).remaining_delta(datetime.fromisoformat("2026-10-25T02:40+02:00"))
    assert (start + delta).isoformat() == "2026-10-25T03:00:00+01:00", "it is not silent for an hour"


# --- what was missed


@quick
@given(
    st.sampled_from(
        [every(0.5), every(7), cron("*/5 * * * *"), cron("30 2 * * *", "Europe/Berlin"), cron("0 0 1 1 *")]
    ),
    st.integers(1_770_000_000, 1_800_000_000),
    st.floats(0, 50_000),
    st.integers(1, 100),
)
def test_what_was_missed_are_the_newest_between_two_moments(rule: Rule, after: int, length: float, most: int) -> None:
    """Not the first moment itself, the second too, oldest first."""
    everything, due = [], float(after)
    while (due := rule(due)) <= after + length:
        everything.append(due)
    assert missed(rule, after, after + length, most) == everything[-most:]


def test_a_jump_by_decades_costs_no_search_through_them() -> None:
    """A machine that learns the time only after its start goes on at once."""
    asked = 0

    def counting(moment: float) -> float:
        nonlocal asked
        asked += 1
        return every(0.5)(moment)

    assert missed(counting, 0.5, 2e9, 1) == [2e9]
    assert asked < 10
    assert len(missed(counting, 0.5, 2e9, 100)) == 100
    assert asked < 1000
