"""A resource over HTTP: 200 with its version, 202 with its job, 304, and clear errors."""

from __future__ import annotations

import asyncio
import re
import time
from uuid import uuid4

import httpx
import pytest

from tests.support.service import Service, until

RESOURCES = "/api/v1/resources"
JSON = {"Content-Type": "application/json"}


def unique() -> str:
    return uuid4().hex[:12]


def test_a_value_comes_with_its_version(service: Service) -> None:
    """The first GET is computed by a worker and answered in time; the second is a hit of the same version."""
    path = f"{RESOURCES}/test.echo?text={unique()}"
    first = service.get(path, Prefer="wait=20")
    second = service.get(path)
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert re.fullmatch(r'"[0-9a-z]+-1"', first.headers["etag"])
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["cache-status"] == "millpond; fwd=miss; stored"
    assert second.headers["cache-status"].startswith("millpond; hit; ttl=")
    assert first.headers["preference-applied"] == "wait=20"
    assert "Prefer" in first.headers["vary"]
    assert first.headers["cache-control"].startswith("public, max-age=")
    assert int(second.headers["age"]) < 10
    assert second.headers["millpond-topic"] == path.rsplit("/", 1)[1]


def test_who_has_the_version_gets_304(service: Service) -> None:
    """If-None-Match with the ETag, weak or in a list, is answered without the payload."""
    path = f"{RESOURCES}/test.echo?text={unique()}"
    tag = service.get(path, Prefer="wait=20").headers["etag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = service.get(path, If_None_Match=header)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert service.get(path, If_None_Match='"other"').status_code == 200


def test_head_is_get_without_a_body(service: Service) -> None:
    """HEAD sends the headers of GET."""
    path = f"{RESOURCES}/test.echo?text={unique()}"
    got = service.get(path, Prefer="wait=20")
    head = httpx.head(service.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == got.headers["etag"]
    assert head.headers["content-length"] == got.headers["content-length"]


def test_spellings_of_one_question_are_one_value(service: Service) -> None:
    """Order, defaults and encodings do not matter: one key, one computation."""
    text = unique()
    spellings = (
        f"text={text}&n=1",
        f"n=1&text={text}",
        f"text={text}",
        f"text=%{ord(text[0]):02x}{text[1:]}&n=01",
    )
    answers = [service.get(f"{RESOURCES}/test.echo?{spelling}", Prefer="wait=20") for spelling in spellings]
    assert {answer.headers["etag"] for answer in answers} == {answers[0].headers["etag"]}
    assert {answer.headers["millpond-topic"] for answer in answers} == {f"test.echo?text={text}"}
    assert service.ledger().count(f"echo {text} 1") == 1


def test_a_slow_value_is_a_job_first(service: Service) -> None:
    """202 names the job, the job reports progress, and ends with where the value is."""
    path = f"{RESOURCES}/test.slow?name={unique()}&seconds=3"
    answer = service.get(path, Prefer="respond-async")
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["retry-after"]) >= 1
    assert (job["kind"], job["name"], job["topic"]) == ("computation", "test.slow", f"job:{job['id']}")
    assert job["status"] in ("queued", "running")
    percents: list[float] = []

    def done() -> bool:
        now = service.get(answer.headers["location"]).json()
        if now["progress"]:
            percents.append(now["progress"]["percent"])
        return bool(now["status"] == "succeeded")

    until(done, "the job succeeds")
    assert len(set(percents)) > 2
    assert percents == sorted(percents)
    final = service.get(answer.headers["location"]).json()
    assert service.get(final["result_url"]).status_code == 200
    assert final["attempt"] == 1


def test_wait_holds_for_a_newer_version(service: Service) -> None:
    """`Prefer: wait` with If-None-Match answers when the version changes, and 304 when it does not in time."""
    path = f"{RESOURCES}/test.short?name={unique()}"
    tag = service.get(path, Prefer="wait=20").headers["etag"]
    newer = service.get(path, Prefer="wait=20", If_None_Match=tag)
    assert newer.status_code == 200
    assert newer.headers["etag"] != tag
    echo = f"{RESOURCES}/test.echo?text={unique()}"
    tag = service.get(echo, Prefer="wait=20").headers["etag"]
    assert service.get(echo, Prefer="wait=1", If_None_Match=tag).status_code == 304


def test_a_stale_value_is_served_at_once(service: Service) -> None:
    """Past its freshness a value is answered as stale while one refresh runs behind it."""
    path = f"{RESOURCES}/test.short?name={unique()}"
    first = service.get(path, Prefer="wait=20")
    time.sleep(1.5)
    stale = service.get(path, Prefer="respond-async")
    assert stale.json() == first.json()
    assert "detail=stale-while-revalidate" in stale.headers["cache-status"]
    until(lambda: service.get(path).json() != first.json(), "the refresh lands")


async def test_two_hundred_first_requests_are_one_computation(service: Service) -> None:
    """Over two web processes, 200 simultaneous first requests of a slow key run its function exactly once."""
    name = unique()
    url = f"{service.url}{RESOURCES}/test.slow?name={name}&seconds=1"
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=40, limits=limits) as client:
        answers = await asyncio.gather(*(client.get(url, headers={"Prefer": "wait=25"}) for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert len({answer.json()["pid"] for answer in answers}) == 1
    assert service.ledger().count(f"slow {name}") == 1


def test_an_invalidated_value_is_never_served_again(service: Service) -> None:
    """A computation that read its data before an invalidation does not fill the key after it."""
    name = unique()
    (service.home / f"source-{name}").write_text("old")
    path = f"{RESOURCES}/test.source?name={name}&seconds=2"
    started = service.get(path, Prefer="respond-async")
    assert started.status_code == 202
    until(lambda: f"source {name} old" in service.ledger(), "the computation has read its data")
    (service.home / f"source-{name}").write_text("new")
    token = token_of(service, "invalidate")
    done = httpx.post(
        f"{service.url}/api/v1/invalidate",
        json={"tags": [f"source.{name}"]},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert done.status_code == 200
    seen = [service.get(path, Prefer="wait=1") for _ in range(8)]
    assert {answer.json() for answer in seen if answer.status_code == 200} <= {"new"}
    assert service.get(path, Prefer="wait=20").json() == "new"


_tokens: dict[str, str] = {}


def token_of(service: Service, scope: str, *more: str) -> str:
    """An API token with these scopes, of a user that is made for it and named for the first."""
    scopes = ",".join((scope, *more))
    if scopes not in _tokens:
        code = (
            "from django.contrib.auth import get_user_model as m;"
            f"m().objects.filter(username='{scope}').exists() or m().objects.create_user('{scope}')"
        )
        service.command("shell", "-c", code)
        _tokens[scopes] = service.command("token", "create", scope, "--scope", scopes).strip()
    return _tokens[scopes]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/test.nothing", 404, "unknown-resource"),
        ("/test.echo?text=a&text=b", 400, "bad-parameters"),
        ("/test.echo?wrong=1", 400, "bad-parameters"),
        ("/test.echo?n=10", 400, "bad-parameters"),
        ("/test.echo?n=many", 400, "bad-parameters"),
        ("/test.slow", 400, "bad-parameters"),
        ("/test.mine", 401, "unauthenticated"),
        ("/test.fails", 502, "computation-failed"),
        ("/test.not_json", 502, "not-json"),
        ("/test.large", 502, "value-too-large"),
        ("/test.late", 504, "computation-timeout"),
    ],
)
def test_errors_are_problems(service: Service, path: str, status: int, code: str) -> None:
    """Whatever is wrong is answered as application/problem+json with its status and type."""
    answer = service.get(RESOURCES + path, Prefer="wait=25")
    assert (answer.status_code, answer.json()["type"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    if status >= 500:
        assert int(answer.headers["retry-after"]) >= 1


def test_all_wrong_parameters_are_named_at_once(service: Service) -> None:
    """One answer names every parameter that is wrong, with what is allowed."""
    answer = service.get(f"{RESOURCES}/test.echo?n=11&wrong=1")
    named = {error["name"]: error["reason"] for error in answer.json()["errors"]}
    assert set(named) == {"n", "wrong"}
    assert "9" in named["n"]


def test_a_failed_first_attempt_is_tried_again(service: Service) -> None:
    """A function that raises is run again by its job, which then succeeds at its second attempt."""
    answer = service.get(f"{RESOURCES}/test.recovers?name={unique()}", Prefer="wait=20")
    assert (answer.status_code, answer.json()) == (200, "well")


def test_a_value_without_freshness_is_answered_to_who_waited(service: Service) -> None:
    """With fresh=0 a value is only shared by those who wait for it: one computation for each, no loop of them."""
    path, name = f"{RESOURCES}/test.momentary", unique()
    answers = [service.get(f"{path}?name={name}", Prefer="wait=20") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.json() for answer in answers}) == 3
    assert service.ledger().count(f"momentary {name}") == 3


def test_an_exit_in_a_coroutine_ends_the_computation_only(service: Service) -> None:
    """`sys.exit()` in an async function is a failure of it; the worker's loop lives on."""
    for _ in range(2):
        answer = service.get(f"{RESOURCES}/test.exits", Prefer="wait=20")
        assert (answer.status_code, answer.json()["exception"]) == (502, "SystemExit")
        time.sleep(1.2)
    assert service.get(f"{RESOURCES}/test.coroutine?name={unique()}", Prefer="wait=20").status_code == 200


def test_what_is_not_offloaded_is_computed_in_the_web_process(service: Service) -> None:
    """An async function with offload=False runs once for both web processes, in one of them."""
    name = unique()
    answers = [service.get(f"{RESOURCES}/test.here?name={name}") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert service.ledger().count(f"here {name}") <= 3


def test_what_is_computed_here_has_no_job(service: Service) -> None:
    """Asked for asynchronously, a value that is not offloaded is promised where it will be."""
    path = f"{RESOURCES}/test.here?name={unique()}"
    promised = service.get(path, Prefer="respond-async")
    assert promised.status_code == 202
    assert promised.json()["id"] is None
    assert promised.headers["location"] == promised.json()["result_url"] == path
    until(lambda: service.get(promised.headers["location"]).status_code == 200, "it is there")


def test_a_coroutine_runs_on_the_worker(service: Service) -> None:
    """An `async def` without offload=False is run by a worker's event loop."""
    name = unique()
    assert service.get(f"{RESOURCES}/test.coroutine?name={name}", Prefer="wait=20").json()["name"] == name


def test_a_body_above_the_limit_is_refused(service: Service) -> None:
    """413, with or without an announced length."""
    large = b"x" * (1024 * 1024 + 1)
    url = f"{service.url}/api/v1/invalidate"
    assert httpx.post(url, content=large).status_code == 413
    assert httpx.post(url, content=iter([large])).status_code == 413
    for _ in range(5):  # the answer arrives although it is still being sent
        assert httpx.post(url, content=iter([large] * 4)).status_code == 413


def test_each_user_sees_their_own(service: Service) -> None:
    """A value that varies by user is private, and nobody gets another's."""
    headers = {"Authorization": f"Bearer {token_of(service, 'read')}", "Prefer": "wait=20"}
    mine = httpx.get(f"{service.url}{RESOURCES}/test.mine", headers=headers, timeout=30)
    headers["Authorization"] = f"Bearer {token_of(service, 'publish', 'read')}"
    other = httpx.get(f"{service.url}{RESOURCES}/test.mine", headers=headers, timeout=30)
    assert (mine.json(), other.json()) == ({"user": "read"}, {"user": "publish"})
    assert mine.headers["cache-control"].startswith("private")
    assert "Authorization" in mine.headers["vary"]
    refused = httpx.get(f"{service.url}{RESOURCES}/test.guarded?name=read", headers=headers)
    assert refused.status_code == 403


def test_a_foreign_job_does_not_exist(service: Service) -> None:
    """The job of a private value is 404 for everybody else."""
    headers = {"Authorization": f"Bearer {token_of(service, 'run')}"}
    job = httpx.post(f"{service.url}{RESOURCES}/test.mine/refresh", headers=headers)
    assert job.status_code == 202
    assert httpx.get(service.url + job.headers["location"], headers=headers).status_code == 200
    assert service.get(job.headers["location"]).status_code == 404


def test_the_listing_describes_what_one_may_see(service: Service) -> None:
    """Every resource the public may see, with schema, freshness and links."""
    listed = {item["name"]: item for item in service.get(RESOURCES).json()["items"]}
    assert "test.echo" in listed
    assert "test.mine" not in listed
    schema = listed["test.echo"]["parameters"]
    assert schema["properties"]["n"]["maximum"] == 9
    assert listed["test.short"]["freshness"]["fresh"] == 1


def test_an_action_runs_once_for_one_idempotency_key(service: Service) -> None:
    """The same Idempotency-Key and body name the same job; another body is refused."""
    name, url = unique(), f"{service.url}/api/v1/actions/test.write"
    headers = {"Authorization": f"Bearer {token_of(service, 'run')}", "Idempotency-Key": unique()}
    first = httpx.post(url, json={"name": name, "text": "a"}, headers=headers)
    again = httpx.post(url, json={"text": "a", "name": name}, headers=headers)
    other = httpx.post(url, json={"name": name, "text": "b"}, headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert first.json()["id"] == again.json()["id"]
    until(lambda: f"write {name} a" in service.ledger(), "the action has run")
    assert httpx.post(url, json={"name": name, "text": "a"}).status_code == 401
    twice = httpx.post(url, content=b'{"name":"a","text":"b","name":"c"}', headers={**headers, **JSON})
    assert (twice.status_code, twice.json()["errors"]) == (400, [{"name": "name", "reason": "is given twice"}])


def test_the_scheduler_fires_each_second_once(service: Service) -> None:
    """A scheduled action runs at its times, each time once."""
    before, began = service.ledger().count("tick"), time.monotonic()
    until(lambda: service.ledger().count("tick") >= before + 3, "three firings")
    assert service.ledger().count("tick") - before <= time.monotonic() - began + 2


@pytest.mark.parametrize(
    "path", ["/api/v1/nope", "/api/v1/resources/", "/api", "/api/v1/resources/test.echo/", "/api/v1/jobs/none"]
)
def test_nothing_under_api_is_html(service: Service, path: str) -> None:
    """A path that is nothing is a problem, too."""
    answer = service.get(path)
    assert (answer.status_code, answer.json()["type"]) == (404, "not-found")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", [RESOURCES, "/api/v1/events?topic=test.echo", f"{RESOURCES}/test.echo"])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_foreign_host_is_answered_by_no_door(service: Service, path: str, accept: str) -> None:
    """A page of another site that points its name here reads nothing, not even by a stream."""
    answer = service.get(path, Host="evil.example", Accept=accept)
    assert (answer.status_code, answer.json()["type"]) == (400, "bad-request")


def test_a_token_without_read_reads_nothing(service: Service) -> None:
    """The scopes of a token are what it may do: one for invalidation reads no value, not even a public one."""
    headers = {"Authorization": f"Bearer {token_of(service, 'invalidate')}"}
    for path in (f"{RESOURCES}/test.echo", f"{RESOURCES}/test.mine"):
        assert httpx.get(service.url + path, headers=headers).status_code == 403
    with pytest.raises(AssertionError, match="unknown scope"):
        service.command("token", "create", "invalidate", "--scope", "")


def test_scopes_of_a_token_do_not_leak_into_a_user_s_value(service: Service) -> None:
    """What varies by user is computed without the scopes of whoever happened to ask first."""
    headers = {"Authorization": f"Bearer {token_of(service, 'read')}", "Prefer": "wait=20"}
    mine = httpx.get(f"{service.url}{RESOURCES}/test.scopes", headers=headers, timeout=30)
    assert mine.json() == {"user": "read", "scopes": []}


def test_one_broken_rule_leaves_the_listing_alone(service: Service) -> None:
    """A resource whose access function raises is left out of the list for everybody, and the others are there."""
    names = {item["name"] for item in service.get(RESOURCES).json()["items"]}
    assert "test.broken_rule" not in names
    assert "test.echo" in names
