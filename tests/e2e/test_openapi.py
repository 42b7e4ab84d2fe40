"""What the OpenAPI document promises is what the service does, whoever asks and whatever they send.

Schemathesis makes the requests: the examples and the edges of every parameter and body, valid and not, random ones, and
chains along the links of the document.  It is bounded and the same in each run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
import schemathesis
from schemathesis import Case, CheckContext, Response
from schemathesis.engine import events, from_schema

from tests.support.service import Service, until

pytestmark = pytest.mark.timeout(180)

DOCUMENT = "/api/v1/openapi.json"
PUBLIC = "public"
EXAMPLES = 6
#: Of the declarations those that answer soon, each in its own way; that others end their process or fill the memory
#: is tested elsewhere.  Of the rest all but what never ends, and what looks up whatever name it is sent.
ASKED = ("echo", "short", "here", "fails", "not_json", "mine", "tick", "write")
LEFT_OUT = ("streamEvents", "createWebhook")
OFF = {"enabled": False}
#: A computation failed, a part is away, it took too long.
FAILED = ("502", "503", "504")
#: Who asks, and what: the edges of what is allowed are the same for both users.
RUNS = {
    "ann": ("examples", "coverage", "fuzzing", "stateful"),
    "bob": ("fuzzing", "stateful"),
    PUBLIC: ("coverage", "fuzzing", "stateful"),
}


@schemathesis.check
def errors_are_the_described_problems(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Every error of the API is a problem, with its own status and a type that the document lists for it."""
    if response.status_code < 400 or not case.path.startswith("/api/"):
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    problem = response.json()
    assert problem["status"] == response.status_code
    if response.status_code != 405:  # of a method that no operation has
        described = case.operation.responses.get(str(response.status_code))
        assert described is not None
        assert f"`{problem['type']}`" in described.definition["description"]


@dataclass
class Seen:
    """What came of a run."""

    failures: list[str] = field(default_factory=list)
    #: What was answered along links: operation and status.
    chained: set[tuple[str, int]] = field(default_factory=set)
    requests: int = 0


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of these tests' own: they leave hundreds of jobs behind."""
    running = Service(
        tmp_path_factory.mktemp("openapi"),
        "--no-demo",
        MILLPOND_DEFAULT_WAIT="0.2",
        MILLPOND_KEY_RATE="100000",
        MILLPOND_WEB_PROCESSES="2",
        MILLPOND_WORKER_CONCURRENCY="2",
        MILLPOND_WEBHOOK_ALLOW="127.0.0.1/32",
    ).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def rights(open_service: Service) -> dict[str, dict[str, str]]:
    """The headers of two users, and of nobody."""
    code = "from django.contrib.auth.models import User; [User.objects.create_user(name) for name in ('ann', 'bob')]"
    open_service.command("shell", "-c", code)
    scopes = "read,run,invalidate"
    tokens = {name: open_service.command("token", "create", name, "--scope", scopes) for name in ("ann", "bob")}
    return {PUBLIC: {}, **{name: {"Authorization": f"Bearer {token.strip()}"} for name, token in tokens.items()}}


@pytest.mark.parametrize("who", RUNS)
def test_every_operation_answers_as_described(
    open_service: Service, rights: dict[str, dict[str, str]], who: str
) -> None:
    """Status, media type, headers and body; what is valid is taken, what is not is a problem, and no credentials get
    nobody in."""
    if who != PUBLIC:
        make_webhook(open_service, rights[who])
    seen = run(open_service, rights[who], RUNS[who])
    assert "\n\n".join(seen.failures) == ""
    assert seen.requests > 200
    if who != PUBLIC:
        assert ("GET /api/v1/jobs/{id}", 200) in seen.chained


def run(service: Service, headers: dict[str, str], phases: Collection[str]) -> Seen:
    """Ask everything, as whoever has these headers."""
    config = schemathesis.Config.from_dict(
        {
            "seed": 1,
            "headers": dict(headers),
            "request-timeout": 40,
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
            "phases": {name: {"enabled": name in phases} for name in RUNS["ann"]},
            "checks": {
                "use_after_free": OFF,  # a cancelled job is still there
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", *FAILED]},
                # 422: an Idempotency-Key was used before
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "422", *FAILED]
                },
            },
        }
    )
    schema = schemathesis.openapi.from_url(service.url + DOCUMENT, config=config, headers=dict(headers))
    seen = Seen()
    asked = schema.exclude(left_out)  # type: ignore[arg-type]  # a filter is given just such a context
    for event in from_schema(asked).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            seen.failures.append(str(event))
        elif isinstance(event, events.ScenarioFinished):
            note(event, seen)
    return seen


def left_out(context: schemathesis.HookContext) -> bool:
    """Whether an operation is not asked."""
    assert context.operation is not None
    what, declared, name = str(context.operation.definition.raw["operationId"]).partition(".test.")
    return name not in ASKED if declared else what in LEFT_OUT


def note(event: events.ScenarioFinished, seen: Seen) -> None:
    """Add what came of one scenario."""
    answers = {case_id: each.response for case_id, each in event.recorder.interactions.items()}
    seen.requests += len(answers)
    for case_id, response in answers.items():
        node = event.recorder.cases[case_id]
        if node.parent_id is not None and response is not None:
            seen.chained.add((node.value.operation.label, response.status_code))
    for checks in event.recorder.checks.values():
        for failure in (check.failure_info for check in checks if check.failure_info):
            told = f"{event.recorder.label}: {failure.failure.title}\n{failure.failure.message}\n{failure.code_sample}"
            if told not in seen.failures:
                seen.failures.append(told)


def make_webhook(service: Service, headers: dict[str, str]) -> str:
    """The id of a webhook whose receiver is not there."""
    body = {"url": "http://127.0.0.1:9999/", "actions": ["test.*"]}
    made = httpx.post(f"{service.url}/api/v1/webhooks", json=body, headers=headers)
    assert (made.status_code, made.json()["active"]) == (201, True)
    return str(made.json()["id"])


def described(service: Service, headers: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(service.url + DOCUMENT, headers=headers).json()
    return found


def test_the_links_of_an_answer_lead_on(open_service: Service, rights: dict[str, dict[str, str]]) -> None:
    """With the id in its body; what they lead to answers as described, and knows the job."""
    ann, url = rights["ann"], open_service.url
    document = described(open_service, ann)
    places = {
        item[method]["operationId"]: (method, path, item[method])
        for path, item in document["paths"].items()
        for method in item
    }
    method, path, operation = places["run.test.write"]
    links = document["components"]["links"]
    assert set(operation["responses"]["202"]["links"]) == set(links) == {"job", "cancel", "retry", "discard"}
    for link in links.values():
        ran = httpx.request(method, url + path, json={"name": uuid4().hex[:12], "text": "a"}, headers=ann)
        assert link["parameters"] == {"id": "$response.body#/id"}
        where, there, target = places[link["operationId"]]
        answer = httpx.request(where, url + there.replace("{id}", ran.json()["id"]), headers=ann)
        assert str(answer.status_code) in target["responses"]
        assert answer.status_code in (200, 202, 204, 409), link


def test_nobody_is_shown_another_s_jobs_or_webhooks(open_service: Service, rights: dict[str, dict[str, str]]) -> None:
    """In every operation that takes an id, those of another user are 404 (or 401 for the public), as made-up ones are;
    in no listing do they stand."""
    ann = rights["ann"]
    name = uuid4().hex[:12]
    ran = httpx.post(f"{open_service.url}/api/v1/actions/test.write", json={"name": name, "text": "a"}, headers=ann)
    own = httpx.post(f"{open_service.url}/api/v1/resources/test.mine/refresh", headers=ann)
    jobs = [ran.json()["id"], own.json()["id"]]
    for job in jobs:
        until(lambda path=f"/api/v1/jobs/{job}": over(open_service, path, ann), "the job is over")
    ids = {"jobs": jobs, "webhooks": [make_webhook(open_service, ann)]}
    asked = 0
    for other in ("bob", PUBLIC):
        for path, item in described(open_service, rights[other])["paths"].items():
            for method in item if "{id}" in path else ():
                for id_ in ids[path.split("/")[3]]:
                    for real in (id_, str(uuid4())):
                        url = open_service.url + path.replace("{id}", real).replace("{delivery}", str(uuid4()))
                        answer = httpx.request(method, url, headers=rights[other])
                        assert answer.status_code in ((404, 401) if other == PUBLIC else (404,)), f"{method} {url}"
                        asked += 1
        listed = httpx.get(f"{open_service.url}/api/v1/jobs?limit=200", headers=rights[other]).text
        assert [job for job in jobs if job in listed] == []
    assert asked > 30
    assert all(over(open_service, f"/api/v1/jobs/{job}", ann) for job in jobs)


def over(service: Service, path: str, headers: dict[str, str]) -> bool:
    """Whether a job has succeeded."""
    return bool(httpx.get(service.url + path, headers=headers).json()["status"] == "succeeded")


def test_the_document_is_that_of_who_asks(open_service: Service, rights: dict[str, dict[str, str]]) -> None:
    """A user reads of what is for users, the public does not; an unknown token is refused."""
    users, public = (described(open_service, rights[who])["paths"] for who in ("ann", PUBLIC))
    assert set(public) < set(users)
    hidden = {
        f"/api/v1/{path}" for path in ("resources/test.mine", "resources/test.mine/refresh", "actions/test.write")
    }
    assert hidden <= set(users) - set(public)
    assert httpx.get(open_service.url + DOCUMENT, headers={"Authorization": "Bearer x"}).status_code == 401


def test_the_document_is_sent_once(open_service: Service, rights: dict[str, dict[str, str]]) -> None:
    """304 for who has it; another one's is another."""
    first = httpx.get(open_service.url + DOCUMENT)
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = httpx.get(open_service.url + DOCUMENT, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    users = httpx.get(open_service.url + DOCUMENT, headers={"If-None-Match": tag, **rights["ann"]})
    assert users.status_code == 200
    assert users.headers["etag"] != tag
    assert {"Authorization", "Cookie"} <= set(users.headers["vary"].split(", "))
