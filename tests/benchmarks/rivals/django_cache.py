"""The obvious Django code: `await cache.aget()`, and on a miss compute and `await cache.aset()`.

Default middleware, Django's own RedisCache unless `BENCH_BACKEND` names another, with `BENCH_NEAR` bytes of its own
memory.  `BENCH_STORE` is the URL of the store, `BENCH_HOME` where the slow function writes down that it ran; with
`BENCH_KEYS` so many keys are there from the start.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.cache import cache
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tests.benchmarks.work import SLOW_SECONDS, note, rows

if not settings.configured:
    settings.configure(
        SECRET_KEY="only for measuring",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        CACHES={
            "default": {
                "BACKEND": os.environ.get("BENCH_BACKEND", "django.core.cache.backends.redis.RedisCache"),
                "LOCATION": os.environ["BENCH_STORE"],
                "OPTIONS": {"near": int(os.environ["BENCH_NEAR"])} if "BENCH_NEAR" in os.environ else {},
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
        ],
        # as `startproject` writes them
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
    )
    django.setup()


async def table(request: HttpRequest) -> JsonResponse:
    """The rows from the cache."""
    key = f"rows-{request.GET.get('n', '0')}"
    value: list[dict[str, Any]] | None = await cache.aget(key)
    if value is None:
        value = rows()
        await cache.aset(key, value, timeout=3600)
    return JsonResponse(value, safe=False)


async def slow(request: HttpRequest, name: str) -> JsonResponse:
    """The rows from the cache, or after half a second."""
    value: list[dict[str, Any]] | None = await cache.aget(name)
    if value is None:
        note(Path(os.environ["BENCH_HOME"]), name)
        await asyncio.sleep(SLOW_SECONDS)
        value = rows()
        await cache.aset(name, value, timeout=3600)
    return JsonResponse(value, safe=False)


if "BENCH_KEYS" in os.environ:
    cache.set_many({f"rows-{number}": rows() for number in range(int(os.environ["BENCH_KEYS"]))}, timeout=3600)

urlpatterns = [path("rows", table), path("slow/<str:name>", slow)]
application = get_asgi_application()
