"""Brokers over TLS and behind sentinels, messages nobody may send, and jobs that run in threads."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from asgi_app.env import load_env
from asgi_app.environment import addresses
from asgi_app.running import doctor
from tasks.app import make_app
from tasks.submit import TASK
from tests.e2e.acceptance.brokers import RABBITMQ_PORT, forget
from tests.e2e.acceptance.conftest import Deployment
from tests.support.proxy import Proxy
from tests.support.redis_servers import RedisServer, WatchedPair, certificates
from tests.support.service import until


class Elsewhere(Deployment):
    """On the store, with a broker that is somewhere else."""

    def __init__(self, home: Path, url: str, **settings: str) -> None:
        super().__init__("store", home, MILLPOND_BROKER_URL=url, **settings)


def unique() -> str:
    return uuid4().hex[:12]


def test_a_broker_over_tls(tmp_path: Path) -> None:
    """With the authority that its URL names; with another it is not trusted."""
    authority, certificate, key = certificates(tmp_path / "certificates")
    files = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority)
    flags = (*map(str, files), "--tls-auth-clients", "no")
    with RedisServer(tmp_path / "broker", *flags, client={"ssl_ca_certs": str(authority)}, tls=True) as server:
        address = f"rediss://127.0.0.1:{server.port}/0"
        deployment = Elsewhere(tmp_path / "home", f"{address}?ssl_ca_certs={authority}")
        try:
            assert deployment.over(deployment.run("note", name=unique()))["status"] == "succeeded"
            assert server_has_clients(server)
        finally:
            deployment.close()
        env = {"MILLPOND_HOME": str(tmp_path / "home")}
        trusted = load_env({**env, "MILLPOND_BROKER_URL": f"{address}?ssl_ca_certs={authority}"})
        assert doctor._broker(trusted).ok
        assert not doctor._broker(load_env({**env, "MILLPOND_BROKER_URL": address})).ok


@pytest.mark.services
def test_a_rabbitmq_over_tls(tmp_path: Path) -> None:
    """Likewise, and a certificate for another host is none."""
    authority, certificate, key = certificates(tmp_path / "certificates")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    namespace = f"accept-{unique()}"
    with Proxy(RABBITMQ_PORT, tls=tls) as proxy:
        address = f"amqps://guest:guest@127.0.0.1:{proxy.port}//?ssl_ca_certs={authority}"
        deployment = Elsewhere(tmp_path / "home", address, MILLPOND_NAMESPACE=namespace)
        try:
            assert deployment.over(deployment.run("note", name=unique()))["status"] == "succeeded"
        finally:
            deployment.close()
            forget(namespace)
        env = {"MILLPOND_HOME": str(tmp_path / "home")}
        assert doctor._broker(load_env({**env, "MILLPOND_BROKER_URL": address})).ok
        other_host, other_authority = address.replace("@127.0.0.1", "@127.1"), address.partition("?")[0]
        for wrong in (other_host, other_authority):
            assert not doctor._broker(load_env({**env, "MILLPOND_BROKER_URL": wrong})).ok


def server_has_clients(server: RedisServer) -> bool:
    """Whether a worker has come."""
    with server.client() as client:
        return any(found["cmd"] == "brpop" for found in client.client_list())


def test_a_failover_of_sentinels(tmp_path: Path) -> None:
    """The master dies and the replica is promoted: what was accepted meanwhile runs, and all goes on."""
    with WatchedPair(tmp_path / "broker") as pair:
        deployment = Elsewhere(tmp_path / "home", pair.url)
        try:
            assert deployment.over(deployment.run("note", name=unique()))["status"] == "succeeded"
            pair.master.stop()
            meanwhile = deployment.run("note", name=unique())
            until(pair.promoted, "the replica is promoted", within=30)
            assert deployment.over(meanwhile, within=50)["status"] == "succeeded"
            for _ in range(3):
                assert deployment.over(deployment.run("note", name=unique()))["status"] == "succeeded"
            assert server_has_clients(pair.other)
        finally:
            deployment.close()


class Trap:
    """Whoever unpickles it leaves a file behind."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.file,))


def test_a_pickled_message_is_refused(deployed: Deployment, tmp_path: Path) -> None:
    """It is dropped as it is, without a look into it, and the worker goes on."""
    service, trap = deployed.service, tmp_path / "trap"
    said = service.log().count("Refusing to deserialize")
    app = make_app(load_env(service.environment))
    try:
        app.send_task(TASK, (Trap(str(trap)),), queue="default", serializer="pickle", ignore_result=True)
    finally:
        app.close()
    until(lambda: service.log().count("Refusing to deserialize") > said, "it is refused")
    assert deployed.over(deployed.run("note", name=unique()))["status"] == "succeeded"
    assert not trap.exists()


@pytest.mark.parametrize("serializer", ["msgpack", "yaml"])
def test_messages_in_another_format(tmp_path: Path, serializer: str) -> None:
    """Jobs and plain tasks alike; one in JSON, from a process not yet told, is taken as well."""
    deployment = Deployment("store", tmp_path, MILLPOND_SERIALIZER=serializer, MILLPOND_ALLOW_YAML="true")
    try:
        assert deployment.over(deployment.run("note", name=unique()))["status"] == "succeeded"
        lines = [unique(), unique()]
        code = (
            "from tests.support.plain.tasks import write\n"
            f"write.delay('{lines[0]}'); write.apply_async(('{lines[1]}',), serializer='json')"
        )
        deployment.service.command("shell", "-c", code)
        until(lambda: [deployment.noted(line) for line in lines] == [1, 1], "both have run")
    finally:
        deployment.close()


def test_a_worker_whose_threads_are_all_stuck(tmp_path: Path) -> None:
    """It ends, and another one takes its place and its work."""
    settings = {"MILLPOND_WORKER_POOL": "threads", "MILLPOND_WORKER_CONCURRENCY": "1"}
    deployment = Deployment("store", tmp_path, **settings)
    try:
        stuck = deployment.run("overruns", name=unique(), seconds=60.0)
        waiting = deployment.run("note", name=unique())
        assert deployment.over(stuck)["status"] == "failed"
        assert deployment.over(waiting)["status"] == "succeeded"
        assert "threads are stuck" in deployment.service.log()
    finally:
        deployment.close()


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A worker with six threads."""
    settings = {"MILLPOND_WORKER_POOL": "threads", "MILLPOND_WORKER_CONCURRENCY": "6"}
    deployment = Deployment("store", tmp_path_factory.mktemp("threads"), **settings)
    yield deployment
    deployment.close()


def test_coroutines_share_the_loop_of_their_process(threaded: Deployment) -> None:
    """Two jobs of one worker meet, each waiting for the other, on one thread."""
    name = unique()
    jobs = [threaded.run("meets", name=name) for _ in "ab"]
    assert [threaded.over(job)["status"] for job in jobs] == ["succeeded"] * 2
    assert len(threaded.pids(f"meets {name}")) == 2
    assert len(set(threaded.pids(f"met {name}"))) == 1


def test_a_blocked_loop_is_noticed(threaded: Deployment) -> None:
    """The log says that it is, and where the coroutine stands that blocks it."""
    name = unique()
    job = threaded.run("blocks", name=name, seconds=4.0)
    until(lambda: "event loop of this worker is blocked" in threaded.service.log(), "it is noticed")
    assert threaded.over(job)["status"] == "succeeded"
    assert "plain/resources.py" in threaded.service.log()
    assert "the event loop turns again" in threaded.service.log()


def test_a_thread_that_takes_too_long(threaded: Deployment) -> None:
    """Its job fails all the same, the others go on, and the thread may come to its end."""
    name = unique()
    job = threaded.over(threaded.run("overruns", name=name, seconds=12.0))
    assert (job["status"], job["error"]["reason"]) == ("failed", "limit")
    assert threaded.over(threaded.run("note", name=unique()))["status"] == "succeeded"
    until(lambda: threaded.noted(f"overran {name}") == 1, "the thread goes on to its end")
    assert threaded.job(job)["status"] == "failed"


def test_a_thread_hears_that_it_shall_stop(threaded: Deployment) -> None:
    """Where it reports progress."""
    name = unique()
    job = threaded.run("steps", name=name, seconds=30.0)
    until(lambda: threaded.job(job)["status"] == "running", "it runs")
    threaded.http.delete(f"/jobs/{job['id']}")
    assert threaded.over(job)["status"] == "cancelled"
    assert threaded.noted(f"stepped {name}") == 0


@pytest.mark.services
def test_threads_keep_no_connections(tmp_path: Path, postgresql: str) -> None:
    """More coroutines than the process may have connections to the database run at the same time."""
    threads = addresses.POOL_SIZE + 4
    settings = {"MILLPOND_WORKER_POOL": "threads", "MILLPOND_WORKER_CONCURRENCY": str(threads)}
    deployment = Deployment("store", tmp_path, MILLPOND_DATABASE_URL=postgresql, **settings)
    try:
        name = unique()
        jobs = [deployment.run("meets", name=name, parties=threads) for _ in range(threads)]
        assert {deployment.over(job)["status"] for job in jobs} == {"succeeded"}
        worker = psutil.Process(deployment.pids(f"meets {name}")[0])
        assert worker.children() == []
    finally:
        deployment.close()
