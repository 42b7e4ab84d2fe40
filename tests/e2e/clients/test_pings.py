"""A connection on which nothing happens lives on: pings come, the clients answer them, and nobody is taken for dead."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.clients.conftest import CHROMIUM_KINDS, NODE, Stocks
from tests.support.clients.stock import Wishes
from tests.support.service import Service

#: Seconds the service waits for the answer to a ping.
ANSWER_WITHIN = 10.0


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param([*NODE, "python"], id="outside browsers"),
        pytest.param(CHROMIUM_KINDS[-1:], id="browsers", marks=pytest.mark.browser),
    ],
)
async def test_a_quiet_connection_lives_on(kinds: list[str], service: Service, stocks: Stocks, unique: str) -> None:
    """Until the time after its first ping is over in which an answer has to be there, and the client's own, too."""
    made = [stocks.find(kind, service.url) for kind in kinds]
    clients = [await stocked.new(Wishes(endpoints=[("websocket", service.websocket)])) for stocked in made]
    for client in clients:
        await client.connected()
    for client in clients:
        async with asyncio.timeout(40):
            while "{}" not in await client.frames():
                await asyncio.sleep(0.2)
    await asyncio.sleep(ANSWER_WITHIN + 1)
    for client in clients:
        await client.subscribed(f"open.{unique}")
        assert (len(client.of("connected")), client.of("error")) == (1, [])
    for stocked in made:
        await stocked.forget_all()
