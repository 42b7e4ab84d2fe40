"""Rights that change while somebody is there: clients are told within seconds, and know what to do."""

from __future__ import annotations

import asyncio

from tests.e2e.clients.conftest import Make, outside_browsers
from tests.e2e.clients.people import People
from tests.support.clients.claims import minted
from tests.support.service import Service

#: Seconds in which a change has to take effect.
SOON = 5.0

_PERMISSION = """
from django.contrib.auth.models import Permission, User
permission = Permission.objects.get(codename='view_group')
"""
_ANN = "User.objects.get(username='ann').user_permissions"


async def test_who_is_kicked_stays_away(make: Make, people: People) -> None:
    """All connections of the user end with 3503, of the others none."""
    made = [await make(token=minted(people.ids["ben"])) for _ in range(3)]
    other = await make(token=minted(people.ids["ann"]))
    for client in (*made, other):
        await client.connected()
    await people.shell(f"from asgi_app.control import kick; kick({people.ids['ben']!r})")
    for client in made:
        assert (await client.event("disconnected", within=SOON)).code == 3503
    await asyncio.sleep(0.5)
    assert all(len(client.of("connecting")) == 1 for client in made)
    assert other.of("disconnected") == []


@outside_browsers
async def test_a_logout_is_the_end_of_what_was_seen_by_it(make: Make, people: People, service: Service) -> None:
    """3011: the clients come back as the public; what was private is over."""
    cookies = await people.cookies("ann")
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    client = await make(headers={"Cookie": header, "Origin": service.url})
    await client.connected()
    await client.subscribe("test.mine")
    await client.hears("test.mine", {"user": "ann"})
    await people.log_out(cookies)
    assert (await client.event("connecting", number=2, within=SOON)).code == 3011
    await client.event("connected", number=2)
    assert (await client.event("unsubscribed", "test.mine")).code == 103


async def test_a_right_that_is_lost_ends_the_subscription(make: Make, people: People, unique: str) -> None:
    """2000, for good; the connection and what else is on it go on."""
    topic = f"permitted.{unique}"
    await people.shell(f"{_PERMISSION}{_ANN}.add(permission)")
    client = await make(token=minted(people.ids["ann"]))
    await client.connected()
    await client.subscribed(topic)
    await people.shell(f"{_PERMISSION}{_ANN}.remove(permission)")
    assert (await client.event("unsubscribed", topic, within=SOON)).code == 2000
    await client.subscribed(f"open.{unique}")
    assert len(client.of("connected")) == 1
