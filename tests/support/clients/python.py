"""Clients of `centrifuge-python`, in this process."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from centrifuge import CentrifugeError, Client, DeltaType, ReplyError, StreamPosition, UnauthorizedError
from centrifuge import Subscription as TheirSubscription

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

_CONNECTION = ("connecting", "connected", "disconnected", "error")
_SUBSCRIPTION = ("subscribing", "subscribed", "unsubscribed", "publication", "join", "leave")


class Python(Stocked):
    """Makes them."""

    async def _make(self, wishes: Wishes) -> Stock:
        return PythonStock(wishes)


class PythonStock(Stock):
    """A client."""

    def __init__(self, wishes: Wishes) -> None:
        super().__init__()
        self._frames: list[str] = []
        (transport, address), *_ = wishes.endpoints
        assert transport == "websocket"
        minimum, maximum = QUICK
        self._client = Client(
            address,
            events=_Teller(self.told),
            token=wishes.token,
            get_token=_token_of(wishes.get_token),
            timeout=wishes.timeout,
            max_server_ping_delay=wishes.ping_delay,
            data=wishes.data,
            headers=dict(wishes.headers),
            min_reconnect_delay=minimum,
            max_reconnect_delay=maximum,
            proxy=None,
        )
        decode = self._client._codec.decode_replies
        self._client._codec.decode_replies = lambda data: decode(self._seen(data))

    def _seen(self, data: Any) -> Any:
        self._frames.append(data if isinstance(data, str) else data.decode())
        return data

    async def connect(self) -> None:
        await self._client.connect()

    async def disconnect(self) -> None:
        """Also waits for the socket to be closed, which the client itself does not."""
        connection = self._client._conn
        await self._client.disconnect()
        if connection is not None:
            await connection.wait_closed()

    async def subscribe(self, channel: str, wanted: Wanted = PLAIN) -> None:
        subscription = self._client.get_subscription(channel) or self._subscription(channel, wanted)
        await subscription.subscribe()

    def _subscription(self, channel: str, wanted: Wanted) -> TheirSubscription:
        minimum, maximum = QUICK
        made = self._client.new_subscription(
            channel,
            events=_Teller(self.told, channel),
            token=wanted.token,
            get_token=_token_of(wanted.get_token),
            get_state=_state_of(wanted.get_state),
            join_leave=wanted.join_leave,
            delta=DeltaType.FOSSIL if wanted.delta else None,
            min_resubscribe_delay=minimum,
            max_resubscribe_delay=maximum,
        )
        if wanted.since is not None:  # it has no such option
            made._offset, made._epoch = wanted.since
            made._recover = True
        return made

    async def unsubscribe(self, channel: str) -> None:
        await self._client.get_subscription(channel).unsubscribe()

    async def publish(self, channel: str, data: Any) -> None:
        await _asked(self._client.publish(channel, data))

    async def history(
        self, channel: str, limit: int, since: tuple[int, str] | None = None, reverse: bool = False
    ) -> History:
        position = None if since is None else StreamPosition(offset=since[0], epoch=since[1])
        said = await _asked(self._client.history(channel, limit=limit, since=position, reverse=reverse))
        return History(said.offset, said.epoch, [_publication(channel, one) for one in said.publications])

    async def presence(self, channel: str) -> dict[str, Mapping[str, Any]]:
        said = await _asked(self._client.presence(channel))
        return {client: vars(one) for client, one in said.clients.items()}

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        said = await _asked(self._client.presence_stats(channel))
        return said.num_clients, said.num_users

    async def rpc(self, method: str, data: Any) -> Any:
        return (await _asked(self._client.rpc(method, data))).data

    async def frames(self) -> list[str]:
        return self._frames

    async def forget(self) -> None:
        await self.disconnect()


class _Teller:
    """Handlers of all events of a connection, or of a subscription."""

    def __init__(self, told: list[Event], channel: str = "") -> None:
        for kind in (*_CONNECTION, *_SUBSCRIPTION):
            setattr(self, f"on_{kind}", _handler(told, kind, channel))


def _handler(told: list[Event], kind: str, channel: str) -> Callable[[Any], Awaitable[None]]:
    async def handle(ctx: Any) -> None:
        told.append(_event(kind, channel or getattr(ctx, "channel", ""), ctx))

    return handle


def _event(kind: str, channel: str, ctx: Any) -> Event:
    if kind == "publication":
        return _publication(channel, ctx.pub)
    position = getattr(ctx, "stream_position", None)
    error = getattr(ctx, "error", None)
    return Event(
        kind=kind,
        channel=channel,
        data=getattr(ctx, "data", None),
        code=getattr(error, "code", getattr(ctx, "code", 0)),
        reason=getattr(ctx, "reason", str(error or "")),
        offset=getattr(position, "offset", 0),
        epoch=getattr(position, "epoch", ""),
        recoverable=getattr(ctx, "recoverable", False),
        was_recovering=getattr(ctx, "was_recovering", False),
        recovered=getattr(ctx, "recovered", False),
        info=_info(getattr(ctx, "info", None)),
        client=getattr(ctx, "client", ""),
        transport="websocket" if kind == "connected" else "",
    )


def _publication(channel: str, said: Any) -> Event:
    """Copied by way of JSON: the client gives a delta's base away."""
    return Event(
        kind="publication",
        channel=channel,
        data=json.loads(json.dumps(said.data)),
        offset=said.offset or 0,
        info=_info(said.info),
        tags=said.tags or {},
    )


def _info(said: Any) -> Mapping[str, Any]:
    return {} if said is None else vars(said)


def _token_of(answer: Answer | None) -> Callable[..., Awaitable[str]] | None:
    async def get(channel: str = "") -> str:
        assert answer is not None
        token = str(answer(channel))
        if not token:
            raise UnauthorizedError
        return token

    return None if answer is None else get


def _state_of(answer: Answer | None) -> Callable[[str], Awaitable[StreamPosition]] | None:
    async def get(channel: str) -> StreamPosition:
        assert answer is not None
        offset, epoch = answer(channel)
        return StreamPosition(offset=offset, epoch=epoch)

    return None if answer is None else get


async def _asked(said: Awaitable[Any]) -> Any:
    try:
        return await said
    except ReplyError as error:
        raise StockError(error.code, error.message) from error
    except CentrifugeError as error:
        raise StockError(0, repr(error)) from error
