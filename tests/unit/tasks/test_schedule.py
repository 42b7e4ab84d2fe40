"""Times of a schedule against a calendar that is searched day by day and minute by minute, and what a tick fires."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_app.declaring.crontab import normal_crontab
from asgi_app.errors import Unavailable
from asgi_app.jobs import firing_id
from asgi_app.registry import Registry, action, registry, resource
from cache_layer.errors import StoreUnavailable
from tasks.schedule import Entry, cron, entries, every, tick

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


def searched(line: str, moment: datetime) -> datetime:
    """The first minute after `moment` whose five numbers all stand in the line."""
    minutes, hours, days, months, weekdays = (
        field(text, *limits) for text, limits in zip(line.split(), LIMITS, strict=True)
    )
    now = moment.replace(second=0, microsecond=0) + MINUTE
    while True:
        if now.day not in days or now.month not in months or now.isoweekday() % 7 not in weekdays:
            now = (now + DAY).replace(hour=0, minute=0)
        elif now.hour in hours and now.minute in minutes:
            return now
        else:
            now += MINUTE


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


class Reader:
    """Takes what is fired, or fails as it is told to."""

    def __init__(self) -> None:
        self.fired: list[tuple[str, str, str]] = []
        self.failure: Exception | None = None

    async def action(self, what: Any, params: Any, principal: Any, **options: Any) -> None:
        self.take("run", what, principal, options)

    async def refresh(self, what: Any, params: Any, principal: Any, **options: Any) -> None:
        self.take("refresh", what, principal, options)

    def take(self, how: str, what: Any, principal: Any, options: dict[str, Any]) -> None:
        assert principal.is_anonymous
        assert how == "run" or options["trusted"]
        self.fired.append((how, what.name, options["job_id"]))
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def declared() -> Iterator[Registry]:
    with registry.isolated() as empty:

        @action("a.seconds", schedule=10)
        def seconds() -> None: ...

        @action("a.line", schedule="*/5 * * * *")
        def line() -> None: ...

        @action("a.unscheduled")
        def unscheduled() -> None: ...

        @resource("r.line", refresh="0 * * * *")
        def by_line(n: int = 1) -> int:
            return n

        @resource("r.watched", refresh="watched")
        def watched() -> None: ...

        @resource("r.lazy")
        def lazy() -> None: ...

        yield empty


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def node(reader: Reader) -> Any:
    return SimpleNamespace(reader=reader, submitter=reader)


def test_what_has_a_schedule_is_an_entry(declared: Registry) -> None:
    """Actions with a schedule and resources with a crontab line are due for the first time after now."""
    assert {entry.what.name: entry.due for entry in entries(declared, 7200.0)} == {
        "a.seconds": 7210.0,
        "a.line": 7500.0,
        "r.line": 10_800.0,
    }


async def test_nothing_is_fired_before_its_time(declared: Registry, reader: Reader, node: Any) -> None:
    """A tick without anything due fires nothing and moves nothing."""
    scheduled = entries(declared, 7200.0)
    await tick(node, scheduled, 7209.99)
    assert reader.fired == []
    assert [entry.due for entry in scheduled] == [entry.due for entry in entries(declared, 7200.0)]


async def test_each_firing_has_the_id_of_its_time(declared: Registry, reader: Reader, node: Any) -> None:
    """What is due is fired once, under an id that any scheduler would give it, and is due again at its next time."""
    scheduled = entries(declared, 7200.0)
    await tick(node, scheduled, 7210.0)
    await tick(node, scheduled, 7210.5)
    await tick(node, entries(declared, 7205.0), 7210.7)
    assert reader.fired == [("run", "a.seconds", firing_id("a.seconds", 7_210_000))] * 2
    assert {entry.what.name: entry.due for entry in scheduled}["a.seconds"] == 7220.0


async def test_a_late_scheduler_fires_once_under_the_newest_time(declared: Registry, reader: Reader, node: Any) -> None:
    """Of many missed times only the last is fired, so that it meets the firing of a scheduler that was not late."""
    scheduled = entries(declared, 7200.0)
    await tick(node, scheduled, 11_405.0)
    assert sorted(reader.fired) == [
        ("refresh", "r.line", firing_id("r.line", 10_800_000)),
        ("run", "a.line", firing_id("a.line", 11_400_000)),
        ("run", "a.seconds", firing_id("a.seconds", 11_400_000)),
    ]
    assert sorted(entry.due for entry in scheduled) == [11_410.0, 11_700.0, 14_400.0]


async def test_a_clock_that_jumps_by_decades_costs_no_search_through_them(declared: Registry, node: Any) -> None:
    """A machine that learns the time only after its start goes on at once."""
    asked = 0

    def counting(moment: float) -> float:
        nonlocal asked
        asked += 1
        return every(0.5)(moment)

    late = Entry(declared.actions["a.seconds"], counting, 0.5)
    await tick(node, [late], 2e9)
    assert late.due == 2e9 + 0.5
    assert asked < 10


@pytest.mark.parametrize("failure", [Unavailable("full"), StoreUnavailable("away")])
async def test_a_firing_that_fails_holds_up_nothing(
    declared: Registry, reader: Reader, node: Any, failure: Exception
) -> None:
    """The other entries are fired; the failed ones are fired again at the next tick, under the same ids."""
    scheduled = entries(declared, 7200.0)
    reader.failure = failure
    await tick(node, scheduled, 7500.0)
    failed = list(reader.fired)
    assert [name for _, name, _ in failed] == ["a.seconds", "a.line"]
    reader.failure = None
    await tick(node, scheduled, 7501.0)
    assert reader.fired[2:] == failed
    assert all(entry.due > 7501.0 for entry in scheduled)
