"""What is run how, and every test that is skipped, with its reason.

Invariant: nothing else is skipped; the test that runs the suite compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

#: Names of values in Django's `test_data_types` that only pickle can hold; the others must refuse them.
REFUSED = ("function", "class")

#: Skipped by Django's tests themselves, as for its own Redis back end: caches that count their entries.
NO_CULLING = "Culling isn't implemented."
_CULLING = ("test_cull", "test_zero_cull", "test_cull_delete_when_store_empty")

_MODELS = "model instances and querysets are no data: the serializer refuses them"
_PICKLING = "is about pickle's own errors; what cannot be kept is a TypeError here"
_ON_A_LOOP = "to pickle a queryset is to query, which Django forbids on an event loop"

_DEFERRED = (
    "test_cache_write_for_model_instance_with_deferred",
    "test_cache_read_for_model_instance_with_deferred",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One way to use the back end."""

    serializer: str
    near: bool
    #: Through the asynchronous methods.
    twin: bool
    #: Number of the database; the keys of Django's tests are always the same.
    database: int

    @property
    def name(self) -> str:
        near = "Near" if self.near else ""
        return f"{self.serializer.capitalize()}{near}{'Async' if self.twin else ''}"

    @property
    def ours(self) -> dict[str, str]:
        """Tests we skip, with the reason."""
        if self.serializer == "pickle":
            return dict.fromkeys(_DEFERRED, _ON_A_LOOP) if self.twin else {}
        models = dict.fromkeys(("test_cache_read_for_model_instance", *_DEFERRED), _MODELS)
        pickling = dict.fromkeys(("test_add_fail_on_pickleerror", "test_set_fail_on_pickleerror"), _PICKLING)
        return models | pickling

    @property
    def skipped(self) -> dict[str, str]:
        """All tests that are skipped, with the reason."""
        return self.ours | dict.fromkeys(_CULLING, NO_CULLING)


CONFIGURATIONS = tuple(
    Configuration(serializer=serializer, near=near, twin=twin, database=number)
    for number, (serializer, near, twin) in enumerate(
        product(("json", "msgpack", "pickle"), (False, True), (False, True))
    )
)

#: Classes of Django's tests about pages, run with each serializer, with and without copies in the process.
PAGES = (
    "CacheUtils",
    "PrefixedCacheUtils",
    "CacheHEADTest",
    "CacheI18nTest",
    "PrefixedCacheI18nTest",
    "CacheMiddlewareTest",
    "TestWithTemplateResponse",
)

#: Classes of Django's tests about sessions, likewise; their asynchronous methods are Django's own.
SESSIONS = ("CacheSessionTests", "CacheDBSessionTests", "CacheDBSessionWithTimeZoneTests")
