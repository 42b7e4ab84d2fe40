"""Clients of a hub without a socket between: the whole connection, and a stock client's behaviour at its other end.

Invariant: what is written to a connection that was dropped is heard by nobody.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from asgi_app.wiring import Node
from cache_layer.feed import Feed
from consumers.connection import Connection
from consumers.connections import Connections
from consumers.frames import Code
from consumers.hub import Hub
from consumers.transport import Port
from tests.chaos.push.books import Kind, Record
from tests.chaos.push.sockets import frame_at
from tests.support.watcher import eventually

#: Seconds until what is refused for the moment is tried again.
_AGAIN = 0.02


@asynccontextmanager
async def process(node: Node, url: str) -> AsyncIterator[Hub]:
    """The hub of another web process, with a connection of its own to the store at `url`."""
    feed = Feed(url)
    await feed.start()
    hub = Hub(feed, node.cache.invalidations_channel, Connections(1000, 1000))
    try:
        await eventually(lambda: feed.healthy, "it hears")
        yield hub
    finally:
        await hub.stop()
        await feed.stop()


class Below:
    """What asyncio's transport is to a web process: it takes what is framed, and says how much of that waits."""

    def __init__(self, line: Line, client: Client) -> None:
        self._line, self._client = line, client

    def get_write_buffer_size(self) -> int:
        return 0 if self._client.reads.is_set() else 1

    def write(self, message: bytes) -> None:
        assert self._client.reads.is_set(), "written to a client that does not read"
        assert self._line.write(message)


class Line:
    """One connection of a client (`consumers.transport.Transport`)."""

    kind = "websocket"
    glue = "\n"
    pong = True
    greeting: Mapping[str, str] = {}

    def __init__(self, client: Client, hub: Hub, token: str = "") -> None:
        self.scope: Mapping[str, Any] = {"type": "websocket", "headers": [], "path": "/connection/websocket"}
        self.dead = False
        self._client = client
        self.port: Port | None = Port(Below(self, client))
        self.connection = Connection(self, hub)

    async def send(self, text: str) -> None:
        if not self._client.reads.is_set():
            await self._client.reads.wait()
        self._hear(text)

    def write(self, message: bytes) -> bool:
        """What was framed for a websocket already."""
        if not self._client.reads.is_set():
            return False
        at = 0
        while at < len(message):
            found = frame_at(message, at, len(message))
            assert found is not None
            _, begin, at = found
            self._hear(message[begin:at].decode())
        return True

    def _hear(self, text: str) -> None:
        if not self.dead:
            try:
                self._client.heard(text)
            except Exception as error:  # a writer would take it for a socket that is gone
                self._client.wrong(f"{error!r} at {text[:500]}")

    async def end(self, code: Code) -> None:
        if not self.dead:
            self._client.lost(code.number)

    def refused(self) -> None:
        pass

    def abort(self) -> None:
        if not self.dead:
            self._client.lost(1006)


class Client:
    """Follows topics; `view` is what its page shows of each."""

    def __init__(self, name: str, topics: Mapping[str, Kind], token: str = "", by_server: Collection[str] = ()) -> None:
        """`by_server`: topics that it need not subscribe."""
        self.name, self._token, self._by_server = name, token, by_server
        self.records = {topic: Record(kind) for topic, kind in topics.items()}
        #: The newest content of a value; all of a log since it was followed, or since a loss was told.
        self.view: dict[str, list[Any]] = {topic: [] for topic in topics}
        self.states: dict[str, Any] = {}
        self.closes: list[int] = []
        #: The last that it has heard and said, for whoever looks for what went wrong.
        self.last: deque[str] = deque(maxlen=40)
        self.reads = asyncio.Event()
        self.reads.set()
        self.line: Line | None = None
        self.subscribed: set[str] = set()
        self._asked: dict[int, str] = {}
        self._ids = 0
        self._over: list[asyncio.Task[None]] = []

    @property
    def whole(self) -> bool:
        """It is subscribed to everything."""
        return len(self.subscribed) == len(self.records)

    def connect(self, hub: Hub) -> None:
        """Come, or come back, to this process."""
        assert self.line is None
        self.line = Line(self, hub)
        self.line.connection.open()
        known = {topic: _recovery(self.records[topic].position) for topic in self._by_server}
        subs = {"subs": known} if any(known.values()) else {}
        first = {"connect": {"token": self._token, **subs}, "id": self._next("")}
        self._say(first, *(self._subscribe(topic) for topic in self.records if topic not in self._by_server))

    def drop(self) -> None:
        """The network is gone; what was on its way is lost."""
        if self.line is not None:
            self.line.dead = True
            self._over.append(asyncio.create_task(self.line.connection.over()))
        self.line = None
        self.subscribed.clear()
        self._asked.clear()

    async def leave(self) -> None:
        """For good."""
        self.reads.set()
        self.drop()
        await asyncio.gather(*self._over)

    def lost(self, code: int) -> None:
        """The server has ended the connection."""
        self.closes.append(code)
        self.drop()

    def wrong(self, what: str) -> None:
        """It has met what no client should."""
        for record in self.records.values():
            record.wrong.append(what)

    def heard(self, text: str) -> None:
        """A frame."""
        self.last.append(text[:300])
        for line in text.split("\n"):
            said = json.loads(line)
            if not said:
                asyncio.get_running_loop().call_soon(self._pong, self.line)
            elif "push" in said:
                self._pushed(said["push"])
            elif "id" in said:
                self._answered(self._asked.pop(said["id"], ""), said)

    def _pong(self, line: Line | None) -> None:
        if line is not None and not line.dead:
            line.connection.receive("{}")

    def _pushed(self, push: dict[str, Any]) -> None:
        topic = push.get("channel", "")
        if "pub" in push:
            self._told(topic, push["pub"])
        elif "unsubscribe" in push and topic in self.subscribed:
            self.subscribed.discard(topic)
            if push["unsubscribe"]["code"] < 2500:
                self.records[topic].wrong.append(f"unsubscribed for good: {push['unsubscribe']}")
            asyncio.get_running_loop().call_soon(self._subscribe_again, topic)

    def _answered(self, topic: str, said: dict[str, Any]) -> None:
        if "error" in said:
            if not said["error"].get("temporary"):
                self.wrong(f"refused for good: {said}")
                return
            asyncio.get_running_loop().call_later(_AGAIN, self._subscribe_again if topic else self._reconnect, topic)
        elif "connect" in said:
            for name, one in said["connect"].get("subs", {}).items():
                self._stands(name, one)
        elif topic:
            self._stands(topic, said["subscribe"])

    def _reconnect(self, _: str) -> None:
        if self.line is not None:
            hub = self.line.connection._hub
            self.drop()
            self.connect(hub)

    def _stands(self, topic: str, result: dict[str, Any]) -> None:
        record = self.records.get(topic)
        if record is None:
            return
        self.subscribed.add(topic)
        self.states[topic] = result.get("data")
        epoch, offset = result["epoch"], result.get("offset", 0)
        publications = result.get("publications", [])
        if result.get("recovered"):
            record.recovered(epoch, offset)
        elif record.kind == "log" or record.position is None or record.position[0] != epoch:
            first = publications[0]["offset"] if publications else offset + 1
            record.begins(epoch, min(offset, first - 1))
            self.view[topic] = []
        for publication in publications:
            self._told(topic, publication)

    def _told(self, topic: str, publication: dict[str, Any]) -> None:
        record = self.records[topic]
        if topic not in self.subscribed:
            record.wrong.append(f"told {publication} while it was not subscribed")
        if not publication.get("offset"):
            return
        data = publication["data"]
        before = len(record.wrong)
        record.told(publication["offset"], data.get("n", 0) if isinstance(data, dict) else 0)
        if len(record.wrong) > before:
            record.wrong[-1] += f" of {topic}, after " + "\n    ".join(self.last)
        self.view[topic] = [data] if record.kind == "value" else [*self.view[topic], data]

    def _subscribe(self, topic: str) -> dict[str, Any]:
        wanted = {"channel": topic, "flag": 1, **_recovery(self.records[topic].position)}
        return {"subscribe": wanted, "id": self._next(topic)}

    def _subscribe_again(self, topic: str) -> None:
        if self.line is not None and topic not in self.subscribed and topic not in self._asked.values():
            self._say(self._subscribe(topic))

    def _next(self, topic: str) -> int:
        self._ids += 1
        self._asked[self._ids] = topic
        return self._ids

    def _say(self, *commands: dict[str, Any]) -> None:
        assert self.line is not None
        text = "\n".join(map(json.dumps, commands))
        self.last.append(f"> {text}")
        self.line.connection.receive(text)


def _recovery(position: tuple[str, int] | None) -> dict[str, Any]:
    return {} if position is None else {"recover": True, "epoch": position[0], "offset": position[1]}
