"""Who may, at once: the connections of this process obey what all processes are told (`asgi_app.control`), and look by
themselves, in turn, for what nobody told.

Invariants: a connection that was being opened when an order came is looked at once it is known whose it is; whatever
may have been missed while the feed was away is looked for when it is back; credentials are read in batches, never one
query per connection, and a database that does not answer ends nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from weakref import WeakKeyDictionary

from asgi_app import access, control, standing
from asgi_app.access import Identity
from asgi_app.control import Order
from asgi_app.errors import Unavailable
from asgi_app.standing import Lost
from asgi_app.wiring import Node, node
from cache_layer.errors import StoreUnavailable
from consumers.connections import Connection, Connections, marks
from consumers.frames import Closes, Code
from consumers.hub import hub
from consumers.judging import Judge

log = logging.getLogger(__name__)

#: Seconds in which the credentials of all connections are read anew, though nobody has told anything, and the seconds
#: between two portions of that.
ROUND = 25.0
_STEP = 1.25
#: Seconds for which an order is remembered for those who are being let in: their rights may have been read before it,
#: and a session ends a moment after its logout is told.
_REMEMBERED = 10.0
_REMEMBERED_MOST = 10_000
#: Seconds after which those are looked at.
_A_MOMENT = 1.5
#: Seconds orders are collected, between batches, for one reading, and until what failed is tried again.
_COLLECT, _BREATHE, _WITHIN, _AGAIN = 0.05, 0.02, 8.0, 3.0
#: Connections told at once, before others get their turn.
_SLICE = 32

_CODES: dict[Lost, Code] = {
    # It comes back, as whoever it is by now.
    Lost.SESSION: Closes.FORCE_RECONNECT,
    Lost.CREDENTIALS: Closes.INVALID_TOKEN,
}


class Control:
    """Of one event loop.  Hears orders from when it is made; `start` begins to act on what needs the database."""

    def __init__(self, here: Node, connections: Connections, judge: Judge) -> None:
        self._node = here
        self._connections = connections
        self._judge = judge
        #: Whose credentials are to be read, and whether their subscriptions are to be judged whatever comes of it.
        self._due: dict[Connection, bool] = {}
        #: Those whose turn comes in this round.
        self._turn: list[Connection] = []
        self._per_step = 0
        #: Mark -> when an order about it came (monotonic), and whether it was a kick.
        self._orders: dict[str, tuple[float, bool]] = {}
        self._everyone_at = float("-inf")
        self._missed = False
        self._wake = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        connections.entered = self._entered
        here.feed.attach(here.store.names.control_channel(), self._heard)
        here.feed.on_gap.append(self._gap)

    def start(self) -> None:
        """Begin; may be called twice."""
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work(), name="control")

    async def stop(self) -> None:
        """May be called twice, or before `start`."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
            self._working = None

    # Orders

    def _heard(self, message: bytes) -> None:
        order = control.decode(message)
        if order is None:
            log.warning("foreign bytes on the channel of orders")
            return
        access.forget_tokens()
        self._judge.forget()
        self._obey(order)

    def _obey(self, order: Order) -> None:
        if order.kick:
            self._remember(f"user {order.kick}", kick=True)
            self._end(self._connections.of(f"user {order.kick}"), Closes.FORCE_DISCONNECT)
        if order.session:
            self._remember(f"session {order.session}")
            self._end(self._connections.of(f"session {order.session}"), Closes.FORCE_RECONNECT)
        for user_id in order.users:
            self._remember(f"user {user_id}")
            self._look_soon(self._connections.of(f"user {user_id}"), judge=True)
        if order.everyone:
            self._everyone_at = time.monotonic()
            self._look_soon(self._connections.known())

    def _end(self, those: Iterable[Connection], code: Code) -> None:
        for connection in those:
            connection.close(code)

    def _remember(self, mark: str, *, kick: bool = False) -> None:
        now = time.monotonic()
        if len(self._orders) >= _REMEMBERED_MOST:
            self._orders = {mark: order for mark, order in self._orders.items() if now < order[0] + _REMEMBERED}
        if len(self._orders) >= _REMEMBERED_MOST:
            self._everyone_at = now
            self._orders.clear()
        self._orders[mark] = now, kick

    def _entered(self, connection: Connection, identity: Identity, since: float) -> None:
        """It is known whose a connection is: an order that came while that was found out counts for it."""
        now, loop = time.monotonic(), asyncio.get_running_loop()
        about = [self._orders[mark] for mark in marks(identity) if mark in self._orders]
        if any(kick and since < at for at, kick in about):
            loop.call_soon(connection.close, Closes.FORCE_DISCONNECT)
        elif since < self._everyone_at or any(now < at + _REMEMBERED for at, _ in about):
            loop.call_later(_A_MOMENT, self._look_soon, [connection])

    def _gap(self) -> None:
        self._missed = True
        self._wake.set()

    def _look_soon(self, those: Iterable[Connection], *, judge: bool = False) -> None:
        for connection in those:
            self._due[connection] = judge or self._due.get(connection, False)
        self._wake.set()

    # Looking

    async def _work(self) -> None:
        step_at = time.monotonic() + _STEP
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, step_at - time.monotonic())):
                    await self._wake.wait()
            if time.monotonic() >= step_at:
                step_at = time.monotonic() + _STEP
                self._look_soon(self._next_in_turn())
            await asyncio.sleep(_COLLECT)
            self._wake.clear()
            try:
                await self._catch_up()
                while self._due:
                    await self._look_at(self._some())
                    await asyncio.sleep(_BREATHE)
            except Exception:
                log.exception("credentials cannot be read anew")
                await asyncio.sleep(_AGAIN)

    def _next_in_turn(self) -> list[Connection]:
        """A portion of the round, which begins anew when all had their turn."""
        if not self._turn:
            self._turn = self._connections.known()
            self._turn.reverse()
            self._per_step = -(-len(self._turn) // round(ROUND / _STEP))
        portion = self._turn[len(self._turn) - self._per_step :] if self._turn else []
        del self._turn[len(self._turn) - len(portion) :]
        return portion

    async def _catch_up(self) -> None:
        """After a gap: nobody knows who was named meanwhile.  Kicks are found in the store, the rest by looking."""
        if not self._missed:
            return
        self._look_soon(self._connections.known())
        try:
            for user_id, ago in await control.kicked_lately(self._node):
                those = [one for one in self._connections.of(f"user {user_id}") if self._connections.age(one) > ago]
                self._end(those, Closes.FORCE_DISCONNECT)
        except StoreUnavailable:
            asyncio.get_running_loop().call_later(_AGAIN, self._wake.set)
        else:
            self._missed = False
        access.forget_tokens()
        self._judge.forget()

    def _some(self) -> dict[Connection, bool]:
        chosen = list(self._due)[: standing.MOST]
        return {connection: self._due.pop(connection) for connection in chosen}

    async def _look_at(self, batch: dict[Connection, bool]) -> None:
        """Whatever happens, those for whom somebody waits are looked at again."""
        try:
            await self._look(batch)
        except Exception as error:
            if not isinstance(error, Unavailable | TimeoutError):
                log.exception("credentials cannot be read anew")
            asyncio.get_running_loop().call_later(_AGAIN, self._try_again, batch)

    async def _look(self, batch: dict[Connection, bool]) -> None:
        """Read the credentials of some connections, those of the same ones once, and pass on what they are now."""
        sharing: dict[tuple[object, ...], list[Connection]] = {}
        asked: dict[tuple[object, ...], Identity] = {}
        for connection in batch:
            identity = self._connections.identity(connection)
            if identity is not None:
                stands_on = _stands_on(identity)
                asked[stands_on] = identity
                sharing.setdefault(stands_on, []).append(connection)
        if not asked:
            return
        async with asyncio.timeout(_WITHIN):
            found = await standing.reread(list(asked.values()))
        await self._tell(zip(sharing.values(), found, strict=True), batch)

    def _try_again(self, batch: dict[Connection, bool]) -> None:
        """Those for whom somebody waits; the others have their turn in the round."""
        for connection, judge in batch.items():
            if judge:
                self._look_soon([connection], judge=True)

    async def _tell(
        self, found: Iterable[tuple[Sequence[Connection], Identity | Lost]], batch: dict[Connection, bool]
    ) -> None:
        told = 0
        for those, what in found:
            for connection in those:
                self._tell_one(connection, what, judge=batch[connection])
                told += 1
                if told % _SLICE == 0:
                    await asyncio.sleep(0)

    def _tell_one(self, connection: Connection, what: Identity | Lost, *, judge: bool) -> None:
        before = self._connections.identity(connection)
        if before is None:
            return
        if isinstance(what, Lost):
            connection.close(_CODES[what])
        elif judge or what != before:
            self._connections.renewed(connection, what)
            connection.renew(what, judge=judge)


def _stands_on(identity: Identity) -> tuple[object, ...]:
    """What is equal for connections that came with the same credentials."""
    return identity.session_key, identity.token, identity.principal.user_id, identity.at_most


_controls: WeakKeyDictionary[Node, Control] = WeakKeyDictionary()


def start() -> Control:
    """The control of this process's Node, at work.  Raises RuntimeError outside of a started Node."""
    here = node()
    if here not in _controls:
        _controls[here] = Control(here, hub().connections, hub().judge)
    _controls[here].start()
    return _controls[here]
