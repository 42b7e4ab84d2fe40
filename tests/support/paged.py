"""Cached pages: what each shows is what its test says under its name."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import AsyncClient
from django.urls import URLPattern, path

from asgi_app import wiring
from asgi_app.caching.pages import cached_page

#: Name -> what the view does.
shows: dict[str, Callable[[HttpRequest], Any]] = {}
#: Name -> how often it did.
runs: Counter[str] = Counter()


def shown(name: str, show: Callable[[HttpRequest], Any] | None = None) -> str:
    """Let the page `name` show what `show` returns (or awaits); without it how often it was made."""
    shows[name] = show or (lambda _: HttpResponse(f"run {runs[name]}"))
    runs[name] = 0
    return name


async def _view(request: HttpRequest, name: str) -> HttpResponseBase:
    runs[name] += 1
    found = shows[name](request)
    return await found if inspect.isawaitable(found) else found  # type: ignore[no-any-return]


def _sync_view(request: HttpRequest, name: str) -> HttpResponseBase:
    runs[name] += 1
    return shows[name](request)  # type: ignore[no-any-return]


def _tags(request: HttpRequest) -> list[str]:
    return [f"shown.{request.path.rsplit('/', 1)[1]}"]


def urls() -> tuple[URLPattern, ...]:
    """A URLconf of views that have learned nothing yet."""
    return (
        path("private/<name>", cached_page(60, tags=_tags)(_view)),
        path("public/<name>", cached_page(60, tags=_tags, public=True)(_view)),
        path("sync/<name>", cached_page(60, tags=_tags)(_sync_view)),
        path("quick/<name>", cached_page(60, public=True, time_limit=0.1)(_view)),
        path("tenant/<name>", cached_page(60, vary=lambda request: request.headers["Tenant"])(_view)),
    )


@asynccontextmanager
async def browser(user: User | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, logged in or not, at the ASGI application of this process."""
    from asgi_app.asgi import application

    cookies = {}
    if user is not None:
        client = AsyncClient()
        await client.aforce_login(user)
        cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", cookies=cookies) as made:
        yield made


@asynccontextmanager
async def gone_reader(path: str) -> AsyncIterator[None]:
    """Somebody who asks for a page, and closes the connection when the body of the `with` is over."""
    from asgi_app.asgi import application

    asked, goes = iter([{"type": "http.request"}]), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if (message := next(asked, None)) is not None:
            return message
        await goes.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(f"nobody is there to be told: {message}")

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    asking = asyncio.create_task(application(scope, receive, send))
    yield
    goes.set()
    await asking


#: What a browser sends with a form: the cookie of the token, and the token.
TOKEN = {"Cookie": f"csrftoken={'a' * 32}", "X-CSRFToken": "a" * 32}


async def a_user(name: str) -> User:
    """A user of that name."""
    return await sync_to_async(User.objects.create_user)(name)


@asynccontextmanager
async def a_node() -> AsyncIterator[wiring.Node]:
    """This process's Node, on the test's own loop."""
    node = await wiring.start_node(near=True)
    try:
        yield node
    finally:
        await wiring.stop_node()
