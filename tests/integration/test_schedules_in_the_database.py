"""What the database knows of schedules, and firings that leave no record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_app.models import ScheduleEntry, ScheduleState
from asgi_app.registry import Registry, registry, resource
from asgi_app.scheduling import book
from asgi_app.scheduling.plans import Settled, declared
from cache_layer.redis import Store
from tasks.schedule import fire
from tests.support.nodes import node
from tests.support.store import StoreServer
from tests.support.watcher import eventually

DAY = 86_400_000


@pytest.mark.django_db
def test_what_is_settled_only_grows() -> None:
    """Whoever writes it, in whichever order; the first writer makes the row."""
    for ms in (5000, 3000, 5000, 7000, 6000):
        book.settle({"entry:1": ("5.0 s", ms), "action:a": ("5.0 s", 1)})
    assert book.settled() == {
        "entry:1": Settled(times="5.0 s", until=7.0),
        "action:a": Settled(times="5.0 s", until=0.001),
    }


@pytest.mark.django_db
def test_a_clock_that_went_wrong_does_not_settle_the_future() -> None:
    """More than a day to come is not believed; and other times count on their own."""
    book.settle({"entry:1": ("5.0 s", 3 * DAY)})
    book.settle({"entry:1": ("5.0 s", 2 * DAY + 1)})
    assert ScheduleState.objects.get().settled_ms == 3 * DAY
    book.settle({"entry:1": ("5.0 s", DAY)})
    assert ScheduleState.objects.get().settled_ms == DAY
    book.settle({"entry:1": ("6.0 s", 1000)})
    assert book.settled() == {"entry:1": Settled(times="6.0 s", until=1.0)}


@pytest.mark.django_db
def test_entries_are_planned_and_the_wrong_ones_named() -> None:
    """What is switched off is no plan; what is kept of entries that were deleted goes."""
    good = ScheduleEntry.objects.create(name="good", kind="resource", what="test.echo", params={"n": 2}, seconds=5)
    ScheduleEntry.objects.create(name="off", kind="resource", what="test.echo", seconds=5, enabled=False)
    ScheduleEntry.objects.create(name="wrong", kind="resource", what="test.echo", params={"n": "x"}, seconds=5)
    made, wrong = book.plans()
    assert [(plan.key, plan.what.dump(plan.params), plan.since) for plan in made] == [
        (f"entry:{good.pk}", {"n": 2, "text": "hello"}, good.changed_at.timestamp())
    ]
    assert list(wrong) == ["wrong"]
    assert "params: n: " in wrong["wrong"]
    book.settle({f"entry:{good.pk}": ("5.0 s", 1), "entry:0": ("5.0 s", 1), "action:a": ("5.0 s", 1)})
    book.forget_gone()
    assert set(book.settled()) == {f"entry:{good.pk}", "action:a"}


@pytest.fixture
def declarations() -> Iterator[Registry]:
    with registry.isolated() as empty:
        yield empty


async def test_what_is_computed_in_the_schedulers_is_computed_once_for_each_due_time(
    store: Store, store_server: StoreServer, namespace: str, declarations: Registry
) -> None:
    """Two schedulers that are not at it at the same moment do it once, too; the next time is another one."""
    computed = []

    @resource("here.now", offload=False, refresh="* * * * *", fresh=60)
    async def here() -> int:
        computed.append(1)
        return len(computed)

    (plan,) = declared(declarations)
    async with node(store_server.url, namespace) as one, node(store_server.url, namespace) as other:
        for due, times in ((60.0, 1), (120.0, 2)):
            await fire(one, plan, due)
            await eventually(lambda times=times: len(computed) == times, "it is computed")  # type: ignore[misc]
            await fire(other, plan, due)
            await fire(one, plan, due)
    assert len(computed) == 2
