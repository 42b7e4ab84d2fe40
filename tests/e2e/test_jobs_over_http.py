"""Jobs over HTTP as a client sees them: run, look, wait, list, cancel, run again, forget."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.test_reading_over_http import token_of
from tests.support.service import Service, until

API = "/api/v1"


class User:
    """Somebody with a token."""

    def __init__(self, service: Service, name: str, *scopes: str) -> None:
        self._service = service
        service.command(
            "shell",
            "-c",
            f"from django.contrib.auth.models import User as U; U.objects.filter(username='{name}') or "
            f"U.objects.create_user('{name}', is_staff={name.startswith('staff')})",
        )
        token = service.command("token", "create", name, "--scope", ",".join(scopes or ("read", "run"))).strip()
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, json: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.request(
            method, self._service.url + API + path, json=json, headers={**self.headers, **named}, timeout=40
        )

    def run(self, action: str, body: Any = None, **headers: str) -> dict[str, Any]:
        answer = self.ask("POST", f"/actions/{action}", body or {}, **headers)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def job(self, job_id: str, **headers: str) -> dict[str, Any]:
        answer = self.ask("GET", f"/jobs/{job_id}", **headers)
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job


@pytest.fixture(scope="module")
def ann(service: Service) -> User:
    return User(service, "ann")


@pytest.fixture(scope="module")
def bob(service: Service) -> User:
    return User(service, "bob")


@pytest.fixture(scope="module")
def staff(service: Service) -> User:
    return User(service, "staff")


def named() -> str:
    return uuid4().hex[:12]


def test_an_accepted_action_is_a_job(ann: User) -> None:
    """202 says where the job is and when to look again; held until it is over, it has succeeded, with its history."""
    answer = ann.ask("POST", "/actions/test.once", {"name": named(), "seconds": 0.3})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{API}/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["cache-control"] == "no-store"
    assert (job["kind"], job["status"], job["attempt"]) in {("action", "queued", 0), ("action", "running", 1)}
    held = ann.ask("GET", f"/jobs/{job['id']}", Prefer="wait=20")
    assert held.headers["preference-applied"] == "wait=20"
    assert (held.json()["status"], held.json()["attempt"]) == ("succeeded", 1)
    assert held.json()["version"] > job["version"]
    assert [attempt["outcome"] for attempt in held.json()["history"]] == ["succeeded"]


def test_the_answer_of_an_action_may_be_held(ann: User) -> None:
    """`Prefer: wait` holds the 202 until the job is over, and no longer than asked."""
    over = ann.ask("POST", "/actions/test.once", {"name": named(), "seconds": 0.2}, Prefer="wait=20")
    assert (over.status_code, over.json()["status"]) == (202, "succeeded")
    assert over.headers["preference-applied"] == "wait=20"
    still = ann.ask("POST", "/actions/test.patient", {"name": named(), "seconds": 3}, Prefer="wait=1")
    assert still.json()["status"] in ("queued", "running")
    ann.ask("DELETE", f"/jobs/{still.json()['id']}")


def test_a_job_is_awaited_by_its_etag(ann: User) -> None:
    """With `If-None-Match` the answer is 304 while nothing has changed, and is held until something has."""
    job = ann.run("test.patient", {"name": named(), "seconds": 2})
    until(lambda: ann.job(job["id"])["status"] == "running", "it runs")
    seen = ann.ask("GET", f"/jobs/{job['id']}")
    newer = ann.ask("GET", f"/jobs/{job['id']}", Prefer="wait=20", If_None_Match=seen.headers["etag"])
    assert newer.status_code == 200
    assert newer.json()["version"] > seen.json()["version"]
    done = ann.ask("GET", f"/jobs/{job['id']}", Prefer="wait=20")
    same = ann.ask("GET", f"/jobs/{job['id']}", If_None_Match=done.headers["etag"])
    assert (same.status_code, same.content) == (304, b"")


def test_a_key_that_is_used_twice(ann: User, bob: User) -> None:
    """The same Idempotency-Key with the same body is one job, with another body 422; of another user it is another."""
    name, key = named(), named()
    first = ann.run("test.once", {"name": name, "seconds": 0}, Idempotency_Key=key)
    again = ann.run("test.once", {"name": name, "seconds": 0}, Idempotency_Key=key)
    assert first["id"] == again["id"]
    other = ann.ask("POST", "/actions/test.once", {"name": name, "seconds": 1}, Idempotency_Key=key)
    assert (other.status_code, other.json()["type"]) == (422, "idempotency-mismatch")
    assert bob.run("test.once", {"name": name, "seconds": 0}, Idempotency_Key=key)["id"] != first["id"]


def test_a_foreign_job_is_none(ann: User, bob: User, staff: User) -> None:
    """To others the job of an action does not exist, whatever they want of it; to the staff it does."""
    job = ann.run("test.once", {"name": named(), "seconds": 0}, Prefer="wait=20")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("POST", "/discard")):
        assert bob.ask(method, f"/jobs/{job['id']}{path}").status_code == 404, (method, path)
    assert job["id"] not in [item["id"] for item in bob.ask("GET", "/jobs?name=test.once").json()["items"]]
    assert staff.job(job["id"])["id"] == job["id"]


def test_the_listing_has_everything_once(service: Service, ann: User) -> None:
    """Newest first, by pages, actions and computations together, filtered by name and status."""
    name = named()
    ids = [ann.run("test.once", {"name": f"{name}{n}", "seconds": 0}, Prefer="wait=20")["id"] for n in range(3)]
    value = ann.ask("GET", f"/resources/test.echo?text={name}", Prefer="wait=20")
    assert value.status_code == 200
    found: list[dict[str, Any]] = []
    cursor = ""
    while len(found) < 500:
        page = ann.ask("GET", f"/jobs?limit=2&cursor={cursor}").json()
        found += page["items"]
        cursor = page["next"]
        if cursor is None or ids[0] in [job["id"] for job in found]:
            break
    order = [job["id"] for job in found]
    assert order == sorted(set(order), reverse=True)
    assert [job_id for job_id in order if job_id in ids] == ids[::-1]
    assert {"action", "computation"} <= {job["kind"] for job in found}
    listed = ann.ask("GET", "/jobs?name=test.once&status=succeeded").json()["items"]
    assert listed
    assert {(job["name"], job["status"]) for job in listed} == {("test.once", "succeeded")}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("status=done", "status"),
        ("cursor=x", "cursor"),
        ("limit=0", "limit"),
        ("what=1", "what"),
        ("name=a&name=b", "name"),
    ],
)
def test_a_wrong_question_names_what_is_wrong(ann: User, query: str, name: str) -> None:
    """400, and the name of the parameter."""
    answer = ann.ask("GET", f"/jobs?{query}")
    assert answer.status_code == 400
    assert name in [error["name"] for error in answer.json()["errors"]]


def test_a_waiting_action_is_cancelled_at_once(service: Service, ann: User) -> None:
    """It never runs; cancelled once more it is over already."""
    blockers = [ann.run("test.patient", {"name": named(), "seconds": 20}) for _ in range(4)]
    until(lambda: all(ann.job(job["id"])["status"] == "running" for job in blockers), "all processes are busy")
    name = named()
    waiting = ann.run("test.once", {"name": name, "seconds": 0})
    assert waiting["status"] == "queued"
    assert waiting["position"] >= 1  # the clock's own jobs wait here, too
    cancelled = ann.ask("DELETE", f"/jobs/{waiting['id']}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert ann.ask("DELETE", f"/jobs/{waiting['id']}").status_code == 200
    for job in blockers:
        assert ann.ask("DELETE", f"/jobs/{job['id']}").status_code == 202
    for job in blockers:
        assert ann.job(job["id"], Prefer="wait=20")["status"] == "cancelled"
    ann.run("test.once", {"name": named(), "seconds": 0}, Prefer="wait=20")
    assert f"once {name}" not in service.ledger()


def test_a_running_action_that_reports_nothing_is_ended(service: Service, ann: User) -> None:
    """What does not ask whether to go on is ended with its process, and nothing else is."""
    name = named()
    job = ann.run("test.deaf", {"name": name, "seconds": 40})
    until(lambda: f"deaf {name}" in service.ledger(), "it runs")
    bystander = ann.run("test.patient", {"name": named(), "seconds": 8})
    until(lambda: ann.job(bystander["id"])["status"] == "running", "the other runs, too")
    assert ann.ask("DELETE", f"/jobs/{job['id']}").status_code == 202
    ended = ann.job(job["id"], Prefer="wait=30")
    assert (ended["status"], ended["attempt"]) == ("cancelled", 1)
    assert f"done {name}" not in service.ledger()
    assert (ann.job(bystander["id"], Prefer="wait=30")["status"], ann.job(bystander["id"])["attempt"]) == (
        "succeeded",
        1,
    )


def test_a_failed_action_can_be_run_again_and_forgotten(ann: User, bob: User) -> None:
    """Its error is in the job, and the answer is 200; a retry is a new job; what succeeded cannot be retried."""
    failed = ann.run("test.refuses", {"name": named()}, Prefer="wait=20")
    assert (failed["status"], failed["error"]["type"]) == ("failed", "computation-failed")
    assert failed["error"]["exception"] == "ValueError"
    retried = ann.ask("POST", f"/jobs/{failed['id']}/retry")
    assert retried.status_code == 202
    assert retried.json()["id"] != failed["id"]
    assert retried.json()["params"] == failed["params"]
    assert ann.job(retried.json()["id"], Prefer="wait=20")["status"] == "failed"
    assert ann.ask("POST", f"/jobs/{failed['id']}/discard").status_code == 204
    assert ann.ask("GET", f"/jobs/{failed['id']}").status_code == 404
    well = ann.run("test.once", {"name": named(), "seconds": 0}, Prefer="wait=20")
    refused = ann.ask("POST", f"/jobs/{well['id']}/retry")
    assert (refused.status_code, refused.json()["type"]) == (409, "conflict")


def test_a_computation_others_wait_for_goes_on(ann: User, bob: User) -> None:
    """One of two who asked for a value cancels: the other gets it, from the same job."""
    path = f"/resources/test.slow?name={named()}&seconds=3"
    job_id = ann.ask("GET", path, Prefer="respond-async").json()["id"]
    assert bob.ask("GET", path, Prefer="respond-async").json()["id"] == job_id
    ann.ask("GET", path, Prefer="respond-async")
    left = ann.ask("DELETE", f"/jobs/{job_id}")
    assert (left.status_code, left.json()["status"] in ("queued", "running")) == (202, True)
    value = bob.ask("GET", path, Prefer="wait=20")
    assert value.status_code == 200
    assert bob.job(job_id)["status"] == "succeeded"


def test_a_computation_nobody_else_wants_is_cancelled(ann: User) -> None:
    """Its only asker cancels it, and may ask for it anew."""
    path = f"/resources/test.slow?name={named()}&seconds=6"
    job_id = ann.ask("GET", path, Prefer="respond-async").json()["id"]
    until(lambda: ann.job(job_id)["status"] == "running", "it runs")
    assert ann.ask("DELETE", f"/jobs/{job_id}").status_code == 202
    assert ann.job(job_id, Prefer="wait=20")["status"] == "cancelled"
    assert ann.ask("GET", path, Prefer="respond-async").json()["id"] != job_id


def test_what_nobody_waits_for_is_given_up(service: Service, ann: User) -> None:
    """With `on_abandon="cancel"` a computation ends when who asked has gone; one that is asked for goes on."""
    gone, wanted = named(), named()
    left = ann.ask("GET", f"/resources/test.abandoned?name={gone}&seconds=30", Prefer="respond-async").json()["id"]
    kept = ann.ask("GET", f"/resources/test.abandoned?name={wanted}&seconds=25", Prefer="respond-async").json()["id"]
    deadline = time.monotonic() + 50
    while ann.job(kept)["status"] in ("queued", "running"):
        assert time.monotonic() < deadline, "what is looked at ends well"
        time.sleep(0.5)
    assert ann.job(kept)["status"] == "succeeded"
    assert ann.job(left)["status"] == "cancelled"


def test_the_position_is_told(service: Service, ann: User) -> None:
    """Who waits is told its place, which moves when somebody more urgent comes, and is gone when it runs."""
    blockers = [ann.run("test.patient", {"name": named(), "seconds": 30}) for _ in range(4)]
    try:
        until(lambda: all(ann.job(job["id"])["status"] == "running" for job in blockers), "all processes are busy")
        waiting = [ann.run("test.once", {"name": named(), "seconds": 0}) for _ in range(3)]
        places = [job["position"] for job in waiting]
        assert places == sorted(set(places))
        urgent = ann.run("test.urgent")
        assert urgent["position"] == 1
        assert ann.job(waiting[0]["id"])["position"] > places[0]
    finally:
        for job in blockers:
            ann.ask("DELETE", f"/jobs/{job['id']}")
    assert ann.job(urgent["id"], Prefer="wait=20")["position"] is None


def test_a_token_that_may_only_read_runs_nothing(service: Service) -> None:
    """Running, cancelling and retrying need the scope `run`."""
    reader = User(service, "reader", "read")
    answer = reader.ask("POST", "/actions/test.once", {"name": "x"})
    assert (answer.status_code, answer.json()["type"]) == (403, "denied")
    assert token_of(service, "read")
