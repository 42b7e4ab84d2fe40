"""Plain Celery tasks of a user's own, beside ours: sent from Django code and the web, with results and canvases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.acceptance.brokers import RabbitMQ, classic_queue
from tests.e2e.acceptance.conftest import Deployment
from tests.support.redis_servers import RedisServer
from tests.support.service import ROOT, Service, until

BACK_ENDS = [
    "redis",
    pytest.param("postgresql", marks=pytest.mark.services),
    pytest.param("mariadb", marks=pytest.mark.services),
]
CANVASES = """
import json
from celery import chain, chord, group
from tests.support.plain.tasks import add, total, write
print(json.dumps({
    "delay": add.delay(2, 3).get(timeout=20),
    "chain": chain(add.s(1, 2), add.s(10)).apply_async().get(timeout=20),
    "group": group(add.s(n, n) for n in range(3)).apply_async().get(timeout=20),
    "chord": chord((add.s(n, n) for n in range(4)), total.s()).apply_async().get(timeout=30),
    "kept": not add.delay(1, 1).ignored,
}))
"""

FORGETTING = """
from datetime import timedelta
from celery.backends.database.models import Task
from tasks.app import app
from tasks.results import forget
app.backend.expires = timedelta(seconds=-60)
forget()
with app.backend.ResultSession() as session:
    print(session.query(Task).count())
"""


@pytest.fixture(params=BACK_ENDS)
def back_end(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place for results of the test's own; its URL."""
    if request.param == "redis":
        with RedisServer(tmp_path / "results") as server:
            yield server.url
    else:
        yield f"db+{request.getfixturevalue(request.param)}"


@contextmanager
def running(home: Path, **settings: str) -> Iterator[Service]:
    """A deployment with plain tasks; it has to stop well."""
    service = Service(home, "--no-demo", MILLPOND_APPS="tests.support.plain", **settings).start()
    try:
        yield service
    finally:
        assert service.stop() == 0


def test_results_and_canvases(tmp_path: Path, back_end: str) -> None:
    """What a task returns is had where it was sent; chains, groups and chords work."""
    settings = {"MILLPOND_RESULT_BACKEND": back_end, "MILLPOND_WORKER_CONCURRENCY": "2"}
    with running(tmp_path / "home", **settings) as service:
        found = json.loads(service.command("shell", "-c", CANVASES).splitlines()[-1])
        assert found == {"delay": 5, "chain": 13, "group": [0, 2, 4], "chord": 12, "kept": True}
        if back_end.startswith("db+"):
            assert int(service.command("shell", "-c", FORGETTING).splitlines()[-1]) == 0


def test_without_a_place_for_results_none_are_kept(deployed: Deployment) -> None:
    """The task runs, and nobody waits for what never comes."""
    line = uuid4().hex
    code = f"from tests.support.plain.tasks import write; r = write.delay('{line}'); print(r.ignored, r.get(timeout=5))"
    assert deployed.service.command("shell", "-c", code).splitlines()[-1] == "True None"
    until(lambda: deployed.noted(line) == 1, "it has run")


def test_a_web_process_sends_tasks(deployed: Deployment) -> None:
    """Code in a web process reaches the same workers."""
    line = uuid4().hex
    assert deployed.http.get(f"/resources/plain.delays?name={line}", headers={"Prefer": "wait=20"}).status_code == 200
    until(lambda: deployed.noted(line) == 1, "it has run")


def test_tasks_may_come_later(deployed: Deployment) -> None:
    """A countdown is kept, on every broker."""
    line = uuid4().hex
    code = f"from tests.support.plain.tasks import write; write.apply_async(('{line}',), countdown=2)"
    deployed.service.command("shell", "-c", code)
    until(lambda: deployed.noted(line) == 1, "it has run")


def test_sending_to_a_frozen_broker_ends(deployed: Deployment) -> None:
    """It raises, after some seconds: it does not hang."""
    code = (
        "import time; from tests.support.plain.tasks import write; began = time.monotonic()\n"
        "try: write.delay('never mind')\n"
        "except Exception as error: print('raised', type(error).__name__, round(time.monotonic() - began))"
    )
    deployed.broker.freeze()
    try:
        said = _shell(deployed.service, code)
    finally:
        deployed.broker.thaw()
    assert said.startswith("raised "), said
    assert int(said.split()[-1]) < 25


def _shell(service: Service, code: str) -> str:
    """What Django code prints that needs neither store nor database to start."""
    done = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=ROOT,
        env={**service.environment, "DJANGO_SETTINGS_MODULE": "asgi_app.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_module_called_tasks_in_the_current_directory(tmp_path: Path) -> None:
    """It hides nothing of ours, whichever part is started there."""
    project = tmp_path / "project"
    (project / "mine").mkdir(parents=True)
    (project / "tasks.py").write_text("raise RuntimeError('this is not the module you want')\n")
    (project / "mine" / "__init__.py").touch()
    (project / "mine" / "resources.py").write_text(
        "from asgi_app import resource\nfrom mine.tasks import seven\n\n\n"
        "@resource('mine.seven')\ndef value() -> int:\n    return seven()\n"
    )
    (project / "mine" / "tasks.py").write_text(
        "from celery import shared_task\n\n\n@shared_task\ndef seven() -> int:\n    return 7\n"
    )
    with RedisServer(tmp_path / "results") as results:
        service = Service(tmp_path / "home", "--no-demo", MILLPOND_APPS="mine", MILLPOND_RESULT_BACKEND=results.url)
        service.directory, service.program = project, [str(Path(sys.executable).with_name("millpond"))]
        service.start()
        try:
            assert service.get("/api/v1/resources/mine.seven", Prefer="wait=20").json() == 7
            code = "from mine.tasks import seven; print(seven.name, seven.delay().get(timeout=20))"
            assert service.command("shell", "-c", code).splitlines()[-1] == "mine.tasks.seven 7"
        finally:
            assert service.stop() == 0


@pytest.mark.services
def test_a_queue_that_only_plain_tasks_name(tmp_path: Path) -> None:
    """On RabbitMQ it is a quorum queue of the namespace like the others, and a worker may be started for it."""
    broker, line = RabbitMQ(tmp_path / "home"), uuid4().hex
    try:
        with running(tmp_path / "home", **broker.settings) as service:
            code = f"from tests.support.plain.tasks import posted; posted.delay('{line}')"
            service.command("shell", "-c", code)
            worker = subprocess.Popen(
                [sys.executable, "-m", "asgi_app", "worker", "--queues", "letters", "--concurrency", "1"],
                cwd=ROOT,
                env=service.environment,
                stderr=subprocess.DEVNULL,
            )
            try:
                until(lambda: service.ledger().count(line) == 1, "it has run")
            finally:
                worker.terminate()
                worker.wait(30)
    finally:
        broker.close()


@pytest.mark.services
def test_a_queue_of_another_kind_is_named(tmp_path: Path) -> None:
    """A classic queue of the same name: the worker does not start, and says what to do."""
    broker = RabbitMQ(tmp_path / "home")
    classic_queue(f"{broker.namespace}.default")
    try:
        settings: dict[str, Any] = {"MILLPOND_APPS": "tests.support.plain", **broker.settings}
        service = Service(tmp_path / "home", "--no-demo", **settings)
        with pytest.raises(AssertionError, match="no quorum queue as it has to be"):
            service.start(within=30).stop()
        assert f"{broker.namespace}.default" in service.log()
    finally:
        broker.close()
