"""Millpond: slow functions as fresh, live, shared values.

    from asgi_app import resource, action, Progress

Invariant: importing this package starts nothing and needs no Django settings; the names below are loaded when used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from asgi_app.api import (
        ainvalidate,
        ainvalidate_all,
        ainvalidate_value,
        apublish,
        aread,
        arefresh,
        arun,
        invalidate,
        invalidate_all,
        invalidate_value,
        publish,
        read,
        refresh,
        run,
    )
    from asgi_app.caching.pages import cached_page
    from asgi_app.caching.queries import acached_query, cache_queries_of, cached_query
    from asgi_app.control import akick, kick
    from asgi_app.invalidation import invalidate_on
    from asgi_app.notifying import anotify, notify, notify_all
    from asgi_app.registry import Principal, Progress, action, log, resource

_HOMES = {
    "asgi_app.registry": ("Principal", "Progress", "action", "log", "resource"),
    "asgi_app.caching.pages": ("cached_page",),
    "asgi_app.caching.queries": ("acached_query", "cache_queries_of", "cached_query"),
    "asgi_app.control": ("akick", "kick"),
    "asgi_app.invalidation": ("invalidate_on",),
    "asgi_app.notifying": ("anotify", "notify", "notify_all"),
    "asgi_app.api": (
        "ainvalidate",
        "ainvalidate_all",
        "ainvalidate_value",
        "apublish",
        "aread",
        "arefresh",
        "arun",
        "invalidate",
        "invalidate_all",
        "invalidate_value",
        "publish",
        "read",
        "refresh",
        "run",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Principal",
    "Progress",
    "acached_query",
    "action",
    "ainvalidate",
    "ainvalidate_all",
    "ainvalidate_value",
    "akick",
    "anotify",
    "apublish",
    "aread",
    "arefresh",
    "arun",
    "cache_queries_of",
    "cached_page",
    "cached_query",
    "invalidate",
    "invalidate_all",
    "invalidate_on",
    "invalidate_value",
    "kick",
    "log",
    "notify",
    "notify_all",
    "publish",
    "read",
    "refresh",
    "resource",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'asgi_app' has no attribute {name!r}")
