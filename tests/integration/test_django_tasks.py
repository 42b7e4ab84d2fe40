"""Tasks of Django's own (`django.tasks`) are jobs: enqueued in transactions, run by our workers, asked for by id."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

pytest.importorskip("django.tasks", reason="Django has tasks since version 6")

from django.core.checks import Error
from django.core.checks import Warning as CheckWarning
from django.db import transaction
from django.tasks import TaskResultStatus, default_task_backend, task_backends
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
from django.tasks.signals import task_enqueued
from django.test import override_settings

from asgi_app import ledger, wiring
from asgi_app.django_task_jobs import band, read_job, task_at
from asgi_app.errors import MillpondError, Misdeclared, Unavailable
from asgi_app.models import Job
from asgi_app.registry import registry
from tests.support import background
from tests.support.service import Service, until
from tests.support.store import StoreServer
from tests.support.told import rolled_back

OURS = "asgi_app.django_tasks.MillpondBackend"


@pytest.fixture
def tables(transactional_db: None, store_server: StoreServer) -> None:
    """A database, and a store with queues on which no worker takes anything."""


async def score(queue: str, job_id: str) -> Any:
    """Its place on the queue in the store, None when it is not there."""
    return await wiring.acall(lambda node: node.store.command("ZSCORE", f"{node.store.names.queues()}{queue}", job_id))


def waits(job_id: str, queue: str = "w:default") -> bool:
    """Whether it is on the queue."""
    return asyncio.run(score(queue, job_id)) is not None


# --- enqueueing


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("task", [background.add, background.add_async], ids=lambda task: task.name)
def test_an_enqueued_task_is_a_job(task: Any) -> None:
    """Its result says what was asked, and is found by its id, in every way there is to look."""
    result = task.enqueue(1, b=3)
    assert (result.task, result.args, result.kwargs, result.backend) == (task, [1], {"b": 3}, "default")
    assert (result.status, result.is_finished, result.attempts) == (TaskResultStatus.READY, False, 0)
    assert result.enqueued_at is not None
    assert (result.started_at, result.finished_at, result.errors) == (None, None, [])
    with pytest.raises(ValueError, match="has not finished"):
        _ = result.return_value
    assert task.get_result(result.id) == default_task_backend.get_result(result.id) == result
    assert waits(result.id)
    row = Job.objects.get(pk=result.id)
    assert (row.name, row.owner, row.queue, row.priority) == (f"django:{task.module_path}", "*", "default", 5)


@pytest.mark.usefixtures("tables")
async def test_a_coroutine_enqueues_without_django_s_shared_thread() -> None:
    """Neither `aenqueue` nor `aget_result` waits for that thread, which somebody else holds up."""
    from asgiref.sync import sync_to_async

    free, held = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        free.wait(30)

    holding = asyncio.ensure_future(sync_to_async(hold)())
    try:
        await asyncio.to_thread(held.wait, 10)
        result = await asyncio.wait_for(background.add.aenqueue(1), 10)
        again = await asyncio.wait_for(background.add.aget_result(result.id), 10)
        await asyncio.wait_for(result.arefresh(), 10)
        assert not holding.done()
    finally:
        free.set()
        await holding
    assert again == result
    assert await score("w:default", result.id) is not None


@pytest.mark.usefixtures("tables")
def test_a_rollback_enqueues_nothing() -> None:
    """The row is part of the caller's transaction, and nobody is rung for before the commit."""
    with rolled_back():
        lost = background.add.enqueue(1)
        assert default_task_backend.get_result(lost.id) == lost
    assert not waits(lost.id)
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(lost.id)

    with transaction.atomic():
        kept = background.add.enqueue(1)
        assert not waits(kept.id)
    assert waits(kept.id)


@pytest.mark.usefixtures("tables")
async def test_a_deferred_task_waits_until_it_is_due() -> None:
    """It is put on its queue no earlier, and the database knows when, should the store forget."""
    due = datetime.now(UTC) + timedelta(hours=1)
    deferred = background.add.using(run_after=due)
    result = await deferred.aenqueue(1)
    assert (result.task.run_after, await score("w:default", result.id)) == (due, None)
    assert float(await score("due", result.id)) / 1000 == pytest.approx(due.timestamp(), abs=5)
    row = await Job.objects.aget(pk=result.id)
    assert row.due_at == due
    assert (await background.add.aget_result(result.id)).task == deferred


@pytest.mark.usefixtures("tables")
def test_what_was_due_already_waits_at_once() -> None:
    """`run_after` in the past is no reason to wait."""
    assert waits(background.add.using(run_after=datetime(2020, 1, 1, tzinfo=UTC)).enqueue(1).id)


def test_priorities_keep_their_order() -> None:
    """Django's 201 priorities are our ten, in equal steps; the default of one is the default of the other."""
    bands = [band(priority) for priority in range(-100, 101)]
    assert bands == sorted(bands)
    assert (bands[0], bands[100], bands[200], set(bands)) == (0, 5, 9, set(range(10)))


@pytest.mark.usefixtures("tables")
def test_the_more_urgent_task_is_before_the_other() -> None:
    """A priority of Django's is one of the queue, and the result knows it as it was."""
    low, high = (background.add.using(priority=priority).enqueue(1) for priority in (-33, 77))
    assert asyncio.run(score("w:default", high.id)) < asyncio.run(score("w:default", low.id))
    assert [default_task_backend.get_result(each.id).task.priority for each in (low, high)] == [-33, 77]


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((1, datetime(2020, 1, 1, tzinfo=UTC)), {}, "argument 2 of add is not JSON.*datetime"),
        ((1,), {"b": object()}, "argument 'b' of add is not JSON.*object"),
        (({"deep": [{1, 2}]},), {}, "argument 1 of add is not JSON.*set"),
        (({1: "one"},), {}, "argument 1 of add is not JSON: a key"),
        ((float("nan"),), {}, "argument 1 of add is not JSON"),
        ((b"\xff",), {}, "argument 1 of add is not JSON"),
    ],
)
def test_arguments_have_to_be_json(args: tuple[Any, ...], kwargs: dict[str, Any], said: str) -> None:
    """What is not, or would come back as something else, is refused by name, and nothing is written."""
    with pytest.raises(TypeError, match=said):
        background.add.enqueue(*args, **kwargs)
    with pytest.raises(TypeError, match=said):
        asyncio.run(background.add.aenqueue(*args, **kwargs))
    assert not Job.objects.exists()


@pytest.mark.usefixtures("tables")
def test_arguments_come_back_as_they_were() -> None:
    """Whatever JSON can say: no text is normalised, no number rounded, no size bounded but that of a body."""
    given = {
        "text": "e\u0301 \x00 \ud800",
        "big": 2**100,
        "half": 0.5,
        "none": None,
        "list": [[], {}],
        "long": "x" * 9000,
    }
    result = background.add.enqueue(given, b=list(range(2000)))
    again = default_task_backend.get_result(result.id)
    assert (again.args, again.kwargs) == ([given], {"b": list(range(2000))})
    with pytest.raises(ValueError, match="MILLPOND_MAX_BODY"):
        background.add.enqueue("x" * 2_000_000)


@pytest.mark.usefixtures("tables")
def test_a_task_has_to_be_found_by_its_path() -> None:
    """One that a worker could not import is refused where it is enqueued."""
    with pytest.raises(InvalidTask, match="plain is no task"):
        background.hidden.enqueue(1)


@pytest.mark.usefixtures("tables")
def test_a_queue_has_to_be_known() -> None:
    """Nobody would take a task from a queue that no worker attends."""
    with pytest.raises(InvalidTask, match="'elsewhere' is not valid"):
        background.add.using(queue_name="elsewhere")
    with override_settings(TASKS={"default": {"BACKEND": OURS, "QUEUES": ["default", "elsewhere"]}}):
        assert waits(background.add.using(queue_name="elsewhere").enqueue(1).id, "w:elsewhere")


@pytest.mark.usefixtures("tables")
def test_a_full_queue_refuses_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever enqueues is told, and nothing is written."""
    from cache_layer.queues import Limits

    wiring.here(lambda node, loop: monkeypatch.setattr(node.queues, "limits", Limits(queue=0)))
    with pytest.raises(Unavailable, match="full"):
        background.add.enqueue(1)
    assert not Job.objects.exists()


@pytest.mark.usefixtures("tables")
def test_whoever_listens_hears_of_it() -> None:
    """Django's signal is sent with the result, and a receiver that raises loses no task."""
    heard: list[Any] = []

    def listen(task_result: Any, **_: Any) -> None:
        heard.append((task_result.id, Job.objects.filter(pk=task_result.id).exists()))
        raise ValueError("a receiver of the user's")

    task_enqueued.connect(listen)
    try:
        results = [asyncio.run(background.add.aenqueue(1)), background.add.enqueue(1)]
    finally:
        task_enqueued.disconnect(listen)
    assert heard == [(result.id, True) for result in results]


# --- results


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("unknown", ["", "123", "01890000-0000-7000-8000-000000000000", 123])
def test_an_unknown_result_does_not_exist(unknown: Any) -> None:
    """Whatever its id looks like."""
    with pytest.raises(TaskResultDoesNotExist):
        asyncio.run(default_task_backend.aget_result(unknown))
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(unknown)


@pytest.mark.usefixtures("tables")
def test_a_result_is_of_its_task_and_back_end() -> None:
    """Asked for by another task it is a mismatch; by another back end it does not exist, and neither does an action."""
    with override_settings(TASKS={"default": {"BACKEND": OURS}, "other": {"BACKEND": OURS}}):
        result = background.add.enqueue(1)
        with pytest.raises(TaskResultMismatch):
            background.fails.get_result(result.id)
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["other"].get_result(result.id)
        assert task_backends["other"].get_result(background.add.using(backend="other").enqueue(1).id).backend == "other"
    Job.objects.filter(pk=result.id).update(name="test.echo")
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(result.id)


@pytest.mark.usefixtures("tables")
def test_a_task_that_is_gone_is_a_mismatch() -> None:
    """Its code was changed since."""
    result = background.add.enqueue(1)
    Job.objects.filter(pk=result.id).update(name="django:tests.support.background.subtract")
    with pytest.raises(TaskResultMismatch, match="subtract"):
        default_task_backend.get_result(result.id)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("status", "ended_by"), [("cancelled", "TaskCancelled"), ("dead", "WorkerDied"), ("expired", "TaskExpired")]
)
def test_every_bad_end_is_a_failure_with_a_reason(status: Any, ended_by: str) -> None:
    """What Django has no word for is FAILED, and an error says what it was."""
    result = background.add.enqueue(1)
    row = ledger.get(result.id)
    assert row is not None
    assert ledger.end(row, status)
    result.refresh()
    assert (result.status, result.is_finished) == (TaskResultStatus.FAILED, True)
    assert [error.exception_class.__name__ for error in result.errors] == [ended_by]
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


@pytest.mark.usefixtures("tables")
def test_a_task_that_failed_can_be_run_again() -> None:
    """As any action by the staff: another job of the same task, as it was enqueued."""
    result = background.add.using(priority=90).enqueue(1, b=2)
    row = ledger.get(result.id)
    assert row is not None
    assert ledger.end(row, "failed")
    ended = ledger.get(result.id)
    assert ended is not None
    again = wiring.call(lambda node: node.desk.retry(ended.fields()))
    found = default_task_backend.get_result(again)
    assert (found.task, found.args, found.kwargs) == (result.task, [1], {"b": 2})
    assert (again != result.id, str(Job.objects.get(pk=again).retry_of)) == (True, result.id)


# --- what may be run


@pytest.mark.parametrize(
    "path", ["os.getpid", "tests.support.background.plain", "os.path", "nowhere.at_all", "add", ""]
)
def test_only_a_declared_task_is_run(path: str) -> None:
    """A row that names any other function, module or nothing runs nothing: who writes rows cannot choose code."""
    with pytest.raises(Misdeclared):
        task_at(path)
    with pytest.raises(MillpondError):
        registry.of_job({"name": f"django:{path}", "params": "{}"})


@pytest.mark.parametrize(
    "params",
    [
        "{}",
        '{"args": 1}',
        "[]",
        '{"args":[],"kwargs":{},"backend":"none","queue":"default","priority":0,"run_after":null}',
    ],
)
def test_a_row_that_makes_no_sense_is_refused(params: str) -> None:
    """And says so, instead of ending the worker's attempt by surprise."""
    with pytest.raises(Misdeclared, match="cannot be run"):
        read_job({"name": "django:tests.support.background.add", "params": params})


def test_nobody_sees_it_among_the_actions() -> None:
    """It is no declared action: not listed, not scheduled, not found by name."""
    assert not [name for name in registry.actions if name.startswith("django")]
    with pytest.raises(MillpondError):
        registry.action("django:tests.support.background.add")


def test_a_wrong_entry_of_the_settings_is_named() -> None:
    """By Django's system check."""
    assert default_task_backend.check() == []
    wrong = {"BACKEND": OURS, "QUEUES": ["not a name"], "OPTIONS": {"retries": -1, "time_limt": 5}}
    with override_settings(TASKS={"default": wrong, "any": {"BACKEND": OURS, "QUEUES": []}}):
        found = default_task_backend.check()
        assert all(isinstance(each, Error) for each in found)
        assert [word for word in ("time_limt", "retries", "queue") if any(word in each.msg for each in found)] == [
            *("time_limt", "retries", "queue")
        ]
        assert [type(each) for each in task_backends["any"].check()] == [CheckWarning]


# --- a real worker


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`millpond up` with settings as a user would write them."""
    running = Service(
        tmp_path_factory.mktemp("home"), "--no-demo", DJANGO_SETTINGS_MODULE="tests.support.tasks_settings"
    )
    running.start()
    yield running
    running.stop()


PREAMBLE = """
import asyncio, json, time
from datetime import timedelta
from django.tasks import default_task_backend, task_backends
from django.utils import timezone
from tests.support import background as b

def told(r):
    return {
        "id": r.id, "status": r.status, "value": r._return_value, "attempts": r.attempts, "workers": r.worker_ids,
        "errors": [[e.exception_class_path, e.traceback] for e in r.errors],
        "in_order": bool(r.finished_at and r.enqueued_at <= r.started_at <= r.last_attempted_at <= r.finished_at),
    }

def ends(r):
    for _ in range(600):
        r.refresh()
        if r.is_finished:
            return told(r)
        time.sleep(0.05)
    raise AssertionError(told(r))
"""


def ask(service: Service, code: str) -> Any:
    """Run code of a user's beside the service; what it left in `found`."""
    return json.loads(service.command("shell", "-v", "0", "-c", f"{PREAMBLE}\n{code}\nprint(json.dumps(found))"))


PATHS = [f"tests.support.background.{name}" for name in ("add", "add_async", "who", "who_async", "add", "add_async")]


def _all_in_log(service: Service, lines: list[str]) -> bool:
    log = service.log()
    return all(line in log for line in lines)


def test_workers_run_tasks(service: Service) -> None:
    """Plain ones and coroutines, enqueued from plain code and from coroutines, with and without their context."""
    found = ask(
        service,
        """
async def from_a_coroutine():
    return [await b.add.aenqueue(2), await b.add_async.aenqueue(2, b=5)]
plain = [b.add.enqueue(1), b.add_async.enqueue(1), b.who.enqueue("x"), b.who_async.enqueue("y")]
found = [ends(r) for r in plain + asyncio.run(from_a_coroutine())]
""",
    )
    assert [each["status"] for each in found] == ["SUCCESSFUL"] * 6
    assert [each["value"] for each in found] == [
        *(2, 2),
        {"id": found[2]["id"], "attempt": 1, "status": "RUNNING", "args": ["x"], "name": "x"},
        {"id": found[3]["id"], "attempt": 1, "name": "y"},
        *(3, 7),
    ]
    assert all(each["in_order"] and each["attempts"] == len(each["workers"]) == 1 for each in found)
    assert all(each["workers"][0] and each["errors"] == [] for each in found)
    for state in ("RUNNING", "SUCCESSFUL"):  # what Django's own receivers of the signals write
        told = [f"Task id={each['id']} path={path} state={state}" for each, path in zip(found, PATHS, strict=True)]
        until(partial(_all_in_log, service, told), f"the log says that they are {state}")


def test_a_failure_says_where_it_was(service: Service) -> None:
    """The class by its path, and the traceback of the task's own code; nothing is tried again unasked."""
    found = ask(
        service,
        """
raising = [b.fails.enqueue("oh"), b.fails_async.enqueue("oh"), b.exits.enqueue()]
found = [ends(r) for r in [*raising, b.returns_a_date.enqueue(), b.add.enqueue()]]
""",
    )
    assert [each["status"] for each in found] == ["FAILED"] * 5
    assert [each["attempts"] for each in found] == [1] * 5
    (plain, coroutine, exits, date, call) = [each["errors"] for each in found]
    for errors in (plain, coroutine):
        ((path, traceback),) = errors
        assert path == "builtins.ValueError"
        assert traceback.endswith("ValueError: oh\n")
        assert "background.py" in traceback
        assert "django_task_jobs.py" not in traceback
    assert exits[0][0] == "builtins.SystemExit"
    assert date[0][0] == call[0][0] == "builtins.TypeError"
    assert "Unsupported type" in date[0][1]
    assert "missing 1 required positional argument" in call[0][1]


def test_a_task_is_tried_again_where_the_settings_say_so(service: Service) -> None:
    """`retries` of the back end; the context counts, and the result keeps what was raised before."""
    (found,) = ask(service, 'found = [ends(b.second_time_lucky.using(backend="retrying").enqueue())]')
    assert (found["status"], found["value"], found["attempts"]) == ("SUCCESSFUL", "well", 2)
    assert [path for path, _ in found["errors"]] == ["builtins.ValueError"]


def test_a_task_that_takes_too_long_fails(service: Service) -> None:
    """`time_limit` of the back end."""
    (found,) = ask(service, 'found = [ends(b.sleeps.using(backend="hasty").enqueue())]')
    assert (found["status"], found["attempts"], len(found["errors"])) == ("FAILED", 1, 1)
    assert "TimeLimitReached" in found["errors"][0][0]


def test_a_deferred_task_is_run_when_it_is_due(service: Service) -> None:
    """Not before."""
    (found, early) = ask(
        service,
        """
due = timezone.now() + timedelta(seconds=2)
r = b.add.using(run_after=due).enqueue(1)
found = [ends(r), (due - r.started_at).total_seconds()]
""",
    )
    assert found["status"] == "SUCCESSFUL"
    assert early <= 0


def test_a_killed_worker_costs_an_attempt_and_no_task(service: Service) -> None:
    """The process that runs it is killed; another attempt is made, and its context says that it is the second."""
    job_id = ask(service, "found = b.dies_once.enqueue().id")
    until(lambda: any(line.startswith("dies ") for line in service.ledger()), "the task runs")
    (line,) = [line for line in service.ledger() if line.startswith("dies ")]
    os.kill(int(line.split()[1]), signal.SIGKILL)
    found = ask(service, f"found = ends(default_task_backend.get_result({job_id!r}))")
    assert (found["status"], found["value"], found["attempts"]) == ("SUCCESSFUL", 2, 2)


def test_no_user_runs_a_task_over_http(service: Service) -> None:
    """To whoever asks for it there is no such action, and the API lists none."""
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {_token(service)}"}, timeout=20) as ada:
        for name in ("django", "django.task", "django:tests.support.background.noted"):
            assert ada.post(f"/api/v1/actions/{name}", json={"name": "x"}).status_code == 404
        assert not [path for path in ada.get("/api/v1/openapi.json").json()["paths"] if "django" in path]
    assert not [line for line in service.ledger() if line.startswith("noted")]


def _token(service: Service) -> str:
    service.command(
        "shell",
        "-v",
        "0",
        "-c",
        "from django.contrib.auth.models import User; User.objects.get_or_create(username='ada')",
    )
    return service.command("token", "create", "ada", "--scope", "read,run").strip()
