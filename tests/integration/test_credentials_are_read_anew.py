"""Many credentials are read at once, and mean what each of them means alone; orders that nobody heard are obeyed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from asgi_app import access, control, standing
from asgi_app.access import Identity
from asgi_app.env import env
from asgi_app.models import ApiToken
from asgi_app.registry import Principal
from asgi_app.standing import Asked, Lost
from consumers import control as controls
from consumers.connections import Connections
from consumers.control import Control
from consumers.frames import Closes, Code
from consumers.judging import Judge
from tests.support.processes import Process
from tests.support.proxy import Proxy
from tests.support.store import StoreServer
from tests.support.watcher import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("store_server")]


def people() -> list[User]:
    """Each with rights of another kind."""
    may = list(Permission.objects.order_by("pk")[:4])
    plain, granted, grouped, both, root, staff = (User.objects.create_user(name) for name in "abcdef")
    group = Group.objects.create(name="g")
    group.permissions.set(may[1:3])
    granted.user_permissions.set(may[:2])
    grouped.groups.add(group)
    both.groups.add(group)
    both.user_permissions.set(may[2:])
    User.objects.filter(pk=root.pk).update(is_superuser=True)
    User.objects.filter(pk=staff.pk).update(is_staff=True)
    return [User.objects.get(pk=user.pk) for user in (plain, granted, grouped, both, root, staff)]


def session_of(user: User) -> str:
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    return str(store.session_key)


def scope_of(key: str) -> dict[str, Any]:
    origin = env().allowed_origins[0] if env().allowed_origins else "http://localhost:8000"
    headers = [(b"cookie", f"sessionid={key}".encode()), (b"host", origin.partition("//")[2].encode())]
    return {"type": "http", "headers": headers}


async def known_by_each_way(users: list[User]) -> list[Identity]:
    """By cookie, by API token, by connection token, without and with a limit."""
    found = []
    for user in users:
        found.append(await access.identify(scope_of(await sync_to_async(session_of)(user))))
        token = await sync_to_async(access.create_token)(user.username, 1, ("read",))
        found.append(
            await access.identify({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]})
        )
        owner = await access.principal_of(str(user.pk))
        found.append(Identity(principal=owner))
        limited = access.with_scopes(owner, owner.scopes & {"read"})
        found.append(Identity(principal=limited, at_most=frozenset({"read"})))
    return found


async def test_what_has_not_changed_is_read_as_it_was() -> None:
    """However somebody came, and also of ids that only another back end knows."""
    known = await known_by_each_way(await sync_to_async(people)())
    known += [Identity(principal=access.stranger(name)) for name in ("stranger-42", " 1", "9" * 30, "")]
    assert len({one.principal.permissions for one in known}) == 6
    assert await standing.reread(known) == known


async def test_whoever_comes_is_who_they_would_be_alone() -> None:
    """Read together, and the same as one by one; also those who must not come in."""
    users = await sync_to_async(people)()
    known = await known_by_each_way(users)
    known += [Identity(principal=access.stranger("stranger-42"))]
    asked = [
        Asked(token=one.token, session_key=one.session_key, user_id=_named(one), at_most=one.at_most) for one in known
    ]
    found = await standing.read([*asked, Asked(token="x"), Asked(session_key="x")])
    assert found == [*known, None, Identity(principal=Principal.public())]
    assert [one.session_key for one in found[:-2] if one] == [one.session_key for one in known]
    await sync_to_async(User.objects.all().update)(is_active=False)
    out = await standing.read(asked)
    assert [None if one is None else one.principal.is_anonymous for one in out] == [True, None, None, None] * 6 + [
        False
    ]


def _named(identity: Identity) -> str:
    return "" if identity.token or identity.session_key else identity.principal.user_id or ""


async def test_it_costs_the_same_few_queries_for_many() -> None:
    users = await sync_to_async(people)()
    known = await known_by_each_way(users)

    def counted() -> int:
        with CaptureQueriesContext(connection) as queries:
            standing._reread(known * 20)
        return len(queries)

    assert await sync_to_async(counted)() == 6


async def test_what_does_not_hold_any_more_is_told_apart() -> None:
    """A session that is over, or of a former password, is not the same as a user who is out."""
    users = await sync_to_async(people)()
    known = await known_by_each_way(users)
    _, changed, out, revoked, gone, staff = users

    def change() -> None:
        Session.objects.filter(session_key=known[0].session_key).delete()
        changed.set_password("another")
        changed.save()
        User.objects.filter(pk=out.pk).update(is_active=False)
        ApiToken.objects.filter(user=revoked).update(expires_at=timezone.now())
        gone.delete()
        User.objects.filter(pk=staff.pk).update(is_staff=False)

    before = str(gone.pk)
    await sync_to_async(change)()
    found = await standing.reread(known)
    by_user = [found[at : at + 4] for at in range(0, len(found), 4)]
    assert by_user[0] == [Lost.SESSION, *known[1:4]]
    assert by_user[1] == [Lost.SESSION, *known[5:8]]
    assert by_user[2] == [Lost.CREDENTIALS] * 4
    assert by_user[3] == [known[12], Lost.CREDENTIALS, *known[14:16]]
    assert by_user[4][:2] == [Lost.SESSION, Lost.CREDENTIALS]
    assert by_user[4][2] == Identity(principal=access.stranger(before))
    assert all(isinstance(one, Identity) and not access.is_staff(one.principal) for one in by_user[5])
    assert access.is_staff(known[20].principal)


class Open:
    """A connection that writes down what it is told."""

    transport, stuck = "websocket", 0.0

    def __init__(self, all_: Connections, identity: Identity) -> None:
        self._all = all_
        self.closed: list[Code] = []
        self.renewals: list[tuple[Identity, bool]] = []
        assert all_.admit(self)
        assert all_.identify(self, identity)

    def drain(self) -> None:
        raise AssertionError

    def close(self, code: Code) -> None:
        self.closed.append(code)
        self._all.release(self)

    def renew(self, identity: Identity, *, judge: bool) -> None:
        self.renewals.append((identity, judge))


@pytest.fixture
async def proxied(store_server: StoreServer, namespace: str, tmp_path: Path) -> AsyncIterator[tuple[Proxy, Process]]:
    """A process whose feed goes through a proxy, while its other connections do not."""
    async with AsyncExitStack() as ends:
        proxy = ends.enter_context(Proxy(store_server.socket, tmp_path / "p.sock"))
        process = Process(store_server.url, namespace, near=False, feed=proxy.url)
        yield proxy, await ends.enter_async_context(process)


async def test_orders_that_were_missed_are_obeyed_after_the_gap(proxied: tuple[Proxy, Process]) -> None:
    """The kicks of that time, and none of who came only after one; rights are looked for."""
    proxy, process = proxied
    users = await sync_to_async(people)()
    kicked, demoted, quiet = [Identity(principal=await access.principal_of(str(user.pk))) for user in users[3:]]
    all_ = Connections(100, 100)
    here: Any = process
    orders = Control(here, all_, Judge())
    orders.start()
    try:
        proxy.cut()
        ones = [Open(all_, identity) for identity in (kicked, demoted, quiet)]
        await control._kick(here, str(users[3].pk))
        await asyncio.sleep(2)  # how long ago a kick was is known but for the time of a round trip
        late = Open(all_, kicked)
        await sync_to_async(User.objects.filter(pk=users[4].pk).update)(is_superuser=False)
        proxy.heal()
        await eventually(lambda: ones[0].closed and ones[1].renewals, "what was missed is obeyed")
        assert ones[0].closed == [Closes.FORCE_DISCONNECT]
        assert [identity.principal.permissions for identity, _ in ones[1].renewals] == [frozenset()]
        assert (ones[2].closed, ones[2].renewals, late.closed) == ([], [], [])
    finally:
        await orders.stop()


async def test_who_is_being_let_in_when_the_order_comes_is_found(proxied: tuple[Proxy, Process]) -> None:
    """Their rights may have been read before it."""
    _, process = proxied
    (user, other, *_) = await sync_to_async(people)()
    identities = [Identity(principal=await access.principal_of(str(one.pk))) for one in (user, other)]
    all_ = Connections(100, 100)
    here: Any = process
    orders = Control(here, all_, Judge())
    orders.start()
    try:
        early = [Open.__new__(Open) for _ in identities]
        for one in early:
            one._all, one.closed, one.renewals = all_, [], []
            assert all_.admit(one)
        await sync_to_async(User.objects.filter(pk=user.pk).update)(is_active=False)
        await control._publish(here, control.Order(users=(str(user.pk),)))
        await control._kick(here, str(other.pk))
        await eventually(lambda: len(orders._orders) == 2, "the orders came")
        for one, identity in zip(early, identities, strict=True):
            assert all_.identify(one, identity)
        await eventually(lambda: all(one.closed for one in early), "both are out")
        assert [one.closed for one in early] == [[Closes.INVALID_TOKEN], [Closes.FORCE_DISCONNECT]]
    finally:
        await orders.stop()


async def test_an_order_outlives_an_error_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch, proxied: tuple[Proxy, Process]
) -> None:
    """It is carried out at the next try, and not only when it is their turn in the round."""
    monkeypatch.setattr(controls, "ROUND", 600.0)
    monkeypatch.setattr(controls, "_AGAIN", 0.1)
    reread, tries = standing.reread, 0

    async def fails_at_first(identities: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("no")
        return await reread(identities)

    _, process = proxied
    (user, *_) = await sync_to_async(people)()
    all_ = Connections(100, 100)
    one = Open(all_, Identity(principal=await access.principal_of(str(user.pk))))
    here: Any = process
    orders = Control(here, all_, Judge())
    orders.start()
    try:
        await eventually(lambda: process.feed.healthy, "it hears")
        monkeypatch.setattr(standing, "reread", fails_at_first)
        await sync_to_async(User.objects.filter(pk=user.pk).update)(is_active=False)
        await control._publish(here, control.Order(users=(str(user.pk),)))
        await eventually(lambda: one.closed, "they are out")
        assert tries >= 2
    finally:
        await orders.stop()


async def test_all_have_their_turn_in_a_round(monkeypatch: pytest.MonkeyPatch, proxied: tuple[Proxy, Process]) -> None:
    """Those of the same user are read together, and nobody is told what has not changed."""
    monkeypatch.setattr(controls, "ROUND", 0.5)
    monkeypatch.setattr(controls, "_STEP", 0.05)
    _, process = proxied
    users = await sync_to_async(people)()
    all_ = Connections(1000, 100)
    ones = [
        Open(all_, Identity(principal=await access.principal_of(str(user.pk)))) for user in users for _ in range(40)
    ]
    here: Any = process
    orders = Control(here, all_, Judge())
    orders.start()
    try:
        await sync_to_async(User.objects.filter(pk=users[0].pk).update)(is_staff=True)
        await sync_to_async(User.objects.filter(pk=users[1].pk).update)(is_active=False)
        await eventually(lambda: all(one.renewals for one in ones[:40]), "all of the one are told")
        await eventually(lambda: all(one.closed for one in ones[40:80]), "all of the other are out")
        began = time.monotonic()
        await eventually(lambda: time.monotonic() > began + 1.2, "two more rounds")
        assert {len(one.renewals) for one in ones[:40]} == {1}
        assert not any(one.renewals or one.closed for one in ones[80:])
    finally:
        await orders.stop()
