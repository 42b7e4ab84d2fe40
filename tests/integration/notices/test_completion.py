"""The end of a computation that somebody asked for is told, also when the store has lost it, and told once."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from asgi_app import wiring
from asgi_app.jobs import new_job_id
from asgi_app.models import Asked, Notification
from asgi_app.noticing import completion, entries
from asgi_app.noticing.tables import key_of
from tests.support.store import StoreServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _at_once(store_server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_AGAIN", -1.0)


def record(status: str, job_id: str | None = None) -> dict[str, Any]:
    """As the store has one."""
    return {
        "id": job_id or new_job_id(1_700_000_000_000),
        "kind": "computation",
        "name": "sales.daily",
        "params": "{}",
        "status": status,
        "queue": "default",
        "priority": "5",
        "fence": "1",
        "version": "3",
        "topic": "sales.daily",
        "lease": "l:{ns}:sales.daily:abc",
        "error": json.dumps({"detail": "no luck"}) if status == "failed" else "",
    }


def keep(fields: dict[str, Any]) -> None:
    async def write(node: wiring.Node) -> None:
        flat = [part for pair in fields.items() for part in pair]
        name = node.store.names.job(fields["id"])
        await node.store.transaction(("HSET", name, *flat), ("PEXPIRE", name, 60_000))

    wiring.call(write)


def look() -> int:
    return wiring.call(completion.look_after)


def told(user_id: str) -> list[tuple[str, str, bool]]:
    rows = Notification.objects.filter(inbox_id=key_of(user_id)).order_by("number")
    return [(row.title, row.level, row.read_at is not None) for row in rows]


def test_each_asker_is_told_once() -> None:
    """However often they asked, and whoever looks after it; while it runs nobody is."""
    ann, bob = uuid4().hex, uuid4().hex
    fields = record("running")
    keep(fields)
    for user_id in (ann, bob, ann):
        completion.write_asked(fields, user_id)
    assert (look(), told(ann)) == (0, [])
    keep({**fields, "status": "succeeded"})
    rows = completion.due()
    assert look() == 2
    completion.write_asked(fields, ann)  # its 202 was on its way meanwhile
    assert look() == 0
    draft = completion._told({"id": fields["id"], "status": "failed", "name": "x", "result_url": None}, False)
    assert [completion._tell(row, draft) for row in rows] == [False, False]  # another scheduler, which saw it before
    assert told(ann) == told(bob) == [("sales.daily is done", "success", False)]


def test_a_computation_that_the_store_has_lost() -> None:
    user_id = uuid4().hex
    completion.write_asked(record("queued"), user_id)
    assert look() == 1
    assert told(user_id) == [("Nobody knows how sales.daily ended", "error", False)]


def test_who_follows_the_value_has_seen_it() -> None:
    """The topic of the value as well as that of the job."""
    user_id, fields = uuid4().hex, record("failed")
    keep(fields)
    completion.write_asked(fields, user_id)

    async def follow(node: wiring.Node) -> None:
        node.watching.add(user_id, "abc")
        while not await node.watching.follows(user_id, ["abc"]):
            pass
        await completion.look_after(node)
        node.watching.discard(user_id, "abc")

    wiring.call(follow)
    assert told(user_id) == [("sales.daily has failed", "error", True)]
    assert entries.unread(key_of(user_id)) == 0


def test_what_was_asked_long_ago_is_forgotten() -> None:
    completion.write_asked(record("running"), "who")
    assert completion.forget() == 0
    Asked.objects.update(created_at="2020-01-01T00:00Z")
    assert completion.forget() == 1
