"""Parts of the service are frozen and killed: what is left answers and says what is wrong; all recovers by itself."""

from __future__ import annotations

import asyncio
import signal
import time
from uuid import uuid4

import httpx
import psutil

from tests.support.service import Service, until
from tests.support.watcher import Watcher, eventually

RESOURCES = "/api/v1/resources"


def unique() -> str:
    return uuid4().hex[:12]


def processes(service: Service, *words: str) -> list[psutil.Process]:
    """The service's processes whose command line has all the words, the oldest first."""
    found = [
        child
        for child in psutil.Process(service.pid).children(recursive=True)
        if all(any(word in part for part in child.cmdline()) for word in words)
    ]
    return sorted(found, key=lambda child: child.create_time())


def quickly(service: Service, path: str, **headers: str) -> httpx.Response:
    """GET, which has to be answered within two seconds and a little for this busy machine."""
    began = time.monotonic()
    answer = service.get(path, **headers)
    assert time.monotonic() - began < 3.0
    return answer


def test_a_frozen_store(own_service: Service) -> None:
    """While the store is silent: the last value where there is one, else 503 with Retry-After; then all is well."""
    service, known = own_service, f"{RESOURCES}/test.echo?text={unique()}"
    first = service.get(known, Prefer="wait=20")
    service.get(known)
    (store,) = processes(service, "valkey-server") or processes(service, "redis-server")
    store.send_signal(signal.SIGSTOP)
    try:
        for _ in range(4):
            last = quickly(service, known)
            assert (last.status_code, last.json()) == (200, first.json())
            assert "detail=" in last.headers["cache-status"] or "hit" in last.headers["cache-status"]
        refused = quickly(service, f"{RESOURCES}/test.echo?text={unique()}")
        assert (refused.status_code, refused.json()["part"]) == (503, "store")
        assert int(refused.headers["retry-after"]) >= 1
        assert quickly(service, "/livez").status_code == 200
        ready = quickly(service, "/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["store"]["status"] == "failed"
        assert ready.json()["checks"]["database"]["status"] == "ok"
    finally:
        store.send_signal(signal.SIGCONT)
    until(lambda: service.get("/readyz").status_code == 200, "the service is ready again")
    assert service.get(f"{RESOURCES}/test.echo?text={unique()}", Prefer="wait=20").status_code == 200


async def test_a_killed_store(own_service: Service) -> None:
    """The store comes back empty: a watcher stays, learns the new epoch, and is told the next value."""
    service, name = own_service, unique()
    source = service.home / f"source-{name}"
    source.write_text("one")
    async with Watcher(service.websocket) as watcher:
        await watcher.watch(f"test.watched?name={name}")
        await eventually(lambda: watcher.values() == ["one"], "the first value")
        (store,) = processes(service, "valkey-server") or processes(service, "redis-server")
        source.write_text("two")
        store.kill()
        await eventually(lambda: watcher.values()[-1] == "two", "the value after the loss", within=40)
        answer = await asyncio.to_thread(service.get, f"{RESOURCES}/test.watched?name={name}")
        told = watcher.subscribed[-1].stream_position.epoch
        assert answer.headers["etag"] == f'"{told}-{watcher.offsets()[-1]}"'
        assert told != watcher.subscribed[0].stream_position.epoch
        assert len(watcher.connected) == 1
    assert (await asyncio.to_thread(service.get, "/readyz")).status_code == 200


def test_a_killed_worker(own_service: Service) -> None:
    """The worker is killed in the middle of a computation: it is started again, and the same job ends well."""
    service, name = own_service, unique()
    path = f"{RESOURCES}/test.slow?name={name}&seconds=4"
    job = service.get(path, Prefer="respond-async").json()
    until(lambda: f"slow {name}" in service.ledger(), "the computation has begun")
    for process in reversed(processes(service, "asgi_app", "worker")):
        process.kill()
    answer = None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = service.get(path, Prefer="wait=20")
        if answer.status_code == 200:
            break
    assert answer is not None
    assert answer.status_code == 200
    assert service.get(f"/api/v1/jobs/{job['id']}").json()["status"] == "succeeded"
    assert service.ledger().count(f"slow {name}") == 2


def test_a_terminated_child(own_service: Service) -> None:
    """A pool process that is told to go leaves its job to another: no failure of the function, and no try used up."""
    service, name = own_service, unique()
    job = service.get(f"{RESOURCES}/test.steady?name={name}&seconds=3", Prefer="respond-async").json()
    until(lambda: f"steady {name}" in service.ledger(), "the computation has begun")
    parent = processes(service, "asgi_app", "worker")[0]
    for child in parent.children():
        child.terminate()
    until(lambda: service.get(f"/api/v1/jobs/{job['id']}").json()["status"] == "succeeded", "it succeeds", within=50)
    assert service.get(f"/api/v1/jobs/{job['id']}").json()["attempt"] == 2


def test_an_action_that_ends_while_the_store_is_silent(own_service: Service) -> None:
    """Its end is written when the store answers again; it is not run a second time."""
    service, name = own_service, unique()
    service.command("shell", "-c", f"from asgi_app import run; run('test.once', name='{name}', seconds=1.5)")
    until(lambda: f"once {name}" in service.ledger(), "the action has begun")
    (store,) = processes(service, "valkey-server") or processes(service, "redis-server")
    store.send_signal(signal.SIGSTOP)
    until(lambda: f"done {name}" in service.ledger(), "the action is done")
    time.sleep(4)  # past its time limit of two seconds
    store.send_signal(signal.SIGCONT)
    until(lambda: "test.once" in worker_log(service, "succeeded"), "its end is written")
    assert service.ledger().count(f"once {name}") == 1


def worker_log(service: Service, word: str) -> str:
    """What the worker said of jobs with a word."""
    lines = service.log().splitlines()
    ids = {line.split("job ")[1].split(":")[0] for line in lines if " tasks." in line and word in line}
    return " ".join(line for line in lines if any(job_id in line for job_id in ids))


def test_no_worker(own_service: Service) -> None:
    """Without a worker what is missing is 503 with Retry-After, /readyz names it, and later it is computed."""
    service = own_service
    frozen = processes(service, "asgi_app", "worker")
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    path = f"{RESOURCES}/test.echo?text={unique()}"
    try:
        until(lambda: service.get("/readyz").json()["checks"]["worker"]["status"] == "failed", "the silence is noticed")
        refused = quickly(service, path)
        assert (refused.status_code, refused.json()["part"]) == (503, "worker")
        assert int(refused.headers["retry-after"]) >= 1
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)
    until(lambda: service.get(path).status_code == 200, "it is computed when the worker is back")


def test_a_job_nobody_asks_for(own_service: Service) -> None:
    """The worker is killed in the middle of a job: who only looks at the job sees it succeed, without asking again."""
    service, name = own_service, unique()
    job = service.get(f"{RESOURCES}/test.slow?name={name}&seconds=3", Prefer="respond-async").json()
    until(lambda: f"slow {name}" in service.ledger(), "the computation has begun")
    for process in reversed(processes(service, "asgi_app", "worker")):
        process.kill()
    until(lambda: service.get(f"/api/v1/jobs/{job['id']}").json()["status"] == "succeeded", "it succeeds", within=50)


def test_a_function_that_takes_its_process_along(own_service: Service) -> None:
    """A computation that ends its process leaves the others alone."""
    service = own_service
    assert service.get(f"{RESOURCES}/test.dies", Prefer="respond-async").status_code == 202
    until(lambda: "dies" in service.ledger(), "it has died")
    for _ in range(6):
        assert service.get(f"{RESOURCES}/test.echo?text={unique()}", Prefer="wait=20").status_code == 200


def test_a_cancelled_request_cancels_nothing(own_service: Service) -> None:
    """Clients that go away leave the computation they joined to the others."""
    service, name = own_service, unique()
    url = f"{service.url}{RESOURCES}/test.slow?name={name}&seconds=2"
    for _ in range(5):
        try:
            httpx.get(url, headers={"Prefer": "wait=20"}, timeout=0.2)
        except httpx.TimeoutException:
            continue
    assert service.get(f"{RESOURCES}/test.slow?name={name}&seconds=2", Prefer="wait=20").status_code == 200
    assert service.ledger().count(f"slow {name}") == 1


def test_nothing_is_left_behind(own_service: Service) -> None:
    """Every process that was started is gone after the end."""
    supervisor = psutil.Process(own_service.pid)
    until(lambda: len(supervisor.children(recursive=True)) >= 5, "what a test before this one killed is there again")
    started = [supervisor, *supervisor.children(recursive=True)]
    assert own_service.stop(signal.SIGINT) == 0
    assert not [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    own_service.start()


def test_a_killed_supervisor_leaves_no_orphan(own_service: Service) -> None:
    """kill -9 of `millpond up` ends all its parts."""
    started = psutil.Process(own_service.pid).children(recursive=True)
    own_service.kill()
    until(lambda: not [process for process in started if process.is_running()], "all parts are gone")
    own_service.start()


def test_a_job_that_kills_its_process_before_the_claim(own_service: Service) -> None:
    """The author's own tags end the process: three times, and then the job is dead and its readers are told."""
    path = "/api/v1/resources/test.unclaimable?name=x"
    answer = own_service.get(path, Prefer="respond-async")
    assert answer.status_code == 202
    job = f"/api/v1/jobs/{answer.json()['id']}"
    until(lambda: own_service.get(job).json()["status"] == "dead", "it is dead", within=50.0)
    assert own_service.ledger().count("deadly x") == 3
    assert own_service.get(path).json()["type"] == "computation-failed"
    assert own_service.get("/api/v1/resources/test.echo?text=alive", Prefer="wait=20").status_code == 200
