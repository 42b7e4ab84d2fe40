"""The topics that the tests of the stock clients expect of their server: any, with everything switched on."""

from __future__ import annotations

from asgi_app import log

log("smallhistory:*", access="public", publish=True, history=2, ttl=300)
log("*", access="public", publish=True, history=100, ttl=300, presence=True, join_leave=True)
