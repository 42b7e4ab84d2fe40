"""Django's test classes with our back end in their settings.  Imported inside Django's own runner.

Invariant: a test is Django's, unchanged, or its asynchronous twin, or skipped by the table in `configurations.py`.
"""

from __future__ import annotations

import os
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from django.core.cache import caches
from django.test import TestCase, override_settings

from tests.integration.django_suite.configurations import CONFIGURATIONS, PAGES, REFUSED, SESSIONS, Configuration
from tests.integration.django_suite.twin import twin_of

#: The store's URL without its database, set by whoever starts Django's runner.
URL = "MILLPOND_DJANGO_SUITE_STORE"
_BACKEND = "asgi_app.cache_backend.MillpondCache"
_NEAR = 4 * 1024 * 1024
#: Calls the twin awaits at least; there were 377 with Django 5.2.19.
_LEAST_AWAITED = 360
_LAST_DATABASE = 15


def cache_cases(module: str) -> dict[str, type]:
    """Classes for a module of that name: the cache API, each configuration; and pages."""
    time.sleep = _longer
    tests = import_module("cache.tests")
    twin, awaited = twin_of(tests)
    assert awaited >= _LEAST_AWAITED, f"only {awaited} calls of the twin are awaited"
    cases = [_api_case(one, twin if one.twin else tests.BaseCacheTests, tests) for one in CONFIGURATIONS]
    cases += [_page_case(getattr(tests, name), *how) for name in PAGES for how in _hows()]
    return _named(cases, module)


def session_cases(module: str) -> dict[str, type]:
    """Classes for a module of that name: sessions."""
    tests = import_module("sessions_tests.tests")
    return _named([_page_case(getattr(tests, name), *how) for name in SESSIONS for how in _hows()], module)


def _api_case(one: Configuration, tests: type, module: Any) -> type:
    base = {"BACKEND": _BACKEND, "LOCATION": _url(one.database), "OPTIONS": _options(one.serializer, one.near)}
    settings = module.caches_setting_for_tests(base=base, exclude=module.redis_excluded_caches)
    body: dict[str, Any] = {name: _skip(tests, name, reason) for name, reason in one.ours.items()}
    if one.serializer != "pickle":
        body["subTest"] = _sub_test
    return _case(f"{one.name}Tests", (_Opened, tests, TestCase), body, settings)


def _page_case(tests: type, serializer: str, near: bool) -> type:
    name = f"{serializer.capitalize()}{'Near' if near else ''}{tests.__name__}"
    base = {"BACKEND": _BACKEND, "LOCATION": _url(_LAST_DATABASE), "OPTIONS": _options(serializer, near)}
    of_others = getattr(tests, "_overridden_settings", None) or {}
    settings = {
        alias: {**base, "KEY_PREFIX": f"{name}-{alias}", "TIMEOUT": cache.get("TIMEOUT", 300)}
        for alias, cache in of_others.get("CACHES", {"default": {}}).items()
    }
    return _case(name, (_Opened, tests), {}, settings)


def _case(name: str, bases: tuple[type, ...], body: dict[str, Any], settings: dict[str, Any]) -> type:
    made: type = override_settings(CACHES=settings)(type(name, bases, body))
    return made


class _Opened:
    """With copies in the process, tests begin when they are in use: else they would show nothing about them."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()  # type: ignore[misc]
        cache: Any = caches["default"]
        near = cache._near()
        patience = time.monotonic() + 20
        while near is not None and not near.open:
            assert time.monotonic() < patience, f"no copies are kept: {near.mode}"
            time.sleep(0.01)


def _sub_test(self: Any, *args: Any, **params: Any) -> AbstractContextManager[Any]:
    if params.get("key") in REFUSED:
        refused: AbstractContextManager[Any] = self.assertRaises(TypeError)  # noqa: PT027  (it is unittest that runs this)
        return refused
    found: AbstractContextManager[Any] = unittest.TestCase.subTest(self, *args, **params)
    return found


def _longer(seconds: Any, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """A test sleeps exactly as long as its page lives; the store ends a life in the millisecond after."""
    sleep(seconds + 0.01)


def _skip(tests: type, name: str, reason: str) -> Any:
    return unittest.skip(reason)(getattr(tests, name))


def _hows() -> Iterator[tuple[str, bool]]:
    return ((serializer, near) for serializer in ("json", "msgpack", "pickle") for near in (False, True))


def _options(serializer: str, near: bool) -> dict[str, Any]:
    allowed = {"allow_pickle": True} if serializer == "pickle" else {}
    return {"serializer": serializer, "near": _NEAR if near else 0, "deadline": 10, **allowed}


def _url(database: int) -> str:
    return f"{os.environ[URL]}?db={database}"


def _named(cases: list[type], module: str) -> dict[str, type]:
    """Findable by name, for the runner's other processes."""
    for case in cases:
        case.__module__ = module
        case.__qualname__ = case.__name__
    return {case.__name__: case for case in cases}
