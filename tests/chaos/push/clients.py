"""Many clients in one event loop that behave as the stock JavaScript client does, and write down what they are told.

What they do when a connection, a subscription or a try fails, and how long they wait, is that client's (5.7.4): full
jitter between 0.5 and 20 s, recovery from the last position, connect and subscribes in one frame.
"""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tests.chaos.push.books import Kind, Record
from tests.chaos.push.sockets import Socket

#: Seconds: between tries at least and at most, for an answer, and after a ping was due.
_SOONEST, _LATEST, _PATIENCE, _PING_LATE = 0.5, 20.0, 5.0, 10.0
_LOOK_EVERY = 0.5


class _Data(msgspec.Struct):
    #: Number of the publication, and when it was made, by the clock all processes of a machine share.
    n: int = -1
    t: float = 0.0


class _Publication(msgspec.Struct):
    data: _Data
    offset: int = 0


class _Said(msgspec.Struct):
    code: int


class _Push(msgspec.Struct):
    channel: str = ""
    pub: _Publication | None = None
    unsubscribe: _Said | None = None
    disconnect: _Said | None = None


class _Subscribed(msgspec.Struct):
    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    publications: list[_Publication] = []


class _Connected(msgspec.Struct):
    client: str
    ping: float = 0.0


class _Error(msgspec.Struct):
    code: int
    message: str
    temporary: bool = False


class _Reply(msgspec.Struct):
    id: int = 0
    push: _Push | None = None
    connect: _Connected | None = None
    subscribe: _Subscribed | None = None
    unsubscribe: msgspec.Raw | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Reply).decode
_encode = msgspec.json.encode


@dataclass(slots=True)
class Seen:
    """What all clients of a crowd have met, since `Crowd.seen` was last put anew."""

    #: Close codes.
    closes: Counter[int] = field(default_factory=Counter)
    #: Handshakes begun, connects and subscribes that stood, errors by code, unsubscribes by code.
    events: Counter[str] = field(default_factory=Counter)
    #: Seconds from a publication to its arrival, of those that came live.
    latencies: array[float] = field(default_factory=lambda: array("d"))
    #: Seconds from the loss of a connection until a client was subscribed to all again, with what it had missed.
    recoveries: list[float] = field(default_factory=list)
    #: When clients were subscribed to all again.
    back_at: list[float] = field(default_factory=list)


class Crowd:
    """All clients of a process."""

    def __init__(self, port: int, dice: random.Random, *, soonest: float = _SOONEST) -> None:
        """`soonest`: seconds from which waits grow; a test may be less patient than the stock client."""
        self.port, self.dice, self.soonest = port, dice, soonest
        self.seen = Seen()
        self.clients: list[Client] = []
        self._looking: asyncio.Task[None] | None = None

    def add(self, count: int, topics: Mapping[str, Kind], token: str = "") -> list[Client]:
        """More clients, which begin to connect at once."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        made = [Client(self, f"client {len(self.clients) + n}", topics, token) for n in range(count)]
        self.clients += made
        for client in made:
            client.start()
        return made

    def caught_up(self) -> list[Client]:
        """Those that are subscribed to everything."""
        return [client for client in self.clients if client.whole]

    def records(self, topic: str) -> dict[str, Record]:
        """What each was told of a topic."""
        return {client.name: client.records[topic] for client in self.clients if topic in client.records}

    async def stop(self) -> None:
        """Leave; may be called twice."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
            self._looking = None
        for client in self.clients:
            client.leave()
        await asyncio.sleep(0.05)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = time.monotonic()
            for client in self.clients:
                client.look(now)


class Client:
    """One client with some subscriptions."""

    def __init__(self, crowd: Crowd, name: str, topics: Mapping[str, Kind], token: str = "") -> None:
        self.name = name
        self.records = {topic: Record(kind) for topic, kind in topics.items()}
        self._crowd, self._token = crowd, token
        self._socket: Socket | None = None
        self._ids = 0
        self._asked: dict[int, str] = {}
        self._subscribed: set[str] = set()
        self._tries, self._resubscribes = 0, 0
        self._left = False
        self._later: set[asyncio.TimerHandle] = set()
        self._dialling: asyncio.Task[None] | None = None
        self._lost_at = 0.0
        #: When something has to have come, and what is to be done then.
        self._due = 0.0
        self._ping = 0.0

    @property
    def whole(self) -> bool:
        """It is subscribed to all it wants."""
        return len(self._subscribed) == len(self.records)

    def start(self) -> None:
        """Connect."""
        self._connect()

    def leave(self) -> None:
        """For good."""
        self._left = True
        for timer in self._later:
            timer.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
        self.drop()

    def drop(self) -> None:
        """The network is gone for a moment."""
        if self._socket is not None:
            self._socket.abort()

    def pause(self) -> None:
        """Do not read, until `resume`: the server cannot write for long."""
        if self._socket is not None:
            self._socket.pause()

    def resume(self) -> None:
        if self._socket is not None:
            self._socket.resume()

    def look(self, now: float) -> None:
        """Time has passed: what had to come and did not ends the connection."""
        if self._due and now > self._due:
            self._crowd.seen.events["waited in vain"] += 1
            self._due = 0.0
            self.drop()

    # Connecting

    def _connect(self) -> None:
        self._crowd.seen.events["dialled"] += 1
        self._due = time.monotonic() + _PATIENCE
        self._dialling = asyncio.create_task(self._dial())

    async def _dial(self) -> None:
        made = Socket(f"127.0.0.1:{self._crowd.port}", self._opened, self._heard, self._lost)
        self._socket = made
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.get_running_loop().create_connection(lambda: made, "127.0.0.1", self._crowd.port)
        except (OSError, TimeoutError):
            self._crowd.seen.events["not connected"] += 1
            self._again()

    def _opened(self) -> None:
        first = {"connect": {"name": "js", **({"token": self._token} if self._token else {})}, "id": self._next("")}
        self._say(first, *(self._subscribe(topic) for topic in self.records))

    def _subscribe(self, topic: str) -> dict[str, object]:
        wanted: dict[str, object] = {"channel": topic, "flag": 1}
        position = self.records[topic].position
        if position is not None:
            wanted |= {"recover": True, "epoch": position[0]} | ({"offset": position[1]} if position[1] else {})
        return {"subscribe": wanted, "id": self._next(topic)}

    def _next(self, topic: str) -> int:
        self._ids += 1
        self._asked[self._ids] = topic
        return self._ids

    def _say(self, *commands: dict[str, object]) -> None:
        if self._socket is not None:
            self._socket.send(b"\n".join(map(_encode, commands)))

    def _lost(self, code: int) -> None:
        if self._socket is None:
            return
        self._crowd.seen.closes[code] += 1
        if 3500 <= code < 4000:
            self._crowd.seen.events[f"ended for good with {code}"] += 1
            self._left = True
        if not self._lost_at:
            self._lost_at = time.monotonic()
        self._again()

    def _again(self) -> None:
        self._socket, self._due = None, 0.0
        self._asked.clear()
        self._subscribed.clear()
        if not self._left:
            self._in(self._wait(self._tries), self._connect)
            self._tries += 1

    def _wait(self, tries: int) -> float:
        least = self._crowd.soonest
        return min(_LATEST, least + self._crowd.dice.uniform(0.0, min(_LATEST, least * 2 ** min(31, tries))))

    def _in(self, seconds: float, do: Callable[[], None]) -> None:
        timer: list[asyncio.TimerHandle] = []

        def now() -> None:
            self._later.discard(timer[0])
            do()

        timer.append(asyncio.get_running_loop().call_later(seconds, now))
        self._later.add(timer[0])

    # Hearing

    def _heard(self, text: bytes) -> None:
        now = time.monotonic()
        if self._ping and not self._asked:
            self._due = now + self._ping + _PING_LATE
        for line in text.split(b"\n"):
            if line == b"{}":
                self._say({})
                continue
            reply = _decode(line)
            push = reply.push
            if push is None:
                self._answered(reply, now)
            elif push.pub is not None:
                if self._take(push.channel, push.pub):
                    self._crowd.seen.latencies.append(now - push.pub.data.t)
            elif push.unsubscribe is not None:
                self._unsubscribed(push.channel, push.unsubscribe.code)
            elif push.disconnect is not None:
                self._crowd.seen.events[f"disconnect {push.disconnect.code}"] += 1

    def _take(self, topic: str, publication: _Publication) -> bool:
        if not publication.offset:
            self._crowd.seen.events["signals"] += 1
            return False
        if topic not in self._subscribed:
            self.records[topic].wrong.append(f"{publication.offset} came while it was not subscribed")
        self.records[topic].told(publication.offset, publication.data.n)
        return True

    def _answered(self, reply: _Reply, now: float) -> None:
        topic = self._asked.pop(reply.id, None)
        if topic is None:
            return
        if reply.error is not None:
            self._refused(topic, reply.error)
        elif reply.connect is not None:
            self._crowd.seen.events["connected"] += 1
            self._tries, self._ping = 0, reply.connect.ping
        elif reply.subscribe is not None:
            self._stands(topic, reply.subscribe, now)
        if not self._asked:
            self._due = now + self._ping + _PING_LATE

    def _stands(self, topic: str, result: _Subscribed, now: float) -> None:
        self._crowd.seen.events["subscribed"] += 1
        self._subscribed.add(topic)
        self._resubscribes = 0
        record = self.records[topic]
        if result.recovered:
            record.recovered(result.epoch, result.offset)
        elif record.kind == "log" or record.position is None or record.position[0] != result.epoch:
            # A snapshot stands at the position that is told, not after it.
            first = next((one.offset for one in result.publications if one.offset), result.offset + 1)
            record.begins(result.epoch, min(result.offset, first - 1))
        for publication in result.publications:
            if publication.offset:
                record.told(publication.offset, publication.data.n)
        if self.whole and self._lost_at:
            self._crowd.seen.recoveries.append(now - self._lost_at)
            self._crowd.seen.back_at.append(now)
            self._lost_at = 0.0

    def _refused(self, topic: str, error: _Error) -> None:
        self._crowd.seen.events[f"error {error.code}"] += 1
        if not topic:
            self.drop()
        elif error.temporary or error.code < 100:
            self._in(self._wait(self._resubscribes), lambda: self._subscribe_again(topic))
            self._resubscribes += 1
        else:
            self.records[topic].wrong.append(f"refused for good: {error.code} {error.message}")

    def _unsubscribed(self, topic: str, code: int) -> None:
        self._crowd.seen.events[f"unsubscribed {code}"] += 1
        self._subscribed.discard(topic)
        if code < 2500:
            self.records[topic].wrong.append(f"unsubscribed for good: {code}")
        else:
            self._subscribe_again(topic)

    def _subscribe_again(self, topic: str) -> None:
        if self._socket is not None and topic not in self._subscribed and topic not in self._asked.values():
            self._due = time.monotonic() + _PATIENCE
            self._say(self._subscribe(topic))


async def until(condition: Callable[[], object], within: float) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def at_top(records: Sequence[Record], top: tuple[str, int]) -> int:
    """How many stand there."""
    return sum(record.position == top for record in records)
