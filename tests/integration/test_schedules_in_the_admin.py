"""The staff adds, changes and runs schedules, and looks at jobs, in Django's admin."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from asgi_app.jobs import firing_id
from asgi_app.models import Job, ScheduleEntry
from tests.support.store import StoreServer

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/millpond/scheduleentry/"
ADD = f"{LIST}add/"
GOOD: dict[str, Any] = {
    "name": "mornings",
    "enabled": "on",
    "kind": "action",
    "what": "test.once",
    "params": '{"name": "x", "seconds": 0}',
    "crontab": "0  6 * * MON-fri",
    "timezone": "Europe/Berlin",
    "seconds": "",
    "catch_up": "all",
    "lateness": "600",
}


@pytest.fixture
def staff(store_server: StoreServer) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.content.decode().replace("&#x27;", "'")))


def test_an_entry_is_added_in_its_normal_form_and_says_when_it_fires(staff: Client) -> None:
    """The list shows the next firing by the clock of the entry's zone."""
    assert staff.post(ADD, GOOD).status_code == 302
    entry = ScheduleEntry.objects.get()
    assert (entry.crontab, entry.params, entry.catch_up) == ("0 6 * * mon-fri", {"name": "x", "seconds": 0}, "all")
    assert re.search(r"\d{4}-\d\d-\d\d 06:00:00 CES?T", text(staff.get(LIST)))
    assert "06:00:00 CE" in text(staff.get(f"{LIST}{entry.pk}/change/"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"what": "test.onze"}, "no action 'test.onze' is declared; did you mean test.once"),
        ({"kind": "resource"}, "no resource 'test.once' is declared"),
        ({"params": "{"}, "Enter a valid JSON"),
        ({"params": "[1]"}, "this must be a JSON object"),
        ({"params": '{"seconds": 99}'}, "name: "),
        ({"crontab": "61 * * * *"}, "'61' is no minute: 0 to 59"),
        ({"crontab": ""}, "give either a crontab line or seconds"),
        ({"seconds": "5"}, "give either a crontab line or seconds"),
        ({"crontab": "", "seconds": "0.1", "timezone": "UTC"}, "schedule must be 0.5 to 2592000 (seconds)"),
        ({"timezone": "Europe/Berlim"}, "did you mean 'Europe/Berlin'?"),
        ({"crontab": "", "seconds": "5"}, "there is none"),
        ({"lateness": "-1"}, "lateness must be 0 to 2592000"),
    ],
)
def test_what_could_not_be_fired_is_refused_beside_its_field(
    staff: Client, change: dict[str, str], reason: str
) -> None:
    """Readably, and nothing is written."""
    answer = staff.post(ADD, {**GOOD, **change})
    assert answer.status_code == 200
    assert reason in text(answer)
    assert not ScheduleEntry.objects.exists()


def test_an_entry_is_changed_and_switched_off(staff: Client) -> None:
    """Every change counts as one: nothing from before it is made up for."""
    staff.post(ADD, GOOD)
    entry = ScheduleEntry.objects.get()
    off = {name: value for name, value in GOOD.items() if name != "enabled"}
    assert staff.post(f"{LIST}{entry.pk}/change/", {**off, "crontab": "5 6 * * *"}).status_code == 302
    changed = ScheduleEntry.objects.get()
    assert (changed.crontab, changed.enabled) == ("5 6 * * *", False)
    assert changed.changed_at > entry.changed_at
    assert "06:05" not in text(staff.get(LIST))
    assert "A schedule with this Name already exists" in text(staff.post(ADD, GOOD)).replace("Schedule", "A schedule")


def test_an_entry_whose_declaration_is_gone_is_shown_with_the_reason(staff: Client) -> None:
    """The list does not break."""
    ScheduleEntry.objects.create(name="old", kind="action", what="gone.away", seconds=5)
    assert "never: what: no action 'gone.away' is declared" in text(staff.get(LIST))


def test_an_entry_runs_now_and_says_as_which_job(staff: Client) -> None:
    """Those of many that cannot run are named."""
    ScheduleEntry.objects.create(name="well", kind="resource", what="test.echo", seconds=5)
    ScheduleEntry.objects.create(name="old", kind="action", what="gone.away", seconds=5)
    chosen = [str(entry.pk) for entry in ScheduleEntry.objects.all()]
    answer = staff.post(LIST, {"action": "run_now", "_selected_action": chosen}, follow=True)
    assert re.search(r"'well' runs now, as job [0-9a-f-]{36}", text(answer))
    assert "'old' was not run: what: no action 'gone.away' is declared" in text(answer)


def test_jobs_are_looked_at_and_not_touched(staff: Client) -> None:
    """Found by their whole id, by status, name and queue; no add, change or delete."""
    ids = [firing_id("x", ms) for ms in (1000, 2000)]
    for job_id, status in zip(ids, ("queued", "failed"), strict=True):
        Job.objects.create(
            id=job_id, name="a.b", params="{}", queue="q", priority=5, status=status, owner="", principal="{}"
        )
    jobs = "/admin/millpond/job/"
    assert all(job_id in text(staff.get(jobs)) for job_id in ids)
    found = text(staff.get(jobs, {"q": ids[0]}))
    assert ids[0] in found
    assert ids[1] not in found
    assert ids[0] not in text(staff.get(jobs, {"q": "nonsense"}))
    assert ids[0] not in text(staff.get(jobs, {"status": "failed"}))
    assert staff.get(f"{jobs}{ids[0]}/change/").status_code == 200
    assert staff.post(f"{jobs}{ids[0]}/change/", {"status": "failed"}).status_code == 403
    assert staff.get(f"{jobs}add/").status_code == 403
    assert staff.post(f"{jobs}{ids[0]}/delete/", {"post": "yes"}).status_code == 403
    assert Job.objects.filter(status="queued").count() == 1


def test_the_admin_is_for_the_staff(staff: Client) -> None:
    """A user without the right for schedules sees none, and may not run them."""
    client = Client()
    client.force_login(User.objects.create_user("eve", is_staff=True))
    assert client.get(LIST).status_code == 403
    assert Client().get(LIST).status_code == 302
