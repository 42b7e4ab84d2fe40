"""A web process that leaves says so for each of its clients, once; the others go on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.service import Service, until

TOPIC = f"open.{uuid4().hex}"


@pytest.fixture
def service_of_two(tmp_path: Path) -> Iterator[Service]:
    """Two web processes, one of which will be told to leave."""
    running = Service(tmp_path, "--no-demo", MILLPOND_WEB_PROCESSES="2", MILLPOND_WORKER_CONCURRENCY="1").start()
    yield running
    assert running.stop() == 0


def ask(socket: ClientConnection, method: str, body: dict[str, Any]) -> Any:
    """The result; what is pushed meanwhile is forgotten."""
    socket.send(json.dumps({"id": 7, method: body}))
    while True:
        for line in str(socket.recv(timeout=10)).split("\n"):
            message = json.loads(line)
            if message.get("id") == 7:
                return message[method]


def end_of(socket: ClientConnection) -> tuple[int, str] | None:
    """Code and reason of the close frame."""
    try:
        while True:
            socket.recv(timeout=15)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)


def process_of(service: Service, socket: ClientConnection) -> psutil.Process:
    """The web process that serves a socket."""
    port = socket.local_address[1]
    for process in psutil.Process(service.pid).children(recursive=True):
        if any(link.raddr and link.raddr.port == port for link in process.net_connections("tcp")):
            return process
    raise AssertionError("nobody serves it")


def test_a_process_that_leaves_says_goodbye_for_each_of_its_clients(service_of_two: Service) -> None:
    """Each is told to come back, and those of the other process hear of each once, and of nobody else."""
    with ExitStack() as stack:
        sockets: list[ClientConnection] = []

        def enter(count: int) -> None:
            for _ in range(count):
                sockets.append(stack.enter_context(connect(service_of_two.websocket, proxy=None, max_queue=None)))

        enter(12)
        one = process_of(service_of_two, sockets[0])
        one.suspend()  # else the kernel may give every connection to the same of two idle processes
        try:
            enter(12)
        finally:
            one.resume()
        clients = {}
        for socket in sockets:
            clients[socket] = ask(socket, "connect", {})["client"]
            ask(socket, "subscribe", {"channel": TOPIC})
        homes = {socket: process_of(service_of_two, socket) for socket in sockets}
        assert len(set(homes.values())) == 2
        leaving = homes[sockets[0]]
        gone = {clients[socket] for socket in sockets if homes[socket] == leaving}
        watching = next(socket for socket in sockets if homes[socket] != leaving)
        leaving.terminate()
        for socket in sockets:
            if homes[socket] == leaving:
                assert end_of(socket) == (3001, "shutdown")
        left: Counter[str] = Counter()

        def heard() -> bool:
            for line in str(watching.recv(timeout=10)).split("\n"):
                push = json.loads(line).get("push", {})
                left.update([push["leave"]["info"]["client"]] if "leave" in push else [])
            return set(left) >= gone

        until(heard, "all of them have gone")
        assert ask(watching, "presence", {"channel": TOPIC})["presence"].keys() == set(clients.values()) - gone
        with suppress(TimeoutError):
            while True:
                assert "leave" not in str(watching.recv(timeout=0.5))
        assert left == Counter(gone)
