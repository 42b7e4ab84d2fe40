"""Clients of npm's `centrifuge`, driven by messages (driver.js), wherever JavaScript runs.

Invariant: an order is answered, or its caller gets an error within `PATIENCE`.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from tests.support.clients.stock import (
    PLAIN,
    QUICK,
    Answer,
    Event,
    History,
    Stock,
    Stocked,
    StockError,
    Wanted,
    Wishes,
)

VERSIONS = ("5.7.4", "5.8.0")
PATIENCE = 30.0


class JavaScript(Stocked):
    """A driver, and the clients that it holds.  What it tells comes to `take`, on any thread."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self._version = version
        self._numbers = itertools.count(1)
        self._orders: dict[int, Future[Any]] = {}
        self._clients: dict[str, JsStock] = {}

    @abstractmethod
    def send(self, message: Mapping[str, Any]) -> None:
        """Hand a message to the driver."""

    async def order(self, op: str, client: str, **more: Any) -> Any:
        """Have something done; its result.  Raises StockError."""
        number, answered = next(self._numbers), Future[Any]()
        self._orders[number] = answered
        self.send({"n": number, "op": op, "client": client, **more})
        return await asyncio.wait_for(asyncio.wrap_future(answered), PATIENCE)

    def take(self, message: Mapping[str, Any]) -> None:
        """A message of the driver."""
        client = self._clients.get(message.get("client", ""))
        if "n" in message:
            settle(self._orders.pop(message["n"]), message)
        elif "fault" in message:
            self.faults.append(message["fault"])
        elif client is not None and "ask" in message:
            self.send({"answer": message["ask"], **client.answer(message["what"], message["ctx"] or {})})
        elif client is not None:
            client.told.append(event(message))

    async def _make(self, wishes: Wishes) -> Stock:
        name = f"c{next(self._numbers)}"
        made = self._clients[name] = JsStock(self, name, wishes)
        endpoints = [{"transport": transport, "endpoint": address} for transport, address in wishes.endpoints]
        await self.order(
            "make",
            name,
            version=self._version,
            endpoints=endpoints,
            headers=dict(wishes.headers),
            options=options(wishes),
        )
        return made

    def dropped(self, name: str) -> None:
        """That client is gone."""
        self._clients.pop(name, None)


def settle(answered: Future[Any], message: Mapping[str, Any]) -> None:
    """The answer to an order."""
    if not answered.set_running_or_notify_cancel():
        return
    if "error" in message:
        answered.set_exception(StockError(message["error"]["code"], message["error"]["message"]))
    else:
        answered.set_result(message.get("result"))


class JsStock(Stock):
    """A client in a driver."""

    def __init__(self, driver: JavaScript, name: str, wishes: Wishes) -> None:
        super().__init__()
        self._driver, self._name = driver, name
        self._answers: dict[tuple[str, str], Answer] = {}
        if wishes.get_token is not None:
            self._answers["getToken", ""] = wishes.get_token

    def answer(self, what: str, ctx: Mapping[str, Any]) -> dict[str, Any]:
        """What the application says."""
        channel = ctx.get("channel") or ""
        try:
            value = self._answers[what, channel](channel)
        except Exception as error:
            return {"error": str(error)}
        return {"value": {"offset": value[0], "epoch": value[1]} if what == "getState" else value}

    async def _order(self, op: str, **more: Any) -> Any:
        return await self._driver.order(op, self._name, **more)

    async def connect(self) -> None:
        await self._order("connect")

    async def disconnect(self) -> None:
        await self._order("disconnect")

    async def subscribe(self, channel: str, wanted: Wanted = PLAIN) -> None:
        await self._order("subscribe", channel=channel, options=self.options(channel, wanted))

    def options(self, channel: str, wanted: Wanted) -> dict[str, Any]:
        """Those of a subscription."""
        asks = {"getToken": wanted.get_token, "getState": wanted.get_state}
        given = {name: answer for name, answer in asks.items() if answer is not None}
        for name, answer in given.items():
            self._answers[name, channel] = answer
        made: dict[str, Any] = {**delays("Resubscribe"), "asks": list(given), "joinLeave": wanted.join_leave}
        if wanted.since is not None:
            made["since"] = {"offset": wanted.since[0], "epoch": wanted.since[1]}
        if wanted.token:
            made["token"] = wanted.token
        if wanted.delta:
            made["delta"] = "fossil"
        return made

    async def unsubscribe(self, channel: str) -> None:
        await self._order("unsubscribe", channel=channel)

    async def resubscribe(self, channel: str) -> None:
        """Unsubscribe and subscribe in one go."""
        await self._order("resubscribe", channel=channel)

    async def publish(self, channel: str, data: Any) -> None:
        await self._order("publish", channel=channel, data=data)

    async def history(
        self, channel: str, limit: int, since: tuple[int, str] | None = None, reverse: bool = False
    ) -> History:
        asked: dict[str, Any] = {"limit": limit, "reverse": reverse}
        if since is not None:
            asked["since"] = {"offset": since[0], "epoch": since[1]}
        said = await self._order("history", channel=channel, options=asked)
        publications = [event({"event": "publication", "channel": channel, "ctx": one}) for one in said["publications"]]
        return History(said["offset"], said["epoch"], publications)

    async def presence(self, channel: str) -> dict[str, Mapping[str, Any]]:
        said = await self._order("presence", channel=channel)
        return {client: info(one) for client, one in said["clients"].items()}

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        said = await self._order("presenceStats", channel=channel)
        return said["numClients"], said["numUsers"]

    async def rpc(self, method: str, data: Any) -> Any:
        return (await self._order("rpc", method=method, data=data))["data"]

    async def batch(self, *orders: Mapping[str, Any]) -> list[Any]:
        """Orders of the driver, carried out between startBatching and stopBatching; their answers."""
        return list(await self._order("batch", orders=orders))

    async def frames(self) -> list[str]:
        return list(await self._order("frames"))

    async def forget(self) -> None:
        await self._order("forget")
        self._driver.dropped(self._name)


def options(wishes: Wishes) -> dict[str, Any]:
    """Those of a client."""
    made: dict[str, Any] = {
        **delays("Reconnect"),
        "timeout": wishes.timeout * 1000,
        "maxServerPingDelay": wishes.ping_delay * 1000,
        "asks": [] if wishes.get_token is None else ["getToken"],
    }
    optional = {"emulationEndpoint": wishes.emulation, "token": wishes.token, "data": wishes.data}
    return {**made, **{name: value for name, value in optional.items() if value}}


def delays(what: str) -> dict[str, float]:
    """Milliseconds between attempts."""
    return {f"{bound}{what}Delay": seconds * 1000 for bound, seconds in zip(("min", "max"), QUICK, strict=True)}


def event(message: Mapping[str, Any]) -> Event:
    """What was told, in our words."""
    ctx = message.get("ctx") or {}
    position, error = ctx.get("streamPosition") or {}, ctx.get("error") or {}
    return Event(
        kind=message["event"],
        channel=message.get("channel") or "",
        data=ctx.get("data"),
        code=ctx.get("code", error.get("code", 0)),
        reason=ctx.get("reason", error.get("message", "")),
        offset=ctx.get("offset", position.get("offset", 0)) or 0,
        epoch=position.get("epoch", ""),
        recoverable=ctx.get("recoverable", False),
        was_recovering=ctx.get("wasRecovering", False),
        recovered=ctx.get("recovered", False),
        info=info(ctx.get("info")),
        tags=ctx.get("tags") or {},
        client=ctx.get("client", ""),
        transport=ctx.get("transport") or "",
    )


def info(said: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Who somebody is."""
    if not said:
        return {}
    names = {"client": "client", "user": "user", "conn_info": "connInfo", "chan_info": "chanInfo"}
    return {ours: said.get(theirs) for ours, theirs in names.items()}
