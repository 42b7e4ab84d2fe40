"""What a client asks for by rpc means what it means over HTTP, whichever process it is connected to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.e2e.test_jobs_over_http import User
from tests.support.service import Service, until


class Client:
    """A websocket that asks and waits for the answer."""

    def __init__(self, service: Service, user: User | None) -> None:
        self._ids = count(1)
        self._open = ExitStack()
        headers = user.headers if user is not None else {}
        opening = connect(service.websocket, additional_headers=headers, proxy=None)
        self._socket: ClientConnection = self._open.enter_context(opening)
        self.greeting = self.asks("connect", {})

    def asks(self, method: str, body: Any) -> Any:
        """The result, or the error."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, method: body}))
        while True:
            for line in str(self._socket.recv(timeout=10)).split("\n"):
                message = json.loads(line)
                if message.get("id") == number:
                    return next(value for name, value in message.items() if name != "id")

    def hears(self, channel: str, count: int) -> list[Any]:
        """The next publications on a channel, which come while nothing is asked."""
        told: list[Any] = []
        while len(told) < count:
            messages = map(json.loads, str(self._socket.recv(timeout=10)).split("\n"))
            pushes = (message["push"] for message in messages if "push" in message)
            told += [push["pub"] for push in pushes if push["channel"] == channel]
        return told

    def calls(self, method: str, data: Any = None) -> Any:
        """The data of an rpc, or the error."""
        answer = self.asks("rpc", {"method": method, "data": data})
        return answer.get("data", answer)

    def close(self) -> None:
        """May be called twice."""
        self._open.close()


@pytest.fixture
def clients(service: Service) -> Iterator[Any]:
    """Makes clients, and lets them go."""
    made: list[Client] = []

    def make(user: User | None = None) -> Client:
        made.append(Client(service, user))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="module")
def ann(service: Service) -> User:
    return User(service, "ann")


@pytest.fixture(scope="module")
def bob(service: Service) -> User:
    return User(service, "bob")


def test_an_action_is_run_once_for_one_key(clients: Any, ann: User) -> None:
    """The answer is the job; the same key again is the same job, with another body it is refused."""
    client, name = clients(ann), uuid4().hex
    asked = {"action": "test.once", "params": {"name": name}, "idempotency_key": name}
    job = client.calls("run", asked)
    assert (job["kind"], job["name"], job["params"]["name"]) == ("action", "test.once", name)
    assert clients(ann).calls("run", asked)["id"] == job["id"]
    refused = client.calls("run", {**asked, "params": {"name": "other"}})
    assert refused["code"] == 422
    until(lambda: ann.job(job["id"])["status"] == "succeeded", "it is run")


def test_a_job_is_cancelled_by_who_may(clients: Any, ann: User, bob: User) -> None:
    """For others it does not exist."""
    client = clients(ann)
    job = client.calls("run", {"action": "test.haul", "params": {"name": uuid4().hex, "seconds": 30}})
    assert clients(bob).calls("cancel", {"job": job["id"]})["code"] == 102
    assert clients().calls("cancel", {"job": job["id"]})["code"] == 103
    assert client.calls("cancel", {"job": job["id"]})["id"] == job["id"]
    until(lambda: ann.job(job["id"])["status"] == "cancelled", "it is cancelled")
    assert client.calls("cancel", {"job": job["id"]})["status"] == "cancelled"


@pytest.mark.parametrize(
    ("method", "data", "code"),
    [
        ("run", {"action": "test.nowhere"}, 102),
        ("run", {"action": "test.once", "params": {"nome": 1}}, 107),
        ("run", {"action": "test.once", "params": []}, 107),
        ("run", {"params": {}}, 107),
        ("run", {"action": "test.once", "params": {"name": "x"}, "idempotency_key": ""}, 107),
        ("run", "test.once", 107),
        ("cancel", {"job": "x"}, 102),
        ("cancel", {"job": 5}, 107),
        ("read", {"topic": "log:a"}, 108),
        ("refresh", {"topic": "log:a"}, 102),
        ("method", {}, 108),
    ],
)
def test_refused_calls(clients: Any, ann: User, method: str, data: Any, code: int) -> None:
    """Each with the code that its status over HTTP stands for."""
    assert clients(ann).calls(method, data)["code"] == code


def test_the_public_runs_nothing_that_needs_a_login(clients: Any) -> None:
    """103, before anything is written down."""
    assert clients().calls("run", {"action": "test.once", "params": {"name": "x"}})["code"] == 103


def test_what_was_computed_is_read_and_computed_anew(clients: Any, ann: User) -> None:
    """By its topic."""
    client, topic = clients(ann), f"test.echo?text={uuid4().hex}"
    until(lambda: client.calls("read", {"topic": topic})["data"] is not None, "it is computed")
    assert client.calls("refresh", {"topic": topic})["job"]


def test_those_of_both_processes_are_there(clients: Any, ann: User) -> None:
    """And whoever goes is gone in both."""
    topic = f"open.{uuid4().hex}"
    made = [clients(ann if number % 2 else None) for number in range(8)]
    for client in made:
        client.asks("subscribe", {"channel": topic})
        there = client.asks("presence", {"channel": topic})["presence"]
        assert client.greeting["client"] in there
    assert made[0].asks("presence_stats", {"channel": topic}) == {"num_clients": 8, "num_users": 2}
    for client in made[1:]:
        client.close()
    until(
        lambda: made[0].asks("presence_stats", {"channel": topic}) == {"num_clients": 1, "num_users": 1},
        "they have gone",
        within=3.0,
    )


def test_notifications_are_marked_as_read(clients: Any, service: Service, ann: User) -> None:
    """And every connection of the user's hears of it on the inbox, which the server subscribes."""
    first, second = clients(ann), clients(ann)
    (inbox,) = (name for name in first.greeting["subs"] if name.startswith("inbox#"))
    service.command(
        "shell", "-c", f"from asgi_app import notify; notify({inbox[6:]!r}, 'one'); notify({inbox[6:]!r}, 'two')"
    )
    newest = second.hears(inbox, 2)[-1]["offset"]
    assert first.calls("ack", {"up_to": newest}) == {"unread": 0}
    (told,) = second.hears(inbox, 1)
    assert "offset" not in told
    assert told["data"]["unread"] == 0
    assert told["tags"]
    bad: list[Any] = [{}, {"ids": ["x"]}, {"up_to": 1, "ids": [1]}, {"other": 1}, None]
    for wrong in bad:
        assert first.calls("ack", wrong)["code"] == 107, wrong
    assert clients().calls("ack", {"up_to": 1})["code"] == 103
