"""Django's cache API on Redis or Valkey, for Millpond and for any other Django project.

    CACHES = {"default": {"BACKEND": "asgi_app.cache_backend.MillpondCache", "LOCATION": "redis://127.0.0.1:6379/0"}}

Without LOCATION it is Millpond's own store.  OPTIONS: `serializer` ("json", "msgpack"; "pickle" only with
`allow_pickle`: True, and then signed with SECRET_KEY), `near` (bytes of copies in this process, 0 for none; a write of
another process may be seen some milliseconds late), `deadline` (seconds one operation may take, 0.8).

Invariant: the semantics are Django's, and where more is promised it holds for both faces of a method:

- the asynchronous methods are native: no threads, one set of connections per event loop, closed with it;
- `get_or_set` computes once for all callers, in the cluster, and `aget_or_set` awaits coroutines;
- `clear` takes one command, whatever the number of values, and touches this LOCATION and KEY_PREFIX only;
- `timeout` has milliseconds, `incr` is exact to 64 bits and keeps the timeout;
- foreign, damaged, unsigned bytes under a key are a miss, counted in `stats`, and replaced by the next write;
- a store that does not answer in time is `cache_layer.errors.StoreUnavailable`, as Django's own back ends let their
  client's error through; after three in a row further calls fail at once, and every half second one tries again.
"""

from __future__ import annotations

from asgi_app.cache_backend.backend import MillpondCache, stats

__all__ = ["MillpondCache", "stats"]
