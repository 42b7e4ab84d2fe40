"""A stock client as the tests see it: what one can ask of it, and everything it has told.

Invariant: whatever the library behind it, the same happening is the same `Event`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.support.watcher import eventually

#: A fast client tries again after milliseconds, not after half a second to twenty.
QUICK = (0.05, 0.4)

#: Answers what a client asks its application for: the channel ("" for the connection) -> a token or a position.
Answer = Callable[[str], Any]


class StockError(Exception):
    """A command was refused."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Event:
    """Something a client told.  What a kind of event has not is empty."""

    kind: str
    #: "" for the connection's own.
    channel: str = ""
    data: Any = None
    code: int = 0
    reason: str = ""
    offset: int = 0
    epoch: str = ""
    recoverable: bool = False
    was_recovering: bool = False
    recovered: bool = False
    #: {client, user, conn_info, chan_info} of a publisher, or of who comes or goes.
    info: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The id of a connection.
    client: str = ""
    transport: str = ""

    def __repr__(self) -> str:
        return f"Event({', '.join(f'{name}={value!r}' for name, value in asdict(self).items() if value)})"


@dataclass(frozen=True, slots=True)
class History:
    """The answer to `history`."""

    offset: int
    epoch: str
    publications: list[Event]

    def data(self) -> list[Any]:
        return [publication.data for publication in self.publications]

    def offsets(self) -> list[int]:
        return [publication.offset for publication in self.publications]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a client is made."""

    #: (transport, address) to be tried in this order.
    endpoints: Sequence[tuple[str, str]]
    emulation: str = ""
    token: str = ""
    get_token: Answer | None = None
    data: Any = None
    #: Of the handshake of a websocket; browsers take none.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds a command may take.
    timeout: float = 10.0
    #: Seconds a ping may be late.
    ping_delay: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How a topic is subscribed."""

    token: str = ""
    get_token: Answer | None = None
    get_state: Answer | None = None
    #: (offset, epoch) to begin after.
    since: tuple[int, str] | None = None
    delta: bool = False
    join_leave: bool = False


PLAIN = Wanted()


class Stock(ABC):
    """One client."""

    def __init__(self) -> None:
        self.told: list[Event] = []

    # What is told

    def of(self, kind: str, channel: str = "") -> list[Event]:
        """What was told of this kind, about this channel or the connection."""
        return [event for event in self.told if event.kind == kind and event.channel == channel]

    def values(self, channel: str) -> list[Any]:
        """The data of all publications but signals such as progress."""
        return [event.data for event in self.of("publication", channel) if "kind" not in event.tags]

    def offsets(self, channel: str) -> list[int]:
        """The offsets of the publications that have one."""
        return [event.offset for event in self.of("publication", channel) if event.offset]

    async def event(self, kind: str, channel: str = "", number: int = 1, within: float = 20.0) -> Event:
        """The first such event, or the one of that number, when it comes."""
        await self.until(lambda: len(self.of(kind, channel)) >= number, f"{kind} no. {number}", channel, within)
        return self.of(kind, channel)[number - 1]

    async def hears(self, channel: str, *values: Any, within: float = 20.0) -> None:
        """Wait until its publications are these, all of them and in this order."""
        wanted = list(values)
        await self.until(lambda: self.values(channel) == wanted, f"exactly {wanted}", channel, within)

    async def reaches(self, channel: str, value: Any, within: float = 20.0) -> None:
        """Wait until its newest publication is this, whatever came before."""
        await self.until(lambda: self.values(channel)[-1:] == [value], f"{value!r} at last", channel, within)

    async def until(self, condition: Callable[[], bool], what: str, channel: str = "", within: float = 20.0) -> None:
        """Poll; fails with what was told instead of `what`."""
        try:
            await eventually(condition, "", within)
        except AssertionError:
            about = channel or "the connection"
            raise AssertionError(f"{about} was not told {what}, but: {self.told[-15:]}") from None

    # What is asked

    async def connected(self, number: int = 1) -> Event:
        """Connect, and the event of it."""
        await self.connect()
        return await self.event("connected", number=number)

    async def subscribed(self, channel: str, wanted: Wanted = PLAIN) -> Event:
        """Subscribe, and the event of it."""
        number = len(self.of("subscribed", channel)) + 1
        await self.subscribe(channel, wanted)
        return await self.event("subscribed", channel, number)

    @abstractmethod
    async def connect(self) -> None: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def subscribe(self, channel: str, wanted: Wanted = PLAIN) -> None:
        """The first time `wanted` counts; later the same subscription is taken up again."""

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None: ...

    @abstractmethod
    async def publish(self, channel: str, data: Any) -> None:
        """This and what follows raise StockError when it is refused."""

    @abstractmethod
    async def history(
        self, channel: str, limit: int, since: tuple[int, str] | None = None, reverse: bool = False
    ) -> History: ...

    @abstractmethod
    async def presence(self, channel: str) -> dict[str, Mapping[str, Any]]:
        """Who is there, by the id of the connection, as in `Event.info`."""

    @abstractmethod
    async def presence_stats(self, channel: str) -> tuple[int, int]:
        """Connections and users."""

    @abstractmethod
    async def rpc(self, method: str, data: Any) -> Any: ...

    @abstractmethod
    async def frames(self) -> list[str]:
        """The frames its websockets have received."""

    @abstractmethod
    async def forget(self) -> None:
        """Disconnect, and drop it."""


class Stocked(ABC):
    """What clients of one kind are made by, and the clients it has made."""

    def __init__(self) -> None:
        self.made: list[Stock] = []
        self.faults: list[str] = []

    async def new(self, wishes: Wishes) -> Stock:
        client = await self._make(wishes)
        self.made.append(client)
        return client

    async def forget_all(self) -> None:
        """All are gone, and none of them has left an error that nobody caught."""
        while self.made:
            await self.made.pop().forget()
        faults, self.faults = self.faults, []
        assert not faults, faults

    @abstractmethod
    async def _make(self, wishes: Wishes) -> Stock: ...
