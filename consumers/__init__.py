"""The live doors: the websocket protocol and event streams, over one fan-out per process.

`routing.application` and `sse.application` are ASGI applications; the composition root gives them their connections.
"""

from __future__ import annotations


async def drain() -> None:
    """End all live connections of this process in batches, telling clients to come back, and stop its hub.

    To be awaited before the server closes its sockets; returns after 5 seconds at most.  May be called twice.
    """
    from consumers.hub import hub

    here = hub()
    await here.connections.drain()
    await here.stop()
