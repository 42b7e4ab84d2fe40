"""Who watches what, in both processes together: for the staff, and nobody else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.test_who_may_at_once import django, sockets
from tests.support.service import Service
from tests.support.shell import Shell
from tests.support.watcher import eventually


@pytest.fixture(scope="module")
def staff(service: Service, shell: Shell) -> dict[str, str]:
    """Headers of somebody with access to the admin."""
    name = f"s{uuid4().hex[:10]}"
    django(shell, f"User.objects.create_user({name!r}, password='x', is_staff=True)")
    return {"Authorization": f"Bearer {service.command('token', 'create', name).strip()}"}


async def overview(http: httpx.AsyncClient) -> dict[str, Any]:
    answer = await http.get("/api/v1/watch")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


async def test_watchers_are_counted_over_all_processes(service: Service, staff: dict[str, str]) -> None:
    """With what is told and computed of a topic, how long that takes, and who of them looks."""
    name = uuid4().hex[:12]
    topic, failing = f"test.watched?name={name}", f"test.fails?message={name}"
    async with AsyncExitStack() as ends:
        http = await ends.enter_async_context(httpx.AsyncClient(base_url=service.url, headers=staff, timeout=20))
        watchers = await sockets(ends, service, 8)
        for watcher in watchers:
            await watcher.watch(topic)
            await watcher.watch(failing)
        await watchers[0].client.rpc("hidden", {"hidden": True})
        rows: dict[str, Any] = {}

        async def seen(**expected: Any) -> None:
            deadline = asyncio.get_running_loop().time() + 30
            while not expected.items() <= rows.get(topic, {}).items():
                assert asyncio.get_running_loop().time() < deadline, rows.get(topic)
                await asyncio.sleep(0.2)
                rows.update({row["topic"]: row for row in (await overview(http))["topics"]})

        await seen(watchers=8, hidden=1, kind="value", state="fresh", error="")
        assert rows[topic]["seconds"] > 0
        assert (rows[failing]["state"], name in rows[failing]["error"]) == ("failed", True)
        found = await overview(http)
        assert len(found["processes"]) == 2
        assert sum(process["connections"]["websocket"] for process in found["processes"]) >= 8
        await watchers[0].client.rpc("hidden", {"hidden": False})
        await seen(watchers=8, hidden=0)
        for watcher in watchers[1:]:
            await watcher.leave()
        await seen(watchers=1)


async def test_only_the_staff_sees_it(service: Service, shell: Shell) -> None:
    """As JSON and as a page; whoever has no account is asked to sign in."""
    name = f"n{uuid4().hex[:10]}"
    await asyncio.to_thread(django, shell, f"User.objects.create_user({name!r}, password='correct horse battery')")
    token = (await asyncio.to_thread(service.command, "token", "create", name)).strip()
    async with httpx.AsyncClient(base_url=service.url, timeout=20) as http:
        assert (await http.get("/api/v1/watch")).status_code == 401
        assert (await http.get("/api/v1/watch", headers={"Authorization": f"Bearer {token}"})).status_code == 403
        page = await http.get("/watch?q=a")
        assert (page.status_code, page.headers["location"]) == (302, "/login?next=/watch%3Fq%3Da")
        form = {"username": name, "password": "correct horse battery", "csrfmiddlewaretoken": ""}
        await http.get("/login")
        form["csrfmiddlewaretoken"] = http.cookies["csrftoken"]
        assert (await http.post("/login", data=form, headers={"Origin": service.url})).status_code == 302
        assert (await http.get("/watch")).status_code == 403


async def test_connections_are_counted_for_prometheus(service: Service) -> None:
    """By transport, with what was told and why connections were closed."""
    async with AsyncExitStack() as ends:
        watchers = await sockets(ends, service, 4)
        for watcher in watchers:
            await watcher.watch(f"test.short?name={uuid4().hex[:8]}")
        await eventually(partial(_all_told, watchers), "all have a value")
        text = (await asyncio.to_thread(service.get, "/metrics")).text
        for sample in ("connections{", "subscriptions{", "loop_lag_seconds{", 'pushes_total{process="'):
            assert f"millpond_{sample}" in text


def _all_told(watchers: list[Any]) -> bool:
    return all(watcher.values() for watcher in watchers)
