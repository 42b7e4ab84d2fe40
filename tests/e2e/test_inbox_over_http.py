"""The inbox from outside: what was asked for and ended lands there, once; read there, and pushed, by its owner only."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
import websockets

from tests.e2e.test_jobs_over_http import User
from tests.support.service import Service, until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def ann(service: Service) -> User:
    return User(service, f"ann-{uuid4().hex[:8]}")


def inbox(user: User, query: str = "") -> dict[str, Any]:
    answer = user.ask("GET", f"/notifications{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def jobs_told(user: User) -> dict[str, list[dict[str, Any]]]:
    """Job -> what the whole log of the inbox says of it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for item in inbox(user, "?after=0&limit=200")["items"]:
        found.setdefault(item["data"]["job"], []).append(item)
    return found


def until_told(user: User, job_id: str) -> dict[str, Any]:
    until(lambda: job_id in jobs_told(user), f"nothing was said of job {job_id}")
    (told,) = jobs_told(user)[job_id]
    return told


@asynccontextmanager
async def following(service: Service, user: User, *topics: str) -> AsyncIterator[Any]:
    """A connection of a user's that follows topics; its first reply is the connect's."""
    token = user.ask("POST", "/connection/token").json()["token"]
    async with websockets.connect(service.websocket, subprotocols=None) as socket:
        await socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        for number, topic in enumerate(topics, 2):
            await socket.send(json.dumps({"id": number, "subscribe": {"channel": topic}}))
        replies: list[Any] = []
        async with asyncio.timeout(20):
            while len(replies) < len(topics) + 1:
                lines = [json.loads(line) for line in str(await socket.recv()).splitlines()]
                replies += [line for line in lines if "id" in line]
        assert not [reply for reply in replies if "error" in reply]
        yield socket, replies


async def pushed(socket: Any, kind: str | None, within: float = 20) -> dict[str, Any]:
    """The next publication on an inbox: a notification, or with `kind` one that is tagged so."""
    async with asyncio.timeout(within):
        while True:
            for line in str(await socket.recv()).splitlines():
                push = json.loads(line).get("push", {})
                pub = push.get("pub")
                if pub and push["channel"].startswith("inbox#") and pub.get("tags", {}).get("kind") == kind:
                    return dict(pub)


def test_an_action_that_ended_is_told_once(service: Service, ann: User) -> None:
    """In the shape of the contract; a failure as an error; what somebody looked at over HTTP is read."""
    job = ann.run("test.once", {"name": uuid4().hex[:12], "seconds": 0.1})
    told = until_told(ann, job["id"])
    assert set(told) == {"id", "title", "body", "level", "data", "created_at", "read_at"}
    assert (told["title"], told["level"], told["read_at"]) == ("test.once is done", "success", None)
    assert told["data"] == {"job": job["id"], "status": "succeeded", "name": "test.once", "result_url": None}
    failed = ann.run("test.refuses", {"name": "x"})
    assert until_told(ann, failed["id"])["level"] == "error"
    assert inbox(ann)["unread"] == 2
    ann.job(job["id"])
    assert [item["data"]["job"] for item in inbox(ann)["items"] if item["read_at"] is None] == [failed["id"]]
    time.sleep(2.5)  # two rounds of the schedulers
    assert {len(said) for said in jobs_told(ann).values()} == {1}


async def test_who_watches_is_not_told_again(service: Service, ann: User) -> None:
    """Whoever follows the job sees its end: the entry is there, and read.  Who has left finds it unread."""
    watched = ann.run("test.once", {"name": uuid4().hex[:12], "seconds": 1.5})
    async with following(service, ann, f"job:{watched['id']}"):
        await asyncio.to_thread(until_told, ann, watched["id"])
    assert until_told(ann, watched["id"])["read_at"] is not None
    left = ann.run("test.once", {"name": uuid4().hex[:12], "seconds": 1.5})
    async with following(service, ann, f"job:{left['id']}"):
        pass
    assert (await asyncio.to_thread(until_told, ann, left["id"]))["read_at"] is None


def test_a_computation_that_was_asked_for(service: Service, ann: User) -> None:
    """A 202 ends in the inbox, once for everybody who was given it; what was answered at once does not."""
    bob, name = User(service, f"bob-{uuid4().hex[:8]}"), uuid4().hex[:12]
    path = f"/resources/test.slow?name={name}&seconds=2"
    first = [user.ask("GET", path, Prefer="respond-async") for user in (ann, bob, ann)]
    assert {answer.status_code for answer in first} == {202}
    job_id = first[0].json()["id"]
    told = until_told(ann, job_id)
    assert (told["title"], told["level"], told["data"]["status"]) == ("test.slow is done", "success", "succeeded")
    assert told["data"]["result_url"].startswith("/api/v1/resources/test.slow?")
    until_told(bob, job_id)
    assert ann.ask("GET", f"/resources/test.echo?text={name}", Prefer="wait=20").status_code == 200
    refreshed = ann.ask("POST", f"/resources/test.echo/refresh?text={name}")
    until_told(ann, refreshed.json()["id"])
    assert set(jobs_told(ann)) == {job_id, refreshed.json()["id"]}
    failed = ann.ask("GET", f"/resources/test.fails?message={name}", Prefer="respond-async").json()
    assert until_told(ann, failed["id"])["level"] == "error"


def test_pages_of_an_inbox(service: Service, ann: User) -> None:
    """The newest first, or all since a position; with where it stands."""
    ids = [ann.run("test.refuses", {"name": "x"})["id"] for _ in range(5)]
    until(lambda: inbox(ann)["unread"] == 5, "not all ended")
    newest = inbox(ann, "?limit=2")
    assert [item["id"] for item in newest["items"]] == [5, 4]
    older = inbox(ann, f"?limit=5&cursor={newest['next']}")
    assert ([item["id"] for item in older["items"]], older["next"]) == ([3, 2, 1], None)
    since = inbox(ann, "?after=1&limit=2")
    assert ([item["id"] for item in since["items"]], since["next"]) == ([2, 3], "3")
    assert [item["id"] for item in inbox(ann, f"?after={since['next']}")["items"]] == [4, 5]
    assert inbox(ann, "?after=99")["items"] == []
    assert {item["data"]["job"] for item in inbox(ann)["items"]} == set(ids)
    position = ann.ask("GET", "/notifications").headers["Millpond-Position"]
    assert position.endswith("-5")
    for wrong in ("?after=x", "?limit=0", "?limit=9999", "?after=1&after=2", "?cursor=sideways-1", "?more=1"):
        assert ann.ask("GET", f"/notifications{wrong}").status_code == 400


async def test_what_was_read_is_pushed_to_every_connection(service: Service, ann: User) -> None:
    """And what is told: with the id as its offset, on the inbox, which the server subscribes by itself."""
    async with following(service, ann) as (socket, (connected,)), following(service, ann) as (other, _):
        ((channel, subscribed),) = connected["connect"]["subs"].items()
        assert channel.startswith("inbox#")
        assert (subscribed["recoverable"], subscribed.get("publications", [])) == (True, [])
        job = ann.run("test.refuses", {"name": "x"})
        pub = await pushed(socket, None)
        assert (pub["offset"], pub["data"]["id"], pub["data"]["data"]["job"]) == (1, 1, job["id"])
        answer = ann.ask("POST", "/notifications/read", {"ids": [1]})
        assert (answer.status_code, answer.json()) == (200, {"unread": 0})
        for one in (socket, other):
            read = await pushed(one, "read")
            assert (read["data"], "offset" in read) == ({"ids": [1], "unread": 0}, False)
        ann.run("test.refuses", {"name": "y"})
        await pushed(other, None)
        await socket.send(json.dumps({"id": 9, "rpc": {"method": "ack", "data": {"up_to": 2}}}))
        assert (await pushed(other, "read"))["data"] == {"up_to": 2, "unread": 0}


def test_an_inbox_is_its_owner_s(service: Service, ann: User) -> None:
    """401 for the public, 403 without the scope, 400 for what is no request."""
    for method, path in (("GET", "/notifications"), ("POST", "/notifications/read")):
        assert httpx.request(method, f"{service.url}/api/v1{path}", json={}).status_code == 401
    runner = User(service, f"runner-{uuid4().hex[:8]}", "run")
    assert runner.ask("GET", "/notifications").status_code == 403
    for body in ({}, {"ids": 1}, {"ids": ["1"]}, {"ids": [0]}, {"ids": [1], "up_to": 1}, {"up_to": -1}, {"all": True}):
        assert ann.ask("POST", "/notifications/read", body).status_code == 400
