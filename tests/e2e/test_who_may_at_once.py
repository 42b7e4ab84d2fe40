"""A kick, a logout, a right that was taken: all processes obey at once, and find out by themselves what nobody told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.emulated import Client
from tests.support.service import Service
from tests.support.shell import Shell
from tests.support.watcher import Watcher, eventually

pytestmark = pytest.mark.timeout(120)

PASSWORD = "correct horse battery staple"
#: As many connections as surely reach both processes.
MANY = 8
#: Seconds that the contract allows, and a busy machine's share.
AT_ONCE = 5.0 + 5.0


def django(shell: Shell, code: str) -> str:
    """Run code in another process, with `user(name)`."""
    tools = (
        "from django.contrib.auth.models import Group, Permission, User\n"
        "user = lambda name: User.objects.get(username=name)\n"
        "may = Permission.objects.get(codename='view_user')\n"
    )
    return shell.run(tools + code)


async def there(shell: Shell, code: str) -> str:
    return await asyncio.to_thread(django, shell, code)


@pytest.fixture
def name(shell: Shell) -> str:
    """A new user."""
    made = f"u{uuid4().hex[:10]}"
    django(shell, f"User.objects.create_user({made!r}, password={PASSWORD!r})")
    return made


class Browser:
    """Somebody's session."""

    def __init__(self, service: Service) -> None:
        self.http = httpx.AsyncClient(base_url=service.url, timeout=20)
        self.origin = service.url

    async def post(self, path: str, **form: str) -> None:
        await self.http.get("/login")
        form["csrfmiddlewaretoken"] = self.http.cookies["csrftoken"]
        done = await self.http.post(path, data=form, headers={"Origin": self.origin})
        assert done.status_code == 302, done.text

    @property
    def headers(self) -> dict[str, str]:
        """For its websockets."""
        return {"Cookie": f"sessionid={self.http.cookies['sessionid']}", "Origin": self.origin}


@asynccontextmanager
async def signed_in(service: Service, name: str) -> AsyncIterator[Browser]:
    browser = Browser(service)
    async with browser.http:
        await browser.post("/login", username=name, password=PASSWORD)
        yield browser


async def sockets(ends: AsyncExitStack, service: Service, count: int, **options: Any) -> list[Watcher]:
    """Websockets that are connected."""
    made = [await ends.enter_async_context(Watcher(service.websocket, **options)) for _ in range(count)]
    for watcher in made:
        await eventually(lambda watcher=watcher: watcher.connected, "connected")  # type: ignore[misc]
    return made


async def all_closed(watchers: list[Watcher], code: int) -> None:
    await eventually(lambda: all(one.disconnected for one in watchers), "all are closed", AT_ONCE)
    assert {one.disconnected[0].code for one in watchers} == {code}


async def all_back_as_the_public(watchers: list[Watcher]) -> None:
    """Told to come back, they have done so, and are nobody any more."""
    await eventually(lambda: all(len(one.connected) > 1 for one in watchers), "all are back", AT_ONCE + 10)
    assert {one.connecting[1].code for one in watchers} == {3011}
    for watcher in watchers:
        await watcher.watch("test.mine")
        await eventually(lambda watcher=watcher: refusals(watcher), "it is refused")  # type: ignore[misc]
        assert refusals(watcher) == [103]


def refusals(watcher: Watcher) -> list[int]:
    """Of what it asked for itself: the inbox, which the server subscribed, has ended without a code."""
    return [one.code for one in watcher.unsubscribed if hasattr(one, "code")]


def api_token(service: Service, name: str) -> str:
    return service.command("token", "create", name).strip()


async def test_whoever_is_kicked_is_out_everywhere(service: Service, name: str) -> None:
    """Websockets, emulated ones and streams, in all processes; others stay, and so may who comes back."""
    bearer = {"Authorization": f"Bearer {await asyncio.to_thread(api_token, service, name)}"}
    async with AsyncExitStack() as ends, Client(service.url, headers=bearer) as client:
        of_others = await sockets(ends, service, 2)
        of_user = await sockets(ends, service, MANY, headers=bearer)
        emulated = [await client.stays(door) for door in ("sse", "http_stream", "sse", "http_stream")]
        http = await ends.enter_async_context(httpx.AsyncClient(base_url=service.url, headers=bearer, timeout=20))
        events = [
            await ends.enter_async_context(http.stream("GET", "/api/v1/events", params={"topic": "test.mine"}))
            for _ in range(4)
        ]
        assert {one.status_code for one in events} == {200}
        await asyncio.to_thread(service.command, "kick", name)
        await all_closed(of_user, 3503)
        for stream in emulated:
            assert (await stream.ended())[-1] == {"push": {"disconnect": {"code": 3503, "reason": "force disconnect"}}}
        async with asyncio.timeout(AT_ONCE):
            for response in events:
                await response.aread()
        assert [one.disconnected for one in of_others] == [[], []]
        await sockets(ends, service, 1, headers=bearer)


async def test_a_logout_ends_what_stood_on_its_session(service: Service, name: str) -> None:
    """And nothing of the same user's other sessions."""
    async with signed_in(service, name) as one, signed_in(service, name) as other, AsyncExitStack() as ends:
        leaving = await sockets(ends, service, MANY, headers=one.headers)
        staying = await sockets(ends, service, 3, headers=other.headers)
        await one.post("/logout")
        await all_back_as_the_public(leaving)
        assert [len(watcher.connecting) for watcher in staying] == [1, 1, 1]
        await staying[0].watch("test.mine")
        await eventually(lambda: staying[0].values() == [{"user": name}], "the other session is as it was")


async def test_a_new_password_ends_the_sessions_of_the_old_one(service: Service, shell: Shell, name: str) -> None:
    async with signed_in(service, name) as browser, AsyncExitStack() as ends:
        watchers = await sockets(ends, service, MANY, headers=browser.headers)
        await there(shell, f"u = user({name!r}); u.set_password('another one'); u.save()")
        await all_back_as_the_public(watchers)


async def test_a_user_who_is_deactivated_is_out_however_they_came(service: Service, shell: Shell, name: str) -> None:
    """By cookie, by API token, by connection token, and does not come back."""
    bearer = {"Authorization": f"Bearer {await asyncio.to_thread(api_token, service, name)}"}
    async with signed_in(service, name) as browser, AsyncExitStack() as ends:
        minted = (await browser.http.post("/api/v1/connection/token", headers=bearer)).json()["token"]
        watchers = [
            *await sockets(ends, service, 3, headers=browser.headers),
            *await sockets(ends, service, 3, headers=bearer),
            *await sockets(ends, service, 3, token=minted),
        ]
        await there(shell, f"u = user({name!r}); u.is_active = False; u.save()")
        await all_closed(watchers, 3500)


@pytest.mark.parametrize(
    ("grant", "revoke"),
    [
        ("u.user_permissions.add(may)", "u.user_permissions.clear()"),
        ("g.permissions.add(may); g.user_set.add(u)", "g.permissions.remove(may)"),
        ("g.permissions.add(may); g.user_set.add(u)", "g.user_set.clear()"),
        ("g.permissions.add(may); g.user_set.add(u)", "g.delete()"),
        ("u.is_superuser = True; u.save()", "u.is_superuser = False; u.save()"),
    ],
)
async def test_a_right_that_is_taken_ends_all_it_gave(
    service: Service, shell: Shell, name: str, grant: str, revoke: str
) -> None:
    """Only that: what everybody may see goes on, and so does the connection."""
    lines = f"u = user({name!r}); g, _ = Group.objects.get_or_create(name={name!r})\n"
    await there(shell, lines + grant)
    bearer = {"Authorization": f"Bearer {await asyncio.to_thread(api_token, service, name)}"}
    async with AsyncExitStack() as ends:
        watchers = await sockets(ends, service, MANY, headers=bearer)
        for watcher in watchers:
            await watcher.watch("test.permitted")
            await watcher.watch(f"test.echo?text={name}")
        await eventually(lambda: all(len(one.values()) == 2 for one in watchers), "all see both")
        await there(shell, lines + revoke)
        await eventually(lambda: all(one.unsubscribed for one in watchers), "all have lost it", AT_ONCE)
        assert [[ctx.code for ctx in one.unsubscribed] for one in watchers] == [[2000]] * MANY
        assert {len(one.connecting) for one in watchers} == {1}


async def test_a_token_that_is_deleted_is_of_no_use(service: Service, shell: Shell, name: str) -> None:
    bearer = {"Authorization": f"Bearer {await asyncio.to_thread(api_token, service, name)}"}
    async with AsyncExitStack() as ends:
        watchers = await sockets(ends, service, MANY, headers=bearer)
        await there(shell, f"user({name!r}).millpond_tokens.all().delete()")
        await all_closed(watchers, 3500)


async def test_what_passes_by_the_signals_is_found_in_turn(service: Service, shell: Shell, name: str) -> None:
    """Within a minute at most, in all processes."""
    async with signed_in(service, name) as browser, AsyncExitStack() as ends:
        watchers = await sockets(ends, service, MANY, headers=browser.headers)
        await there(shell, f"User.objects.filter(username={name!r}).update(is_active=False)")
        await eventually(lambda: all(one.disconnected for one in watchers), "all are closed", 60)
        assert {one.disconnected[0].code for one in watchers} == {3500}
