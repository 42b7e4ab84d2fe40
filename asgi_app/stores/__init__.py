"""Where values are kept that are not kept in the data store: any of Django's caches, named by MILLPOND_CACHE_STORE.

What each of them promises stands in STORES.md.  Invariant: which cache it is, nobody has to know who reads or computes.
"""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheBackendError
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.management import call_command
from django.db import close_old_connections, router

from asgi_app.env import Env, SettingsError
from asgi_app.stores.django_cache import DjangoCache
from asgi_app.stores.own import OwnCache
from asgi_app.stores.shared import SharedCache
from cache_layer.feed import Feed
from cache_layer.redis import Store

__all__ = ["REDIS", "OtherCache", "OwnCache", "SharedCache", "check", "make_table", "open_cache", "probe"]

#: The data store itself.
REDIS = "redis"

OtherCache = SharedCache | OwnCache


def check(alias: str) -> None:
    """Raises SettingsError when no values can be kept in the cache of this name."""
    known = [name for name, cache in settings.CACHES.items() if not cache["BACKEND"].startswith("asgi_app.")]
    if alias in (REDIS, *known):
        return
    if alias in settings.CACHES:
        reason = "is itself kept by Millpond; write redis"
    elif alias == "memcached":
        reason = "needs pymemcache, install it with: pip install 'millpond[memcached]'"
    else:
        reason = f"must be {REDIS} or one of the CACHES of Django's settings: {', '.join(sorted(known))}"
    raise SettingsError([f"MILLPOND_CACHE_STORE={alias!r}: {reason}"])


def open_cache(env: Env, store: Store, feed: Feed) -> OtherCache:
    """The cache that keeps the values of this deployment; on the loop that works with it.

    Raises SettingsError for a cache that is none, and one that cannot be made.
    """
    check(env.cache_store)
    try:
        kept = DjangoCache(env.cache_store)
    except (ImportError, InvalidCacheBackendError) as error:
        raise SettingsError([f"MILLPOND_CACHE_STORE={env.cache_store!r}: {error}"]) from error
    if kept.private:
        return OwnCache(store, feed, kept, env.value_secret)
    return SharedCache(store, feed, kept, env.value_secret)


def make_table(env: Env, using: str) -> None:
    """Make the table of the cache in use in the database `using`, where it is of a kind that needs one."""
    if env.cache_store == REDIS:
        return
    cache: Any = caches[env.cache_store]
    table: Any = getattr(cache, "_table", None)
    model: Any = getattr(cache, "cache_model_class", None)
    if isinstance(cache, BaseDatabaseCache) and router.db_for_write(model) == using:
        call_command("createcachetable", table, database=using, verbosity=0)


def probe(alias: str) -> str:
    """What kind of cache it is that keeps the values.  Raises whatever it raises when it does not answer."""
    cache: Any = caches[alias]
    kind = type(cache).__name__
    if kind == "DummyCache":
        return f"{alias} ({kind}), which keeps nothing"
    name, value = f"millpond:probe:{secrets.token_hex(8)}", secrets.token_bytes(8)
    try:
        cache.set(name, value, 10)
        if cache.get(name) != value:
            raise OSError("it forgot at once what it was given")
        cache.delete(name)
    finally:
        close_old_connections()
    return f"{alias} ({kind}), which answers"
