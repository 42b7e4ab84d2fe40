"""What the store is told of invalidations, heard where every process hears it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import redis
from django.db import transaction

from asgi_app import wiring
from asgi_app.env import env
from cache_layer.keys import Names
from cache_layer.outdated import Outdated
from tests.support.service import until


class Told:
    """The invalidations that reached the store."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._marks = f"marks-{uuid4().hex}"
        self._heard = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._heard.subscribe(Names(env().namespace).invalidations(), self._marks)
        self.since_last()

    def since_last(self) -> list[Outdated]:
        """Those since the last call.  What was published before a mark of our own comes before it."""
        mark = uuid4().hex.encode()
        self._client.publish(self._marks, mark)
        found: list[Outdated] = []
        while (message := self._heard.get_message(timeout=10)) is None or message["data"] != mark:
            outdated = Outdated.from_json(message["data"]) if message is not None else None
            if outdated is not None:
                found.append(outdated)
        return found

    def tags(self) -> list[set[str]]:
        """As `since_last`: their tags."""
        return [set(outdated.tags) for outdated in self.since_last()]

    def close(self) -> None:
        self._heard.close()
        self._client.close()


def end_portal() -> None:
    """End the loop that synchronous code of this process made for itself, if it did."""
    try:
        loop = wiring.node().loop
    except RuntimeError:
        return
    assert loop is not None
    wiring.call(lambda _: wiring.stop_node())
    loop.call_soon_threadsafe(loop.stop)
    until(lambda: not loop.is_running(), "the portal ends")
    loop.close()


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction, or a savepoint in one, that comes to nothing."""
    with suppress(_Refused), transaction.atomic():
        yield
        raise _Refused


class _Refused(Exception):
    pass
