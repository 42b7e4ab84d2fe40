"""One deployment for each broker, started when the first test asks for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.acceptance.brokers import BROKERS, Broker
from tests.support.service import Service, until

#: Those on which all tests run; the last needs a service of this machine.
EACH = ["store", "redis", pytest.param("rabbitmq", marks=pytest.mark.services)]
TERMINAL = {"succeeded", "failed", "cancelled", "dead", "expired"}


class Deployment:
    """A running service, its broker, and a user who may run things."""

    def __init__(self, kind: str, home: Path, **settings: str) -> None:
        self.kind = kind
        self.broker: Broker = BROKERS[kind](home)
        settings = {"MILLPOND_APPS": "tests.support.plain", "MILLPOND_WORKER_CONCURRENCY": "2", **settings}
        self.service = Service(home, "--no-demo", **{**self.broker.settings, **settings})
        try:
            self.service.start()
            self.service.command("shell", "-c", _MAKE_USER)
            token = self.service.command("token", "create", "alice", "--scope", "read,run").strip()
        except BaseException:
            self.broker.close()
            raise
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=f"{self.service.url}/api/v1", headers=headers, timeout=40)

    def run(self, action: str, key: str = "", **params: Any) -> dict[str, Any]:
        """POST an action; its job."""
        headers = {"Idempotency-Key": key} if key else {}
        answer = self.http.post(f"/actions/plain.{action}", json=params, headers=headers)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def job(self, job: dict[str, Any]) -> dict[str, Any]:
        """How it stands now."""
        found: dict[str, Any] = self.http.get(f"/jobs/{job['id']}").json()
        return found

    def over(self, job: dict[str, Any], within: float = 40.0) -> dict[str, Any]:
        """How it has ended."""
        until(lambda: self.job(job)["status"] in TERMINAL, f"{job['name']} comes to its end", within=within)
        return self.job(job)

    def noted(self, line: str) -> int:
        """How often its functions have noted a line."""
        return self.service.ledger().count(line)

    def pids(self, beginning: str) -> list[int]:
        """The processes that have noted a line that begins so, which ends with their id."""
        return [int(line.rsplit(" ", 1)[1]) for line in self.service.ledger() if line.startswith(beginning)]

    def close(self) -> None:
        """Stop it, and leave nothing on its broker."""
        self.http.close()
        code = self.service.stop()
        self.broker.close()
        assert code == 0


_MAKE_USER = "from django.contrib.auth.models import User; User.objects.create_user('alice')"


@pytest.fixture(scope="session")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Deployment]]:
    """Those that run by now."""
    running: dict[str, Deployment] = {}
    yield running
    for deployment in running.values():
        deployment.close()


@pytest.fixture(params=EACH)
def deployed(
    request: pytest.FixtureRequest, deployments: dict[str, Deployment], tmp_path_factory: pytest.TempPathFactory
) -> Deployment:
    """The deployment on one broker; tests may break it, but have to leave it whole."""
    kind = request.param
    if kind not in deployments:
        deployments[kind] = Deployment(kind, tmp_path_factory.mktemp(kind))
    return deployments[kind]


def quickly(began: float) -> None:
    """What was answered was answered within a second, and a little for a busy machine."""
    assert time.monotonic() - began < 2.5
