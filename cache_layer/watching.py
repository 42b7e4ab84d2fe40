"""What each user follows right now, over all web processes: who follows the topic of a job sees its end, and need not
be told of it again.

Invariant: what a process does not show for `LIFE` seconds counts no more, so one that dies leaves nobody watching.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence

from cache_layer.errors import StoreUnavailable
from cache_layer.keys import digest
from cache_layer.redis import Arg, Store

log = logging.getLogger(__name__)

#: Seconds a user counts as watching since it was last shown, and those between two showings.
LIFE, _AGAIN = 60.0, 20.0
#: Seconds in which changes are collected, and users told in one call.
_TOGETHER, _MANY = 0.05, 200
#: Pairs of user and topic held by a process: beyond these, people are told of what they have seen.
_MOST = 200_000


class Watching:
    """The registry as one event loop writes it, and anybody reads it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Of this process in the registry.
        self._name = secrets.token_hex(4)
        #: User -> topic -> how many subscriptions.
        self._held: dict[str, Counter[str]] = {}
        self._count = 0
        #: Users and topics that the store has to be told of.
        self._changed: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def add(self, user_id: str, topic: str) -> None:
        """Somebody follows a topic (its `Source.key`) here; as often as there are subscriptions."""
        if topic not in self._held.get(user_id, ()):
            if self._count >= _MOST:
                return
            self._count += 1
            self._change(user_id, topic)
        self._held.setdefault(user_id, Counter())[topic] += 1

    def discard(self, user_id: str, topic: str) -> None:
        """One subscription less."""
        held = self._held.get(user_id)
        if held is None or topic not in held:
            return
        held[topic] -= 1
        if held[topic] <= 0:
            del held[topic]
            self._count -= 1
            self._change(user_id, topic)
        if not held:
            del self._held[user_id]

    async def follows(self, user_id: str, topics: Iterable[str]) -> bool:
        """Whether the user follows one of these anywhere.  Raises StoreUnavailable."""
        args: list[Arg] = [_short(topic) for topic in topics]
        return bool(await self._store.script("follows", [self._store.names.watching(user_id)], args))

    async def stop(self) -> None:
        """Say that nobody follows anything here any more; may be called twice."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gone = {(user, topic) for user, topics in self._held.items() for topic in topics}
        self._held.clear()
        self._count = 0
        try:
            await self._tell(self._changed | gone)
        except StoreUnavailable:
            log.info("what was followed here counts for a while yet")

    def _change(self, user_id: str, topic: str) -> None:
        self._changed.add((user_id, topic))
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        shown = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(shown + _AGAIN):
                    await self._wake.wait()
                await asyncio.sleep(_TOGETHER)
            except TimeoutError:
                shown = loop.time()
                self._changed |= {(user, topic) for user, topics in self._held.items() for topic in topics}
            self._wake.clear()
            changed, self._changed = self._changed, set()
            try:
                await self._tell(changed)
            except StoreUnavailable:
                await asyncio.sleep(1.0)
                self._changed |= changed
                self._wake.set()
            except Exception:
                log.exception("what is followed here was not told")

    async def _tell(self, changed: set[tuple[str, str]]) -> None:
        by_user: dict[str, list[str]] = {}
        for user_id, topic in changed:
            by_user.setdefault(user_id, []).append(topic)
        users = list(by_user)
        for start in range(0, len(users), _MANY):
            await self._tell_some({user: by_user[user] for user in users[start : start + _MANY]})

    async def _tell_some(self, by_user: dict[str, list[str]]) -> None:
        args: list[Arg] = [int(LIFE * 1000)]
        for user_id, topics in by_user.items():
            held = self._held.get(user_id, Counter())
            args += self._names([topic for topic in topics if topic in held])
            args += self._names([topic for topic in topics if topic not in held])
        await self._store.script("watching", [self._store.names.watching(user_id) for user_id in by_user], args)

    def _names(self, topics: Sequence[str]) -> list[Arg]:
        return [len(topics), *(f"{_short(topic)}:{self._name}" for topic in topics)]


def _short(topic: str) -> str:
    return digest(topic)
