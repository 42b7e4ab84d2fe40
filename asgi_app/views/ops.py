"""For those who run the service: alive, ready, and what it counts.

Invariant: all answer within two seconds whatever is broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from asgi_app import wiring
from asgi_app.exposition import CONTENT_TYPE, exposition
from asgi_app.registry import registry
from asgi_app.views.http import reply
from cache_layer.errors import StoreUnavailable

_DEADLINE = 1.5


@csrf_exempt
@require_safe
async def livez(request: HttpRequest) -> HttpResponse:
    """`GET /livez`: this process answers."""
    return reply({"status": "alive"})


@csrf_exempt
@require_safe
async def readyz(request: HttpRequest) -> HttpResponse:
    """`GET /readyz`: every part by name; 503 while one is broken or this process is leaving."""
    node = wiring.node()
    parts: dict[str, Callable[[], Awaitable[str]]] = {
        "store": _store,
        "feed": _feed,
        "database": _database,
        "worker": lambda: _role("worker"),
        "scheduler": lambda: _role("scheduler"),
    }
    found = await asyncio.gather(*(_bounded(part) for part in parts.values()))
    checks = {name: _check(wrong) for name, wrong in zip(parts, found, strict=True)}
    if node.draining:
        status = "draining"
    else:
        status = "broken" if any(found) else "ready"
    response = reply({"status": status, "checks": checks}, 200 if status == "ready" else 503)
    if status != "ready":
        response["Retry-After"] = "2"
    return response


@csrf_exempt
@require_safe
async def metrics(request: HttpRequest) -> HttpResponse:
    """`GET /metrics`: what this process counts, and how the queues are, for Prometheus."""
    node, queues = wiring.node(), None
    with suppress(StoreUnavailable, TimeoutError):  # then they are missing
        async with asyncio.timeout(_DEADLINE):
            queues = await node.queues.statistics(registry.queues())
    response = HttpResponse(exposition(node, queues), content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


def _check(wrong: str) -> dict[str, str]:
    return {"status": "failed", "detail": wrong} if wrong else {"status": "ok"}


async def _bounded(part: Callable[[], Awaitable[str]]) -> str:
    try:
        async with asyncio.timeout(_DEADLINE):
            return await part()
    except TimeoutError:
        return f"no answer in {_DEADLINE:g} s"
    except StoreUnavailable as error:
        return str(error)


async def _store() -> str:
    await wiring.node().store.ping()
    return ""


async def _feed() -> str:
    return "" if wiring.node().feed.healthy else "the subscription connection to the store is down"


async def _database() -> str:
    def select() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        finally:
            connection.close_if_unusable_or_obsolete()

    try:
        async with ThreadSensitiveContext():
            await sync_to_async(select)()
    except Exception as error:
        return f"the database does not answer: {type(error).__name__}"
    return ""


async def _role(role: str) -> str:
    alive = await wiring.node().records.alive(role)
    return "" if alive[role] else f"no {role} has shown a sign of life lately"
