"""Who is there, per topic: written down by the process that holds their connection, and again every while.

Invariant: whoever has not been shown for `LIFE` seconds is gone, so that a process that dies leaves nobody behind; the
key of a topic expires with the last one there, and one that is lost is there again within a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cache_layer.redis import Store

T = TypeVar("T")

#: Seconds one counts as being there since it was last shown.
LIFE = 60.0
#: Clients in one call at the most.
_MANY = 500


@dataclass(frozen=True, slots=True)
class Present:
    """One client on one topic."""

    client: str
    #: "" for the public, which counts as one user.
    user: str
    #: What others see of it, JSON.
    info: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Somebody comes to a topic, or goes."""

    topic: str
    #: The client that is not there any more, "" for none.
    gone: str = ""
    #: What is told on which channel of the store, b"" for nothing.
    channel: str
    message: bytes


class Presence:
    """The presence of one deployment."""

    def __init__(self, store: Store, *, life: float = LIFE) -> None:
        self._store = store
        self._life = int(life * 1000)

    async def show(self, topic: str, there: Sequence[Present], *, again: bool = False) -> None:
        """They are there; `again`: they still are, and who should have said so too, and has not, is forgotten.

        Raises StoreUnavailable.
        """
        for some in _portions(there):
            parts = [part for one in some for part in (one.client, one.user, one.info)]
            await self._store.script("presence_show", [self._key(topic)], [self._life, "1" if again else "", *parts])

    async def tell(self, changes: Sequence[Change]) -> None:
        """Do and announce them, in their order and in one step.  Raises StoreUnavailable."""
        commands: list[tuple[str | bytes, ...]] = []
        for change in changes:
            if change.gone:
                commands.append(("HDEL", self._key(change.topic), change.gone))
            if change.message:
                commands.append(("PUBLISH", change.channel, change.message))
        if commands:
            await self._store.transaction(*commands)

    async def everybody(self, topic: str) -> dict[str, bytes]:
        """The info of each client that is there.  Raises StoreUnavailable."""
        _, _, found = await self._store.script("presence", [self._key(topic)], ["1"])
        return {client.decode(): info for client, info in zip(found[::2], found[1::2], strict=True)}

    async def count(self, topic: str) -> tuple[int, int]:
        """How many clients, and how many different users.  Raises StoreUnavailable."""
        clients, users, _ = await self._store.script("presence", [self._key(topic)], [""])
        return int(clients), int(users)

    def _key(self, topic: str) -> str:
        return self._store.names.presence(topic)


def _portions(found: Sequence[T]) -> Iterable[Sequence[T]]:
    return (found[start : start + _MANY] for start in range(0, len(found), _MANY))
